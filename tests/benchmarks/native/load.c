/*
 * The load of the benchmark: many WebSocket connections in one thread. Every frame is checked.
 *
 *     cc -O2 -o load load.c
 *     load 127.0.0.1 8001 --connections 1000 --path '/app/key?protocol=7' \
 *          --step '"pusher:connection_established"' '{"event":"pusher:subscribe","data":{"channel":"news"}}' \
 *          --step '"pusher_internal:subscription_succeeded"' ''
 *
 * The text of each event contains a mark, "~<stream>.<seq>.<time>~": time is CLOCK_MONOTONIC in nanoseconds, seq counts
 * from 1 in each stream. Every connection receives its own streams and checks every seq. An event that is lost,
 * duplicated or of another stream ends the program with status 1 and a message on standard error.
 *
 * The parser is hand-written and allocates nothing for complete frames, so that the load costs little: some 50 ns per
 * frame beside the system call.
 *
 * When all connections are ready, the program prints one line of JSON. It reads these commands from standard input, one
 * per line:
 *     reset          reset the counts and latencies, but not the positions in the streams
 *     expect SEQ     the next seq of every stream is SEQ
 *     until SEQ      print {"reached": SEQ, ...} when every stream of every connection has reached SEQ
 *     stall N        stop reading from the first N connections (0: read from all again)
 *     ages 1         every 10 ms, record the age of the data that each connection shows (0: stop)
 *     report         print the counts and latencies as one line of JSON
 *     quit           exit; the end of the input does the same
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

#define MAX_STEPS 8
#define MAX_HEADERS 8
#define MAX_EVENTS 512
#define BUFFER (1 << 20)
/* A histogram has 32 buckets for each power of two, so its values are accurate within 3 %. */
#define SUB_BITS 5
#define BUCKETS (64 << SUB_BITS)
#define AGE_INTERVAL_NS 10000000L
#define MAX_SECONDS 600

#ifndef IP_BIND_ADDRESS_NO_PORT
#define IP_BIND_ADDRESS_NO_PORT 24
#endif

typedef struct {
    uint64_t counts[BUCKETS], total, max;
} Histogram;

enum { CONNECTING, HANDSHAKING, STEPPING, READY, CLOSED };

typedef struct {
    int fd;
    uint32_t number;     /* unique over all processes of the load */
    uint8_t state, step; /* step: number of completed steps */
    bool is_stalled;
    uint32_t partial_size; /* bytes of an incomplete frame */
    char *partial;
    uint64_t started_at;
} Connection;

/* Position of a connection in one stream: its latest event. */
typedef struct {
    uint64_t seq, at;
} Position;

static struct {
    struct sockaddr_in address;
    uint32_t connections, first, sources, inflight, groups, per_connection, receive_buffer;
    bool may_skip, may_be_late;
    const char *path, *headers[MAX_HEADERS], *expected[MAX_STEPS], *replies[MAX_STEPS], *trigger, *trigger_reply;
    int header_count, step_count, credit_fd;
    uint64_t credit_every;
    char **values;
    size_t value_count;
} options = {.connections = 1, .sources = 1, .inflight = 64, .per_connection = 1, .path = "/", .credit_fd = -1,
             .credit_every = 1};

static Connection *connections;
static Position *positions;
static int epoll_fd, age_timer = -1;
static uint32_t opened, ready, stalled, closed_while_stalled, ready_in_second[MAX_SECONDS];
static uint64_t now_ns, started_ns, reset_ns;
static uint64_t deliveries, bytes, receives, others, skipped, uncredited;
static uint64_t wanted_seq, reached;
static Histogram latencies, ages, openings;
static char buffer[BUFFER];

static void die(const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    fputs("load: ", stderr);
    vfprintf(stderr, format, arguments);
    fputc('\n', stderr);
    exit(1);
}

static uint64_t read_clock(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (uint64_t)time.tv_sec * 1000000000u + (uint64_t)time.tv_nsec;
}

/* -- histograms ------------------------------------------------------------------------------------ */

static void record(Histogram *histogram, uint64_t value) {
    int shift = value >> SUB_BITS ? 63 - __builtin_clzll(value) - SUB_BITS : 0;
    histogram->counts[((uint64_t)shift << SUB_BITS) + (value >> shift)]++;
    histogram->total++;
    if (value > histogram->max) histogram->max = value;
}

static double percentile(const Histogram *histogram, double share) {
    uint64_t rank = (uint64_t)(share * (double)histogram->total), seen = 0;
    for (uint64_t index = 0; index < BUCKETS; index++) {
        seen += histogram->counts[index];
        if (seen <= rank) continue;
        uint64_t shift = index >> SUB_BITS;
        if (shift) shift--; /* the bucket of value v with shift s is (s << SUB_BITS) + (v >> s), and v >> s >= 32 */
        uint64_t low = (index - (shift << SUB_BITS)) << shift;
        uint64_t middle = low + (shift ? (1ull << shift) / 2 : 0);
        return (double)(middle < histogram->max ? middle : histogram->max);
    }
    return (double)histogram->max;
}

static void print_histogram(const char *name, const Histogram *histogram) {
    printf(", \"%s\": {\"count\": %lu, \"p50\": %.1f, \"p90\": %.1f, \"p99\": %.1f, \"p999\": %.1f, \"max\": %.1f}", name,
           histogram->total, percentile(histogram, 0.5) / 1e3, percentile(histogram, 0.9) / 1e3,
           percentile(histogram, 0.99) / 1e3, percentile(histogram, 0.999) / 1e3, (double)histogram->max / 1e3);
}

/* -- sending --------------------------------------------------------------------------------------- */

/* Fill in {i} (connection), {g} (group) and {v} (line of the file of values) in a template. */
static size_t fill(char *out, size_t size, const char *template, const Connection *connection) {
    size_t length = 0;
    uint32_t group = connection->number % options.groups;
    for (const char *from = template; *from && length + 1 < size;) {
        if (from[0] == '{' && from[1] && from[2] == '}' && strchr("igv", from[1])) {
            if (from[1] == 'v' && !options.value_count) die("{v} needs --values FILE");
            int added = from[1] == 'v' ? snprintf(out + length, size - length, "%s",
                                                  options.values[connection->number % options.value_count])
                                       : snprintf(out + length, size - length, "%u",
                                                  from[1] == 'i' ? connection->number : group);
            length += (size_t)added;
            from += 3;
        } else {
            out[length++] = *from++;
        }
    }
    if (length >= size) die("a request or message is too long");
    return length;
}

static void send_all(Connection *connection, const char *data, size_t size) {
    while (size) {
        ssize_t sent = send(connection->fd, data, size, MSG_NOSIGNAL);
        if (sent < 0 && errno == EAGAIN) continue; /* messages are short and rare, so spinning is cheap */
        if (sent < 0) die("connection %u: %s", connection->number, strerror(errno));
        data += sent;
        size -= (size_t)sent;
    }
}

/* Send a masked frame. The mask is zero, so the payload stays unchanged. */
static void send_frame(Connection *connection, uint8_t opcode, const char *payload, size_t size) {
    char frame[8192];
    size_t header = 6;
    if (size + 8 > sizeof frame) die("a message is too long");
    frame[0] = (char)(0x80 | opcode);
    if (size < 126) {
        frame[1] = (char)(0x80 | size);
    } else {
        frame[1] = (char)(0x80 | 126);
        frame[2] = (char)(size >> 8);
        frame[3] = (char)size;
        header = 8;
    }
    memset(frame + header - 4, 0, 4);
    memcpy(frame + header, payload, size);
    send_all(connection, frame, header + size);
}

static void send_request(Connection *connection) {
    char request[8192], path[4096];
    path[fill(path, sizeof path, options.path, connection)] = 0;
    size_t size = (size_t)snprintf(request, sizeof request,
                                   "GET %s HTTP/1.1\r\nHost: %s:%d\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                                   "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n",
                                   path, inet_ntoa(options.address.sin_addr), ntohs(options.address.sin_port));
    for (int index = 0; index < options.header_count; index++) {
        size += fill(request + size, sizeof request - size - 4, options.headers[index], connection);
        memcpy(request + size, "\r\n", 2);
        size += 2;
    }
    memcpy(request + size, "\r\n", 2);
    send_all(connection, request, size + 2);
}

/* -- opening --------------------------------------------------------------------------------------- */

static void watch(Connection *connection, int operation, uint32_t events) {
    struct epoll_event event = {.events = events, .data.ptr = connection};
    if (epoll_ctl(epoll_fd, operation, connection->fd, &event)) die("epoll_ctl: %s", strerror(errno));
}

static void open_next(void) {
    Connection *connection = &connections[opened++];
    int one = 1;
    connection->number = options.first + (uint32_t)(connection - connections);
    connection->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (connection->fd < 0) die("connection %u: %s (see ulimit -n)", connection->number, strerror(errno));
    if (options.receive_buffer)
        setsockopt(connection->fd, SOL_SOCKET, SO_RCVBUF, &options.receive_buffer, sizeof options.receive_buffer);
    setsockopt(connection->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    if (options.sources > 1) { /* a source address has some 28,000 ports */
        struct sockaddr_in source = {.sin_family = AF_INET};
        source.sin_addr.s_addr = htonl(INADDR_LOOPBACK + connection->number % options.sources);
        setsockopt(connection->fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &one, sizeof one);
        if (bind(connection->fd, (struct sockaddr *)&source, sizeof source)) die("bind: %s", strerror(errno));
    }
    connection->started_at = read_clock();
    if (connect(connection->fd, (struct sockaddr *)&options.address, sizeof options.address) && errno != EINPROGRESS)
        die("connection %u: %s", connection->number, strerror(errno));
    watch(connection, EPOLL_CTL_ADD, EPOLLOUT);
}

static void open_more(void) {
    while (opened < options.connections && opened - ready < options.inflight) open_next();
}

static void print_ready(void) {
    double seconds = (double)(now_ns - started_ns) / 1e9;
    printf("{\"ready\": %u, \"seconds\": %.4f, \"per_second\": %.1f", ready, seconds, ready / seconds);
    print_histogram("opening_us", &openings);
    printf(", \"by_second\": [");
    for (int second = 0; second <= (int)seconds && second < MAX_SECONDS; second++)
        printf("%s%u", second ? ", " : "", ready_in_second[second]);
    puts("]}");
    fflush(stdout);
}

static void mark_ready(Connection *connection) {
    connection->state = READY;
    record(&openings, now_ns - connection->started_at);
    ready++;
    uint64_t second = (now_ns - started_ns) / 1000000000u;
    ready_in_second[second < MAX_SECONDS ? second : MAX_SECONDS - 1]++;
    open_more();
    if (ready == options.connections) print_ready();
}

/* Complete the current step if the text is the expected one. */
static void advance(Connection *connection, const char *text, size_t size) {
    char reply[4096];
    const char *expected = options.expected[connection->step];
    if (!memmem(text, size, expected, strlen(expected))) return;
    size_t length = fill(reply, sizeof reply, options.replies[connection->step], connection);
    if (length) send_frame(connection, 1, reply, length);
    if (++connection->step == options.step_count) mark_ready(connection);
}

/* -- receiving ------------------------------------------------------------------------------------- */

static uint64_t read_number(const char **text, const char *end, char terminator, const Connection *connection) {
    uint64_t number = 0;
    for (; *text < end && **text >= '0' && **text <= '9'; (*text)++) number = number * 10 + (uint64_t)(**text - '0');
    if (*text >= end || **text != terminator) die("connection %u: malformed mark", connection->number);
    (*text)++;
    return number;
}

static void check_mark(Connection *connection, const char *text, const char *end) {
    uint64_t stream = read_number(&text, end, '.', connection), seq = read_number(&text, end, '.', connection);
    uint64_t at = read_number(&text, end, '~', connection);
    uint64_t first = (uint64_t)(connection->number % options.groups) * options.per_connection;
    if (stream < first || stream >= first + options.per_connection)
        die("connection %u: got an event of stream %lu, which is not its own", connection->number, stream);
    Position *position = &positions[(size_t)(connection - connections) * options.per_connection + (stream - first)];
    if (seq != position->seq + 1 && (position->seq || !options.may_be_late)) {
        if (seq <= position->seq)
            die("connection %u: got seq %lu after %lu: doubled or out of order", connection->number, seq, position->seq);
        if (!options.may_skip)
            die("connection %u: got seq %lu after %lu: %lu lost", connection->number, seq, position->seq,
                seq - position->seq - 1);
        skipped += seq - position->seq - 1;
    }
    if (wanted_seq && position->seq < wanted_seq && seq >= wanted_seq) reached++;
    uncredited += seq - position->seq; /* skipped events count as delivered */
    position->seq = seq;
    position->at = at;
    deliveries++;
    record(&latencies, now_ns > at ? now_ns - at : 0);
}

static void handle_text(Connection *connection, const char *text, size_t size) {
    const char *mark = memchr(text, '~', size);
    if (mark) {
        check_mark(connection, mark + 1, text + size);
        return;
    }
    others++;
    if (options.trigger && size == strlen(options.trigger) && !memcmp(text, options.trigger, size))
        send_frame(connection, 1, options.trigger_reply, strlen(options.trigger_reply));
    else if (connection->state == STEPPING)
        advance(connection, text, size);
}

static void handle_disconnect(Connection *connection) {
    if (!connection->is_stalled) die("connection %u was closed by the server", connection->number);
    close(connection->fd);
    connection->state = CLOSED;
    closed_while_stalled++;
}

static void handle_close(Connection *connection, const uint8_t *payload, size_t size) {
    if (!connection->is_stalled)
        die("connection %u was closed by the server with code %d %.*s", connection->number,
            size >= 2 ? payload[0] << 8 | payload[1] : 1005, size > 2 ? (int)size - 2 : 0, payload + 2);
    handle_disconnect(connection);
}

static void handle_frame(Connection *connection, uint8_t first, const uint8_t *payload, size_t size) {
    switch (first) {
    case 0x81:
    case 0x82: handle_text(connection, (const char *)payload, size); return;
    case 0x88: handle_close(connection, payload, size); return;
    case 0x89: send_frame(connection, 10, (const char *)payload, size); return;
    case 0x8a: return;
    default: die("connection %u: a frame that begins with 0x%02x", connection->number, first);
    }
}

/* Handle all complete frames; return the number of bytes used. */
static size_t handle_frames(Connection *connection, const uint8_t *data, size_t size) {
    size_t used = 0;
    while (size - used >= 2 && connection->state != CLOSED) {
        const uint8_t *frame = data + used;
        size_t header = 2, length = frame[1];
        if (length == 126) {
            if (size - used < 4) break;
            length = (size_t)frame[2] << 8 | frame[3];
            header = 4;
        } else if (length == 127) {
            if (size - used < 10) break;
            length = 0;
            for (int index = 2; index < 10; index++) length = length << 8 | frame[index];
            header = 10;
        } else if (length > 127) {
            die("connection %u: a server must not mask its frames", connection->number);
        }
        if (size - used < header + length) break;
        handle_frame(connection, frame[0], frame + header, length);
        used += header + length;
    }
    return used;
}

static size_t read_handshake(Connection *connection, const char *data, size_t size) {
    const char *end = memmem(data, size, "\r\n\r\n", 4);
    if (!end) return 0;
    if (size < 12 || memcmp(data + 9, "101", 3))
        die("connection %u was refused: %.*s", connection->number, (int)(size < 200 ? size : 200), data);
    connection->state = STEPPING;
    if (!options.step_count) mark_ready(connection);
    return (size_t)(end + 4 - data);
}

static void keep_partial(Connection *connection, const char *data, size_t size) {
    if (size != connection->partial_size || data != connection->partial) {
        char *partial = size ? malloc(size) : NULL;
        if (size) memcpy(partial, data, size);
        free(connection->partial);
        connection->partial = partial;
        connection->partial_size = (uint32_t)size;
    }
}

static void receive(Connection *connection) {
    size_t partial_size = connection->partial_size;
    if (partial_size) memcpy(buffer, connection->partial, partial_size);
    ssize_t received = recv(connection->fd, buffer + partial_size, sizeof buffer - partial_size, 0);
    if (received < 0 && (errno == EAGAIN || errno == EINTR)) return;
    if (received <= 0) {
        handle_disconnect(connection);
        return;
    }
    now_ns = read_clock();
    receives++;
    bytes += (uint64_t)received;
    size_t size = partial_size + (size_t)received, used = 0;
    if (connection->state == HANDSHAKING) used = read_handshake(connection, buffer, size);
    if (connection->state >= STEPPING) used += handle_frames(connection, (uint8_t *)buffer + used, size - used);
    if (connection->state == CLOSED) return;
    if (size - used == sizeof buffer) die("connection %u: a frame is too long", connection->number);
    keep_partial(connection, buffer + used, size - used);
}

static void on_ready(Connection *connection) {
    if (connection->state != CONNECTING) {
        receive(connection);
        return;
    }
    int error = 0;
    socklen_t size = sizeof error;
    getsockopt(connection->fd, SOL_SOCKET, SO_ERROR, &error, &size);
    if (error) die("connection %u: %s", connection->number, strerror(error));
    connection->state = HANDSHAKING;
    watch(connection, EPOLL_CTL_MOD, EPOLLIN);
    send_request(connection);
}

/* -- commands -------------------------------------------------------------------------------------- */

static void reset(void) {
    deliveries = bytes = receives = others = skipped = 0;
    memset(&latencies, 0, sizeof latencies);
    memset(&ages, 0, sizeof ages);
    reset_ns = read_clock();
}

static void expect(uint64_t seq) {
    for (size_t index = 0; index < (size_t)options.connections * options.per_connection; index++)
        positions[index].seq = seq - 1;
}

static void wait_until(uint64_t seq) {
    wanted_seq = seq;
    reached = 0;
    for (size_t index = 0; index < (size_t)options.connections * options.per_connection; index++)
        reached += positions[index].seq >= seq || connections[index / options.per_connection].is_stalled;
}

static void stall(uint32_t count) {
    for (uint32_t index = 0; index < options.connections; index++) {
        Connection *connection = &connections[index];
        bool should_stall = index < count;
        if (connection->is_stalled == should_stall || connection->state == CLOSED) continue;
        connection->is_stalled = should_stall;
        watch(connection, EPOLL_CTL_MOD, should_stall ? 0 : EPOLLIN);
    }
    stalled = count;
}

static void set_age_timer(bool is_on) {
    struct itimerspec times = {{0, is_on ? AGE_INTERVAL_NS : 0}, {0, is_on ? AGE_INTERVAL_NS : 0}};
    timerfd_settime(age_timer, 0, &times, NULL);
}

/* Record the age of the data that each connection shows: that of its oldest stream, if every stream has an event. */
static void record_ages(void) {
    uint64_t expirations;
    if (read(age_timer, &expirations, sizeof expirations) < 0) return;
    now_ns = read_clock();
    for (uint32_t index = 0; index < options.connections; index++) {
        if (connections[index].is_stalled) continue;
        uint64_t oldest = UINT64_MAX;
        for (uint32_t stream = 0; stream < options.per_connection; stream++) {
            uint64_t at = positions[(size_t)index * options.per_connection + stream].at;
            if (at < oldest) oldest = at;
        }
        if (oldest) record(&ages, now_ns - oldest);
    }
}

static void report(void) {
    uint64_t lowest = UINT64_MAX, highest = 0;
    struct rusage usage;
    for (size_t index = 0; index < (size_t)options.connections * options.per_connection; index++) {
        if (connections[index / options.per_connection].is_stalled) continue;
        if (positions[index].seq < lowest) lowest = positions[index].seq;
        if (positions[index].seq > highest) highest = positions[index].seq;
    }
    getrusage(RUSAGE_SELF, &usage);
    double seconds = (double)(read_clock() - reset_ns) / 1e9;
    printf("{\"seconds\": %.6f, \"deliveries\": %lu, \"per_second\": %.1f, \"bytes\": %lu, \"receives\": %lu, "
           "\"others\": %lu, \"skipped\": %lu, \"lowest\": %lu, \"highest\": %lu, \"closed\": %u, \"cpu\": %.6f",
           seconds, deliveries, (double)deliveries / seconds, bytes, receives, others, skipped, lowest, highest,
           closed_while_stalled,
           (double)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) +
               (double)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1e6);
    print_histogram("latency_us", &latencies);
    print_histogram("age_us", &ages);
    puts("}");
    fflush(stdout);
}

static void run_command(char *line) {
    char *argument = strchr(line, ' ');
    uint64_t number = argument ? strtoull(argument, NULL, 10) : 0;
    if (!strncmp(line, "reset", 5)) reset();
    else if (!strncmp(line, "expect ", 7)) expect(number);
    else if (!strncmp(line, "until ", 6)) wait_until(number);
    else if (!strncmp(line, "stall ", 6)) stall((uint32_t)number);
    else if (!strncmp(line, "ages ", 5)) set_age_timer(number);
    else if (!strncmp(line, "report", 6)) report();
    else if (!strncmp(line, "quit", 4)) exit(0);
    else if (*line) die("unknown command %s", line);
}

static void read_commands(void) {
    static char input[4096];
    static size_t size;
    ssize_t received = read(0, input + size, sizeof input - size - 1);
    if (received <= 0) exit(0);
    size += (size_t)received;
    input[size] = 0;
    for (char *end; (end = strchr(input, '\n'));) {
        *end = 0;
        run_command(input);
        size -= (size_t)(end + 1 - input);
        memmove(input, end + 1, size + 1);
    }
}

/* -- the loop -------------------------------------------------------------------------------------- */

static void print_reached(void) {
    if (!wanted_seq || reached < (uint64_t)options.connections * options.per_connection) return;
    printf("{\"reached\": %lu, \"seconds\": %.6f}\n", wanted_seq, (double)(now_ns - reset_ns) / 1e9);
    fflush(stdout);
    wanted_seq = 0;
}

/* Report deliveries to the publisher, so that it keeps its window full. */
static void send_credit(void) {
    if (options.credit_fd < 0 || uncredited < options.credit_every) return;
    /* A publisher with a rate does not read the pipe. It may fill up. */
    if (write(options.credit_fd, &uncredited, sizeof uncredited) < 0 && errno != EAGAIN) die("write: %s", strerror(errno));
    uncredited = 0;
}

static void run(void) {
    struct epoll_event events[MAX_EVENTS];
    for (;;) {
        int count = epoll_wait(epoll_fd, events, MAX_EVENTS, -1);
        if (count < 0 && errno != EINTR) die("epoll_wait: %s", strerror(errno));
        for (int index = 0; index < count; index++) {
            void *source = events[index].data.ptr;
            if (source == NULL) read_commands();
            else if (source == &age_timer) record_ages();
            else if (((Connection *)source)->state != CLOSED) on_ready(source);
        }
        send_credit();
        print_reached();
    }
}

static void read_values(const char *name) {
    FILE *file = fopen(name, "r");
    char line[4096];
    if (!file) die("%s: %s", name, strerror(errno));
    while (fgets(line, sizeof line, file)) {
        line[strcspn(line, "\n")] = 0;
        options.values = realloc(options.values, (options.value_count + 1) * sizeof *options.values);
        options.values[options.value_count++] = strdup(line);
    }
    fclose(file);
}

static void parse(int count, char **arguments) {
    if (count < 3) die("usage: load HOST PORT [--option value ...]; see load.c for the options");
    options.address = (struct sockaddr_in){.sin_family = AF_INET, .sin_port = htons((uint16_t)atoi(arguments[2]))};
    if (!inet_aton(arguments[1], &options.address.sin_addr)) die("%s is not an IPv4 address", arguments[1]);
    for (int index = 3; index < count; index++) {
        const char *name = arguments[index];
        if (!strcmp(name, "--may-skip")) {
            options.may_skip = true;
            continue;
        }
        if (!strcmp(name, "--may-be-late")) { /* the first event of a connection may have any seq */
            options.may_be_late = true;
            continue;
        }
        if (++index >= count) die("%s needs a value", name);
        const char *value = arguments[index];
        uint32_t number = (uint32_t)strtoul(value, NULL, 10);
        if (!strcmp(name, "--connections")) options.connections = number;
        else if (!strcmp(name, "--first")) options.first = number; /* first number of this process */
        else if (!strcmp(name, "--sources")) options.sources = number; /* source addresses 127.0.0.1, .2, ... */
        else if (!strcmp(name, "--inflight")) options.inflight = number; /* connections opened at a time */
        else if (!strcmp(name, "--groups")) options.groups = number; /* that share their streams; 0: none share */
        else if (!strcmp(name, "--per-connection")) options.per_connection = number; /* streams per connection */
        else if (!strcmp(name, "--receive-buffer")) options.receive_buffer = number; /* bytes; 0: the kernel's */
        else if (!strcmp(name, "--credit-fd")) options.credit_fd = (int)number;
        else if (!strcmp(name, "--credit-every")) options.credit_every = number; /* deliveries */
        else if (!strcmp(name, "--path")) options.path = value;
        else if (!strcmp(name, "--values")) read_values(value);
        else if (!strcmp(name, "--header") && options.header_count < MAX_HEADERS)
            options.headers[options.header_count++] = value;
        else if (!strcmp(name, "--step") && options.step_count < MAX_STEPS && ++index < count) {
            options.expected[options.step_count] = value; /* a part of the expected message, and the reply */
            options.replies[options.step_count++] = arguments[index];
        } else if (!strcmp(name, "--answer") && ++index < count) {
            options.trigger = value; /* a whole message, and the reply to send each time */
            options.trigger_reply = arguments[index];
        } else die("unknown option %s", name);
    }
    if (!options.connections || !options.per_connection) die("--connections and --per-connection must not be 0");
    if (!options.groups) options.groups = options.first + options.connections;
}

static void prepare(void) {
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = NULL};
    struct rlimit limit;
    getrlimit(RLIMIT_NOFILE, &limit);
    limit.rlim_cur = limit.rlim_max;
    setrlimit(RLIMIT_NOFILE, &limit);
    connections = calloc(options.connections, sizeof *connections);
    positions = calloc((size_t)options.connections * options.per_connection, sizeof *positions);
    epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    if (epoll_ctl(epoll_fd, EPOLL_CTL_ADD, 0, &event)) die("standard input must be a pipe");
    age_timer = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
    event.data.ptr = &age_timer;
    epoll_ctl(epoll_fd, EPOLL_CTL_ADD, age_timer, &event);
    if (options.credit_fd >= 0) fcntl(options.credit_fd, F_SETFL, O_NONBLOCK);
    started_ns = reset_ns = read_clock();
}

int main(int count, char **arguments) {
    parse(count, arguments);
    prepare();
    open_more();
    run();
}
