/*
 * The publisher of the benchmark: publishes events to Redis's pub/sub, or POSTs them over HTTP, at full speed or at a
 * rate.
 *
 *     cc -O2 -o publish publish.c
 *     publish --redis /run/redis.sock --channel 'news' --message '{m}' --events 10000 --rate 500
 *
 * Templates of channel, path and message contain:
 *     {g}  the group
 *     {s}  the stream
 *     {q}  the seq
 *     {t}  the time (CLOCK_MONOTONIC, nanoseconds)
 *     {b}  the tag of the bucket
 *     {d}  an id like that of an entry of a Redis stream (wall clock)
 *     {m}  the mark that load.c checks ("~stream.seq.time~"), padded with dots to --size bytes
 *
 * Events cycle through the streams. Each group receives --per-group of them.
 *
 * Without --rate the publisher keeps --window events in flight. The reader writes the number of deliveries to standard
 * input (64-bit integers in native byte order, as load.c --credit-fd writes them). Each event has --fanout deliveries.
 *
 * At the end it prints one line of JSON.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#define BATCH 64
#define MAX_MESSAGE 16384

static struct {
    const char *redis, *http, *channel, *path, *message, *tags;
    uint64_t streams, per_group, from, events, window, fanout, size, slice, steady;
    double rate, seconds;
} options = {.channel = "news", .path = "/", .message = "{m}", .streams = 1, .per_group = 1, .from = 1, .window = 1, .fanout = 1,
             .size = 200, .slice = 100000};

static int server;
static uint64_t sent, delivered, started_ns, latest_ns;
static char output[BATCH * (MAX_MESSAGE + 512)];
static size_t output_size;

static void die(const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    fputs("publish: ", stderr);
    vfprintf(stderr, format, arguments);
    fputc('\n', stderr);
    exit(1);
}

static uint64_t read_clock_of(clockid_t clock) {
    struct timespec time;
    clock_gettime(clock, &time);
    return (uint64_t)time.tv_sec * 1000000000u + (uint64_t)time.tv_nsec;
}

static uint64_t read_clock(void) {
    return read_clock_of(CLOCK_MONOTONIC);
}

/* -- messages -------------------------------------------------------------------------------------- */

typedef struct {
    uint64_t stream, seq, at;
} Event;

static size_t put_mark(char *out, const Event *event) {
    int size = sprintf(out, "~%lu.%lu.%lu~", event->stream, event->seq, event->at);
    if ((uint64_t)size < options.size) memset(out + size, '.', options.size - (uint64_t)size);
    return (uint64_t)size < options.size ? options.size : (size_t)size;
}

/* Put an id that is larger than the previous one, as in Redis. */
static int put_id(char *out) {
    static uint64_t last;
    uint64_t now = read_clock_of(CLOCK_REALTIME);
    last = now > last ? now : last + 1;
    return sprintf(out, "%lu-%lu", last / 1000000, last % 1000000);
}

static size_t fill(char *out, const char *template, const Event *event);

/* Put the tag of a channel's bucket, as in jobpush/store/keys.py: from the CRC16 of the name after the last colon. */
static int put_tag(char *out, const Event *event) {
    char name[512];
    size_t size = fill(name, strrchr(options.channel, ':') + 1, event);
    uint16_t crc = 0;
    for (size_t i = 0; i < size; i++) {
        crc ^= (uint16_t)((unsigned char)name[i] << 8);
        for (int bit = 0; bit < 8; bit++) crc = (uint16_t)(crc & 0x8000 ? (crc << 1) ^ 0x1021 : crc << 1);
    }
    const char *tag = options.tags;
    for (unsigned bucket = crc % 256; bucket; bucket--) tag = strchr(tag, ',') + 1;
    return sprintf(out, "%.*s", (int)strcspn(tag, ","), tag);
}

static size_t fill(char *out, const char *template, const Event *event) {
    char *begin = out;
    while (*template) {
        bool is_name = template[0] == '{' && template[1] && template[2] == '}';
        switch (is_name ? template[1] : 0) {
        case 'g': out += sprintf(out, "%lu", event->stream / options.per_group); break;
        case 's': out += sprintf(out, "%lu", event->stream); break;
        case 'q': out += sprintf(out, "%lu", event->seq); break;
        case 't': out += sprintf(out, "%lu", event->at); break;
        case 'd': out += put_id(out); break;
        case 'b': out += put_tag(out, event); break;
        case 'm': out += put_mark(out, event); break;
        default: *out++ = *template++; continue;
        }
        template += 3;
        if (out - begin > MAX_MESSAGE - 256) die("a message is too long");
    }
    *out = 0;
    return (size_t)(out - begin);
}

static void add_event(void) {
    char target[512], message[MAX_MESSAGE];
    Event event = {sent % options.streams, options.from + sent / options.streams, read_clock()};
    size_t target_size = fill(target, options.http ? options.path : options.channel, &event);
    size_t message_size = fill(message, options.message, &event);
    char *out = output + output_size;
    if (options.http)
        out += sprintf(out, "POST %s HTTP/1.1\r\nHost: %s\r\nContent-Type: text/plain\r\nContent-Length: %zu\r\n\r\n",
                       target, options.http, message_size);
    else
        out += sprintf(out, "*3\r\n$7\r\nPUBLISH\r\n$%zu\r\n%s\r\n$%zu\r\n", target_size, target, message_size);
    memcpy(out, message, message_size);
    out += message_size;
    if (!options.http) {
        memcpy(out, "\r\n", 2);
        out += 2;
    }
    output_size = (size_t)(out - output);
    sent++;
    latest_ns = event.at;
}

/* -- the server ------------------------------------------------------------------------------------ */

static void connect_to_port(const char *address) {
    char host[64];
    int port, one = 1;
    struct sockaddr_in name = {.sin_family = AF_INET};
    if (sscanf(address, "%63[^:]:%d", host, &port) != 2 || !inet_aton(host, &name.sin_addr))
        die("invalid address %s", address);
    name.sin_port = htons((uint16_t)port);
    server = socket(AF_INET, SOCK_STREAM, 0);
    setsockopt(server, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    if (connect(server, (struct sockaddr *)&name, sizeof name)) die("%s: %s", address, strerror(errno));
}

static void connect_to_path(const char *path) {
    struct sockaddr_un name = {.sun_family = AF_UNIX};
    if (strlen(path) >= sizeof name.sun_path) die("%s is too long", path);
    strcpy(name.sun_path, path);
    server = socket(AF_UNIX, SOCK_STREAM, 0);
    if (connect(server, (struct sockaddr *)&name, sizeof name)) die("%s: %s", path, strerror(errno));
}

static void write_all(const char *data, size_t size) {
    while (size) {
        ssize_t written = write(server, data, size);
        if (written < 0) die("write: %s", strerror(errno));
        data += written;
        size -= (size_t)written;
    }
}

/* Read the responses to the POSTs of one batch. Each begins with "HTTP/1.1 2", and no body contains "HTTP/1.1 ". */
static void read_responses(uint64_t count) {
    static char responses[65536];
    static size_t partial_size;
    static const char begin[] = "HTTP/1.1 ";
    while (count) {
        ssize_t received = read(server, responses + partial_size, sizeof responses - partial_size);
        if (received <= 0) die("the server has closed the connection");
        size_t size = partial_size + (size_t)received, at = 0;
        for (char *found; (found = memmem(responses + at, size - at, begin, sizeof begin - 1));
             at = (size_t)(found - responses) + 10) {
            if (found + 10 > responses + size) break;
            if (found[9] != '2') die("refused: %.40s", found);
            count--;
        }
        size_t tail = size - at < 16 ? size - at : 16; /* a status line may be incomplete */
        memmove(responses, responses + size - tail, tail);
        partial_size = tail;
    }
    partial_size = 0;
}

static void flush_events(uint64_t count) {
    if (!count) return;
    write_all(output, output_size);
    output_size = 0;
    if (options.http) read_responses(count);
}

static void publish(uint64_t count) {
    while (count) {
        uint64_t now = count < BATCH ? count : BATCH;
        for (uint64_t index = 0; index < now; index++) add_event();
        flush_events(now);
        count -= now;
    }
}

/* -- pace ------------------------------------------------------------------------------------------ */

static bool is_over(void) {
    if (options.events && sent >= options.events) return true;
    return options.seconds > 0 && (double)(read_clock() - started_ns) / 1e9 >= options.seconds;
}

static uint64_t at_most(uint64_t count) {
    uint64_t left = options.events ? options.events - sent : UINT64_MAX;
    return count < left ? count : left;
}

static void sleep_until(uint64_t at) {
    struct timespec time = {(time_t)(at / 1000000000u), (long)(at % 1000000000u)};
    while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &time, NULL) == EINTR) continue;
}

/*
 * Publish the events that are due, then sleep until the next one is due, but at least for a slice. With --steady, the
 * publisher makes up for at most three slices: otherwise a pause of the machine, or of a server that the publisher waits
 * for, would be followed by a burst above the rate.
 */
static void publish_at_rate(void) {
    uint64_t origin = started_ns, due_before = 0;
    while (!is_over()) {
        uint64_t now = read_clock();
        uint64_t due = (uint64_t)((double)(now - origin) / 1e9 * options.rate) + 1;
        uint64_t most = due_before + 2 + (uint64_t)(options.rate * 3 * (double)options.slice / 1e9);
        if (options.steady && due > most) {
            origin += (uint64_t)((double)(due - most) / options.rate * 1e9);
            due = most;
        }
        if (due > due_before) publish(at_most(due - due_before));
        due_before = due;
        uint64_t next = origin + (uint64_t)((double)due / options.rate * 1e9);
        sleep_until(next > now + options.slice || options.rate < 1e9 / (double)options.slice ? next : now + options.slice);
    }
}

/* Read the number of deliveries, waiting 0.1 s at most; return false if the reader has ended. */
static bool read_credit(void) {
    uint64_t credits[512];
    struct pollfd reader = {.fd = 0, .events = POLLIN};
    if (poll(&reader, 1, 100) == 0) return true;
    ssize_t received = read(0, credits, sizeof credits);
    if (received <= 0) return false;
    for (size_t index = 0; index < (size_t)received / sizeof *credits; index++) delivered += credits[index];
    if (delivered > sent * options.fanout) delivered = sent * options.fanout; /* some belongs to an earlier publisher */
    return true;
}

static void publish_in_window(void) {
    while (!is_over()) {
        uint64_t in_flight = sent - delivered / options.fanout;
        if (in_flight < options.window) publish(at_most(options.window - in_flight));
        else if (!read_credit()) return;
    }
}

/* Publish until all streams end at the same seq, so that the reader can wait for it. */
static void complete_streams(void) {
    if (sent % options.streams) publish(options.streams - sent % options.streams);
}

static void parse(int count, char **arguments) {
    for (int index = 1; index + 1 < count; index += 2) {
        const char *name = arguments[index], *value = arguments[index + 1];
        uint64_t number = strtoull(value, NULL, 10);
        if (!strcmp(name, "--redis")) options.redis = value; /* a path, or HOST:PORT */
        else if (!strcmp(name, "--http")) options.http = value; /* HOST:PORT */
        else if (!strcmp(name, "--channel")) options.channel = value;
        else if (!strcmp(name, "--tags")) options.tags = value; /* tags of the 256 buckets, for {b} in --channel */
        else if (!strcmp(name, "--path")) options.path = value;
        else if (!strcmp(name, "--message")) options.message = value;
        else if (!strcmp(name, "--streams")) options.streams = number;
        else if (!strcmp(name, "--per-group")) options.per_group = number;
        else if (!strcmp(name, "--from")) options.from = number; /* the first seq of every stream */
        else if (!strcmp(name, "--events")) options.events = number;
        else if (!strcmp(name, "--seconds")) options.seconds = strtod(value, NULL);
        else if (!strcmp(name, "--rate")) options.rate = strtod(value, NULL); /* events per second over all streams */
        else if (!strcmp(name, "--steady")) options.steady = number; /* 1: do not make up for late events */
        else if (!strcmp(name, "--window")) options.window = number;
        else if (!strcmp(name, "--fanout")) options.fanout = number;
        else if (!strcmp(name, "--size")) options.size = number; /* bytes of {m} */
        else die("unknown option %s", name);
    }
    if (count % 2 == 0 || !options.redis == !options.http) die("usage: publish --redis|--http ADDRESS [--option value ...]");
    if (options.size > MAX_MESSAGE / 2) die("--size is too large");
}

/* Report the requested events. Those that complete the streams are not counted, because they are sent in one burst. */
static void report(uint64_t requested, uint64_t requested_until) {
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    printf("{\"events\": %lu, \"seconds\": %.6f, \"last\": %lu, \"cpu\": %.6f}\n", requested,
           (double)(requested_until - started_ns) / 1e9, options.from + sent / options.streams - 1,
           (double)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) +
               (double)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1e6);
}

int main(int count, char **arguments) {
    parse(count, arguments);
    prctl(PR_SET_TIMERSLACK, 1);
    if (options.http) connect_to_port(options.http);
    else if (options.redis[0] == '/') connect_to_path(options.redis);
    else connect_to_port(options.redis);
    if (!options.http) {
        static const char quiet[] = "*3\r\n$6\r\nCLIENT\r\n$5\r\nREPLY\r\n$3\r\nOFF\r\n";
        write_all(quiet, sizeof quiet - 1);
    }
    started_ns = latest_ns = read_clock();
    if (options.rate > 0) publish_at_rate();
    else publish_in_window();
    uint64_t requested = sent, requested_until = latest_ns;
    complete_streams();
    report(requested, requested_until);
}
