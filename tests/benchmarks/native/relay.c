/*
 * The cost of the path through Redis: a server that only sends each event of Redis's pub/sub to its one subscriber,
 * with one call of send. No server that receives its events from Redis and sleeps between them has a lower latency.
 *
 *     cc -O2 -o relay relay.c
 *     relay 8001 127.0.0.1:6379       port, address of Redis
 *
 * A client subscribes to the channel "7" with "GET /7", and receives "ready". All available bytes of Redis are read in
 * one call. A full socket ends the program, and so does an event of 64 KB.
 */
#define _GNU_SOURCE
#include "server.h"

#include <poll.h>
#include <stdint.h>

#define MAX_CHANNELS 100000
#define BUFFER (1 << 20)

static const char ready[] = "\x81\x05ready";
static const char subscribe[] = "*2\r\n$10\r\nPSUBSCRIBE\r\n$1\r\n*\r\n";
static int listeners[MAX_CHANNELS]; /* 0: none */
static char buffer[BUFFER];

static void send_now(int fd, const char *data, size_t size) {
    if (send(fd, data, size, MSG_DONTWAIT | MSG_NOSIGNAL) != (ssize_t)size) die("a socket is full or broken");
}

static int connect_to(const char *address) {
    struct sockaddr_in name = {.sin_family = AF_INET};
    char host[64];
    int port, redis = socket(AF_INET, SOCK_STREAM, 0);
    if (sscanf(address, "%63[^:]:%d", host, &port) != 2 || !inet_aton(host, &name.sin_addr))
        die("invalid address %s", address);
    name.sin_port = htons((uint16_t)port);
    if (connect(redis, (struct sockaddr *)&name, sizeof name)) die("%s: %m", address);
    return redis;
}

/* Return the number of a channel; end the program if it is out of range. */
static int number_of(const char *text) {
    int channel = atoi(text);
    if (channel < 0 || channel >= MAX_CHANNELS) die("channel %d is out of range", channel);
    return channel;
}

static void accept_client(int listener) {
    char request[MAX_REQUEST];
    int connection = accept_one(listener, request);
    if (connection < 0) return;
    if (strncmp(request, "GET /", 5)) die("the request names no channel");
    listeners[number_of(request + 5)] = connection;
    send_now(connection, ready, sizeof ready - 1);
}

/* Read one bulk string, "$<size>\r\n<bytes>\r\n"; return NULL if it is incomplete. */
static char *read_text(char **at, char *end, size_t *size) {
    char *line = memchr(*at, '\n', (size_t)(end - *at));
    if (!line) return NULL;
    *size = strtoul(*at + 1, NULL, 10);
    if ((size_t)(end - line - 1) < *size + 2) return NULL;
    *at = line + 1 + *size + 2;
    return line + 1;
}

/* Send a payload as a frame. The header overwrites the bytes before the payload, which are no longer needed. */
static void forward(int connection, char *payload, size_t size) {
    if (size > UINT16_MAX) die("an event of %zu bytes is too large", size);
    unsigned char *frame = (unsigned char *)payload - (size < 126 ? 2 : 4);
    frame[0] = 0x81;
    frame[1] = size < 126 ? (unsigned char)size : 126;
    if (size >= 126) {
        frame[2] = (unsigned char)(size >> 8);
        frame[3] = (unsigned char)size;
    }
    send_now(connection, (char *)frame, size + (size < 126 ? 2 : 4));
}

/* Forward all complete messages ("*4", "pmessage", pattern, channel, payload); return the number of bytes used. */
static size_t forward_messages(char *begin, char *end) {
    char *at = begin;
    for (;;) {
        char *next = at, *line = memchr(at, '\n', (size_t)(end - at)), *kind, *channel, *payload;
        size_t kind_size, size;
        if (!line) break;
        next = line + 1;
        if (!(kind = read_text(&next, end, &kind_size))) break;
        if (!read_text(&next, end, &size)) break;
        if (kind_size != 8) { /* the reply to PSUBSCRIBE: the number of subscriptions follows */
            char *number = memchr(next, '\n', (size_t)(end - next));
            if (!number) break;
            at = number + 1;
            continue;
        }
        if (!(channel = read_text(&next, end, &size))) break;
        int listener = listeners[number_of(channel)];
        if (!(payload = read_text(&next, end, &size))) break;
        if (listener) forward(listener, payload, size);
        at = next;
    }
    return (size_t)(at - begin);
}

int main(int count, char **arguments) {
    if (count != 3) return fprintf(stderr, "usage: relay PORT REDIS\n"), 2;
    int redis = connect_to(arguments[2]);
    send_now(redis, subscribe, sizeof subscribe - 1);
    struct pollfd waiting[] = {{.fd = redis, .events = POLLIN}, {.fd = listen_on(atoi(arguments[1])), .events = POLLIN}};
    size_t kept = 0;
    for (;;) {
        if (poll(waiting, 2, -1) < 0) die("poll: %m");
        if (waiting[1].revents) accept_client(waiting[1].fd);
        if (!waiting[0].revents) continue;
        ssize_t received = recv(redis, buffer + kept, sizeof buffer - kept, 0);
        if (received <= 0) return 0;
        kept += (size_t)received;
        size_t used = forward_messages(buffer, buffer + kept);
        kept -= used;
        memmove(buffer, buffer + used, kept);
    }
}
