/*
 * The limit of the machine: a server that only sends events to all its WebSockets, one after the other. No server that
 * makes one system call per frame is faster.
 *
 *     cc -O2 -o wall wall.c
 *     wall 8001 1000 1 200      port, connections, frames per call, bytes of an event
 *
 * It starts when all clients have connected, and waits for sockets that are full.
 */
#define _GNU_SOURCE
#include "server.h"

#include <errno.h>
#include <poll.h>
#include <stdint.h>
#include <time.h>

static uint64_t read_clock(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (uint64_t)time.tv_sec * 1000000000u + (uint64_t)time.tv_nsec;
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
        if (sent < 0) exit(0); /* the load has disconnected */
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
    char request[MAX_REQUEST];
    for (int index = 0; index < connections; index++)
        while ((sockets[index] = accept_one(listener, request)) < 0) continue;
    for (uint64_t seq = 1;;) {
        size_t length = 0;
        for (int frame = 0; frame < frames; frame++) length += put_frame(output + length, seq++, size);
        for (int index = 0; index < connections; index++) send_all(sockets[index], output, length);
    }
}
