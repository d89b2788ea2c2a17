/*
 * Shared code of the C servers: listening, and the WebSocket handshake.
 */
#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define MAX_REQUEST 4096

/* Without Sec-WebSocket-Accept, because the load does not check it. */
static const char response[] = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n";

static void die(const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    vfprintf(stderr, format, arguments);
    fputc('\n', stderr);
    exit(1);
}

static int listen_on(int port) {
    int one = 1, listener = socket(AF_INET, SOCK_STREAM, 0);
    struct sockaddr_in name = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    name.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (bind(listener, (struct sockaddr *)&name, sizeof name) || listen(listener, 2048)) die("can't listen on %d: %m", port);
    return listener;
}

/* Return the next connection, after its handshake; -1 if it was closed without a request, as a port check does. */
static int accept_one(int listener, char request[static MAX_REQUEST]) {
    size_t size = 0;
    int one = 1, connection = accept(listener, NULL, NULL);
    if (connection < 0) die("accept: %m");
    setsockopt(connection, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    while (!memmem(request, size, "\r\n\r\n", 4)) {
        ssize_t received = recv(connection, request + size, MAX_REQUEST - 1 - size, 0);
        if (received <= 0) {
            close(connection);
            return -1;
        }
        size += (size_t)received;
    }
    request[size] = 0;
    if (send(connection, response, sizeof response - 1, MSG_NOSIGNAL) < 0) die("send: %m");
    return connection;
}
