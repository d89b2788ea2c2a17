/*
 * What the machine itself can do: a server that sends events to all of its WebSockets, one after the other, and
 * nothing else. No server that makes one call into the kernel for each frame is faster.
 *
 *     cc -O2 -o wall wall.c
 *     wall 8001 1000 1 200      port, connections, frames that one call sends, bytes of an event
 *
 * It begins when all connections are there, and waits for a socket that is full.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

/* Nobody looks at the answer to the key of a load that is ours. */
static const char answer[] = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n";

static void die(const char *what) {
    perror(what);
    exit(1);
}

static uint64_t read_clock(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (uint64_t)time.tv_sec * 1000000000u + (uint64_t)time.tv_nsec;
}

static int listen_on(int port) {
    int one = 1, listener = socket(AF_INET, SOCK_STREAM, 0);
    struct sockaddr_in name = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    name.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (bind(listener, (struct sockaddr *)&name, sizeof name) || listen(listener, 2048)) die("listen");
    return listener;
}

static int accept_one(int listener) {
    char request[4096];
    size_t size = 0;
    int one = 1, connection = accept(listener, NULL, NULL);
    if (connection < 0) die("accept");
    setsockopt(connection, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    while (!memmem(request, size, "\r\n\r\n", 4)) {
        ssize_t received = recv(connection, request + size, sizeof request - size, 0);
        if (received <= 0) { /* somebody who only looks whether we listen */
            close(connection);
            return accept_one(listener);
        }
        size += (size_t)received;
    }
    if (send(connection, answer, sizeof answer - 1, MSG_NOSIGNAL) < 0) die("send");
    return connection;
}

static size_t put_frame(char *out, uint64_t seq, size_t size) {
    int header = size < 126 ? 2 : 4;
    out[0] = (char)0x81;
    out[1] = (char)(size < 126 ? size : 126);
    if (header == 4) {
        out[2] = (char)(size >> 8);
        out[3] = (char)size;
    }
    memset(out + header, '.', size);
    char mark[80];
    int length = sprintf(mark, "~0.%lu.%lu~", seq, read_clock());
    memcpy(out + header, mark, (size_t)length);
    return (size_t)header + size;
}

static void send_all(int connection, const char *data, size_t size) {
    while (size) {
        ssize_t sent = send(connection, data, size, MSG_DONTWAIT | MSG_NOSIGNAL);
        if (sent < 0 && errno == EAGAIN) {
            struct pollfd full = {.fd = connection, .events = POLLOUT};
            poll(&full, 1, -1);
            continue;
        }
        if (sent < 0) exit(0); /* the load has gone */
        data += sent;
        size -= (size_t)sent;
    }
}

int main(int count, char **arguments) {
    if (count != 5) return fprintf(stderr, "usage: wall PORT CONNECTIONS FRAMES BYTES\n"), 2;
    int connections = atoi(arguments[2]), frames = atoi(arguments[3]), listener = listen_on(atoi(arguments[1]));
    size_t size = (size_t)atoi(arguments[4]);
    int *sockets = calloc((size_t)connections, sizeof *sockets);
    char *output = malloc((size_t)frames * (size + 4));
    for (int index = 0; index < connections; index++) sockets[index] = accept_one(listener);
    for (uint64_t seq = 1;;) {
        size_t length = 0;
        for (int frame = 0; frame < frames; frame++) length += put_frame(output + length, seq++, size);
        for (int index = 0; index < connections; index++) send_all(sockets[index], output, length);
    }
}
