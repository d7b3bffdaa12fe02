/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * The whole user space of the Linux that `./x bench` measures against: process 1
 * of a static arm64 initramfs. It loads the drivers that /modules.order names,
 * gives the three interfaces their addresses and then serves, from one thread and one epoll
 * set, what the unikernel serves: UDP echo and TCP echo on port 7, HTTP/1.1
 * with keep-alive on port 80. Small and direct on purpose: the comparison is
 * with what Linux costs, not with what a large server costs.
 *
 * If there is an iperf3 in the initramfs, it runs beside that.
 *
 * Says "bench: ready" on the console once it listens.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <net/if.h>
#include <net/route.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

enum { ECHO_PORT = 7, HTTP_PORT = 80, MAX_FDS = 256, INTERFACES = 3 };

enum kind { UDP_ECHO, ECHO_LISTENER, HTTP_LISTENER, ECHO, HTTP };

/* What a file descriptor is, and an HTTP connection's unfinished request. */
static struct connection {
    enum kind kind;
    size_t used;
    char request[2048];
} connections[MAX_FDS];

static char buffer[65536];
static int epoll;

__attribute__((noreturn, format(printf, 1, 2)))
static void fail(const char *format, ...)
{
    int error = errno;
    va_list args;

    va_start(args, format);
    printf("bench: ");
    vprintf(format, args);
    printf(": %s\n", strerror(error));
    va_end(args);
    fflush(stdout);
    sync();
    reboot(RB_POWER_OFF);
    _exit(1);
}

static void load_modules(void)
{
    char name[64], path[80];
    FILE *order = fopen("/modules.order", "re");

    if (!order) {
        fail("/modules.order");
    }
    while (fscanf(order, "%63s", name) == 1) {
        int fd;

        snprintf(path, sizeof path, "/modules/%s", name);
        fd = open(path, O_RDONLY | O_CLOEXEC);
        if (fd < 0 || syscall(SYS_finit_module, fd, "", 0) != 0) {
            fail("%s", path);
        }
        close(fd);
    }
    fclose(order);
}

static void set_address(int control, struct ifreq *request, unsigned long what, const char *text)
{
    struct sockaddr_in address = { .sin_family = AF_INET };

    inet_pton(AF_INET, text, &address.sin_addr);
    memcpy(&request->ifr_addr, &address, sizeof address);
    if (ioctl(control, what, request) != 0) {
        fail("%s %s", request->ifr_name, text);
    }
}

static void bring_up(int control, const char *name, const char *address)
{
    struct ifreq request = { 0 };

    strncpy(request.ifr_name, name, IFNAMSIZ - 1);
    if (address) {
        set_address(control, &request, SIOCSIFADDR, address);
        set_address(control, &request, SIOCSIFNETMASK, "255.255.255.0");
    }
    if (ioctl(control, SIOCGIFFLAGS, &request) != 0) {
        fail("%s", name);
    }
    request.ifr_flags |= IFF_UP;
    if (ioctl(control, SIOCSIFFLAGS, &request) != 0) {
        fail("%s up", name);
    }
}

/* An interface's hardware address. Its driver may still be registering it: waits a little. */
static struct ifreq wait_for(int control, const char *name)
{
    struct ifreq request = { 0 };
    int tries;

    strncpy(request.ifr_name, name, IFNAMSIZ - 1);
    for (tries = 0; ioctl(control, SIOCGIFHWADDR, &request) != 0; tries++) {
        if (tries == 500) {
            fail("%s", name);
        }
        nanosleep(&(struct timespec){ .tv_nsec = 20000000 }, NULL);
    }
    return request;
}

/* The interfaces of a board, by name, in the order of the networks 10.0.2.0/24, 10.0.3.0/24 ... */
static void configure_by_name(char *names)
{
    int control = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    char *name;
    int i = 2;

    bring_up(control, "lo", NULL);
    for (name = strtok(names, ","); name; name = strtok(NULL, ",")) {
        char address[24];

        wait_for(control, name);
        snprintf(address, sizeof address, "10.0.%d.15", i++);
        bring_up(control, name, address);
    }
    close(control);
}

/*
 * The bench gives its cards MAC addresses that end in 0, 1, 2 and networks
 * 10.0.2.0/24, 10.0.3.0/24, 10.0.4.0/24 in that order; which card Linux calls
 * eth0 is its own affair.
 */
static void configure_interfaces(void)
{
    int control = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    int found[INTERFACES] = { 0 };
    int i, card;

    bring_up(control, "lo", NULL);
    for (i = 0; i < INTERFACES; i++) {
        struct ifreq request;
        char name[IFNAMSIZ], address[16];

        snprintf(name, sizeof name, "eth%d", i);
        request = wait_for(control, name);
        card = (unsigned char)request.ifr_hwaddr.sa_data[5];
        if (card >= INTERFACES || found[card]) {
            errno = ENODEV;
            fail("%s is no card of the bench (MAC ends in %02x)", name, card);
        }
        found[card] = 1;
        snprintf(address, sizeof address, "10.0.%d.15", 2 + card);
        bring_up(control, name, address);
    }
    close(control);
}

static void watch(int fd, enum kind kind)
{
    struct epoll_event event = { .events = EPOLLIN, .data.fd = fd };

    if (fd < 0 || fd >= MAX_FDS) {
        fail("descriptor %d", fd);
    }
    connections[fd].kind = kind;
    connections[fd].used = 0;
    if (epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event) != 0) {
        fail("epoll");
    }
}

static void listen_on(int type, int port, enum kind kind)
{
    struct sockaddr_in address = {
        .sin_family = AF_INET,
        .sin_port = htons(port),
    };
    int fd = socket(AF_INET, type | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    int on = 1;

    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (bind(fd, (struct sockaddr *)&address, sizeof address) != 0) {
        fail("port %d", port);
    }
    if (type == SOCK_STREAM && listen(fd, 128) != 0) {
        fail("listen on port %d", port);
    }
    watch(fd, kind);
}

static void accept_all(int listener, enum kind kind)
{
    for (;;) {
        int on = 1;
        int fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);

        if (fd < 0) {
            return;
        }
        if (fd >= MAX_FDS) {
            close(fd);
            continue;
        }
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
        watch(fd, kind);
    }
}

static void echo_datagrams(int fd)
{
    struct sockaddr_in peer;
    socklen_t size = sizeof peer;
    ssize_t n = recvfrom(fd, buffer, sizeof buffer, 0, (struct sockaddr *)&peer, &size);

    if (n >= 0) {
        sendto(fd, buffer, n, 0, (struct sockaddr *)&peer, size);
    }
}

/* Sends all or closes: the bench never sends more than a socket buffer holds. */
static int send_all(int fd, const char *data, size_t size)
{
    return send(fd, data, size, MSG_NOSIGNAL) == (ssize_t)size ? 0 : -1;
}

static int answer(int fd, const char *request)
{
    static const char hello[] =
        "HTTP/1.1 200 OK\r\nContent-Type: text/plain; charset=utf-8\r\n"
        "Content-Length: 13\r\n\r\nHello, world!";
    static const char missing[] = "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n";

    if (strncmp(request, "GET /hello HTTP/1.1\r\n", 21) == 0) {
        return send_all(fd, hello, sizeof hello - 1);
    }
    return send_all(fd, missing, sizeof missing - 1);
}

/* Answers every whole request in the buffer and keeps the rest. Returns -1 to close. */
static int serve_http(int fd, struct connection *c)
{
    size_t room = sizeof c->request - 1 - c->used;
    ssize_t n = recv(fd, c->request + c->used, room, 0);
    char *start = c->request, *end;

    if (n <= 0) {
        return n < 0 && errno == EAGAIN ? 0 : -1;
    }
    c->used += n;
    c->request[c->used] = 0;
    while ((end = strstr(start, "\r\n\r\n"))) {
        if (answer(fd, start) != 0) {
            return -1;
        }
        start = end + 4;
    }
    c->used -= start - c->request;
    memmove(c->request, start, c->used);
    return c->used == sizeof c->request - 1 ? -1 : 0;
}

static int serve_echo(int fd)
{
    ssize_t n = recv(fd, buffer, sizeof buffer, 0);

    if (n <= 0) {
        return n < 0 && errno == EAGAIN ? 0 : -1;
    }
    return send_all(fd, buffer, n);
}

static void serve(int fd)
{
    struct connection *c = &connections[fd];
    int result = 0;

    switch (c->kind) {
    case UDP_ECHO:
        echo_datagrams(fd);
        break;
    case ECHO_LISTENER:
        accept_all(fd, ECHO);
        break;
    case HTTP_LISTENER:
        accept_all(fd, HTTP);
        break;
    case ECHO:
        result = serve_echo(fd);
        break;
    case HTTP:
        result = serve_http(fd, c);
        break;
    }
    if (result != 0) {
        close(fd);
    }
}

static void start_iperf3(void)
{
    if (access("/iperf3", X_OK) == 0 && fork() == 0) {
        execl("/iperf3", "iperf3", "-s", (char *)NULL);
        fail("/iperf3");
    }
}

int main(void)
{
    struct epoll_event events[64];
    int i, n;

    setvbuf(stdout, NULL, _IOLBF, 0);
    load_modules();
    if (getenv("interfaces")) {
        configure_by_name(getenv("interfaces"));
    } else {
        configure_interfaces();
    }
    start_iperf3();
    epoll = epoll_create1(EPOLL_CLOEXEC);
    listen_on(SOCK_DGRAM, ECHO_PORT, UDP_ECHO);
    listen_on(SOCK_STREAM, ECHO_PORT, ECHO_LISTENER);
    listen_on(SOCK_STREAM, HTTP_PORT, HTTP_LISTENER);
    printf("bench: ready\n");
    for (;;) {
        n = epoll_wait(epoll, events, 64, -1);
        for (i = 0; i < n; i++) {
            serve(events[i].data.fd);
        }
    }
}
