/*
 * What the way through Redis itself costs: each event of Redis's pub/sub goes to the one WebSocket that asked for it,
 * by one call of send, and nothing else is done. No server that hears its events from Redis is sooner.
 *
 *     cc -O2 -o relay relay.c
 *     relay 8001 127.0.0.1:6379       port, Redis's address or the path of its socket
 *
 * A client asks for the channel "7" by "GET /7", and is told "ready". All that Redis brings at once is read at once; a
 * socket that is full ends the program.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#define MAX_CHANNELS 100000
#define BUFFER (1 << 20)

/* Nobody looks at the answer to the key of a load that is ours. */
static const char answer[] = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n"
                             "\x81\x05ready";
static const char subscribe[] = "*2\r\n$10\r\nPSUBSCRIBE\r\n$1\r\n*\r\n";
static int listeners[MAX_CHANNELS]; /* 0: nobody */
static char buffer[BUFFER];

static void die(const char *what) {
    perror(what);
    exit(1);
}

static void send_now(int fd, const char *data, size_t size) {
    if (send(fd, data, size, MSG_DONTWAIT | MSG_NOSIGNAL) != (ssize_t)size) die("send");
}

static int listen_on(int port) {
    int one = 1, listener = socket(AF_INET, SOCK_STREAM, 0);
    struct sockaddr_in name = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    name.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (bind(listener, (struct sockaddr *)&name, sizeof name) || listen(listener, 2048)) die("listen");
    return listener;
}

static int connect_to(const char *address) {
    struct sockaddr_un path = {.sun_family = AF_UNIX};
    struct sockaddr_in name = {.sin_family = AF_INET};
    char host[64];
    int port, redis;
    if (address[0] == '/') {
        if (strlen(address) >= sizeof path.sun_path) die(address);
        strcpy(path.sun_path, address);
        redis = socket(AF_UNIX, SOCK_STREAM, 0);
        if (connect(redis, (struct sockaddr *)&path, sizeof path)) die(address);
        return redis;
    }
    if (sscanf(address, "%63[^:]:%d", host, &port) != 2 || !inet_aton(host, &name.sin_addr)) die(address);
    name.sin_port = htons((uint16_t)port);
    redis = socket(AF_INET, SOCK_STREAM, 0);
    if (connect(redis, (struct sockaddr *)&name, sizeof name)) die(address);
    return redis;
}

static void accept_one(int listener) {
    char request[4096];
    size_t size = 0;
    int one = 1, channel, connection = accept(listener, NULL, NULL);
    if (connection < 0) die("accept");
    setsockopt(connection, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    while (!memmem(request, size, "\r\n\r\n", 4)) {
        ssize_t received = recv(connection, request + size, sizeof request - 1 - size, 0);
        if (received <= 0) { /* somebody who only looks whether we listen */
            close(connection);
            return;
        }
        size += (size_t)received;
    }
    request[size] = 0;
    if (sscanf(request, "GET /%d ", &channel) != 1 || channel < 0 || channel >= MAX_CHANNELS) die("which channel?");
    listeners[channel] = connection;
    send_now(connection, answer, sizeof answer - 1);
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
        int listener = listeners[atoi(channel)];
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
        if (poll(waiting, 2, -1) < 0) die("poll");
        if (waiting[1].revents) accept_one(waiting[1].fd);
        if (!waiting[0].revents) continue;
        ssize_t received = recv(redis, buffer + kept, sizeof buffer - kept, 0);
        if (received <= 0) return 0;
        kept += (size_t)received;
        size_t used = take_messages(buffer, buffer + kept);
        kept -= used;
        memmove(buffer, buffer + used, kept);
    }
}
