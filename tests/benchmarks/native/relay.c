/*
 * What the way through Redis itself costs: each event of Redis's pub/sub goes to the one WebSocket that asked for it,
 * by one call of send, and nothing else is done. No server is sooner that hears its events from Redis, and sleeps until
 * there are some.
 *
 *     cc -O2 -o relay relay.c
 *     relay 8001 127.0.0.1:6379       port, Redis's address
 *
 * A client asks for the channel "7" by "GET /7", and is told "ready". All that Redis brings at once is read at once; a
 * socket that is full ends the program, and so does an event of 64 KB.
 */
#define _GNU_SOURCE
#include "server.h"

#include <poll.h>
#include <stdint.h>

#define MAX_CHANNELS 100000
#define BUFFER (1 << 20)

static const char ready[] = "\x81\x05ready";
static const char subscribe[] = "*2\r\n$10\r\nPSUBSCRIBE\r\n$1\r\n*\r\n";
static int listeners[MAX_CHANNELS]; /* 0: nobody */
static char buffer[BUFFER];

static void send_now(int fd, const char *data, size_t size) {
    if (send(fd, data, size, MSG_DONTWAIT | MSG_NOSIGNAL) != (ssize_t)size) die("a socket is full or broken");
}

static int connect_to(const char *address) {
    struct sockaddr_in name = {.sin_family = AF_INET};
    char host[64];
    int port, redis = socket(AF_INET, SOCK_STREAM, 0);
    if (sscanf(address, "%63[^:]:%d", host, &port) != 2 || !inet_aton(host, &name.sin_addr)) die("what is %s?", address);
    name.sin_port = htons((uint16_t)port);
    if (connect(redis, (struct sockaddr *)&name, sizeof name)) die("%s: %m", address);
    return redis;
}

/* The number of a channel; ends the program if it is none that a client may ask for. */
static int number_of(const char *text) {
    int channel = atoi(text);
    if (channel < 0 || channel >= MAX_CHANNELS) die("there is no channel %d", channel);
    return channel;
}

static void take_client(int listener) {
    char request[MAX_REQUEST];
    int connection = accept_one(listener, request);
    if (connection < 0) return;
    if (strncmp(request, "GET /", 5)) die("not asked for a channel");
    listeners[number_of(request + 5)] = connection;
    send_now(connection, ready, sizeof ready - 1);
}

/* One bulk string, "$<size>\r\n<bytes>\r\n"; NULL: a part of it has not come yet. */
static char *read_text(char **at, char *end, size_t *size) {
    char *line = memchr(*at, '\n', (size_t)(end - *at));
    if (!line) return NULL;
    *size = strtoul(*at + 1, NULL, 10);
    if ((size_t)(end - line - 1) < *size + 2) return NULL;
    *at = line + 1 + *size + 2;
    return line + 1;
}

/* In place: the frame's header overwrites what stands before the payload, which is longer. */
static void pass_on(int connection, char *payload, size_t size) {
    if (size > UINT16_MAX) die("an event of %zu bytes", size);
    unsigned char *frame = (unsigned char *)payload - (size < 126 ? 2 : 4);
    frame[0] = 0x81;
    frame[1] = size < 126 ? (unsigned char)size : 126;
    if (size >= 126) {
        frame[2] = (unsigned char)(size >> 8);
        frame[3] = (unsigned char)size;
    }
    send_now(connection, (char *)frame, size + (size < 126 ? 2 : 4));
}

/* "*4", "pmessage", the pattern, the channel, the payload. The bytes that were used. */
static size_t take_messages(char *begin, char *end) {
    char *at = begin;
    for (;;) {
        char *next = at, *line = memchr(at, '\n', (size_t)(end - at)), *kind, *channel, *payload;
        size_t kind_size, size;
        if (!line) break;
        next = line + 1;
        if (!(kind = read_text(&next, end, &kind_size))) break;
        if (!read_text(&next, end, &size)) break;
        if (kind_size != 8) { /* the answer to our command: the number of subscriptions follows */
            char *number = memchr(next, '\n', (size_t)(end - next));
            if (!number) break;
            at = number + 1;
            continue;
        }
        if (!(channel = read_text(&next, end, &size))) break;
        int listener = listeners[number_of(channel)];
        if (!(payload = read_text(&next, end, &size))) break;
        if (listener) pass_on(listener, payload, size);
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
        if (waiting[1].revents) take_client(waiting[1].fd);
        if (!waiting[0].revents) continue;
        ssize_t received = recv(redis, buffer + kept, sizeof buffer - kept, 0);
        if (received <= 0) return 0;
        kept += (size_t)received;
        size_t used = take_messages(buffer, buffer + kept);
        kept -= used;
        memmove(buffer, buffer + used, kept);
    }
}
