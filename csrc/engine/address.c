#include "engine/address.h"

#include <arpa/inet.h>
#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define DEFAULT_PORT 8000u

/* Digits of a number up to `max`, and nothing else. Returns -1 if it is not that. */
static long
read_number(const char *text, long max)
{
    long n = 0;

    if (*text == '\0') {
        return -1;
    }
    for (; *text != '\0'; text++) {
        if (*text < '0' || *text > '9') {
            return -1;
        }
        n = n * 10 + (*text - '0');
        if (n > max) {
            return -1;
        }
    }
    return n;
}

static int
parse_unix(pws_address *address, const char *path, char *why, size_t why_room)
{
    size_t len = strlen(path);

    if (len == 0 || len >= sizeof(address->sa.local.sun_path)) {
        snprintf(why, why_room, "the path of a Unix socket has 1 to %zu bytes",
                 sizeof(address->sa.local.sun_path) - 1);
        return -1;
    }
    address->sa.local.sun_family = AF_UNIX;
    memcpy(address->sa.local.sun_path, path, len + 1);
    address->len = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + len + 1);
    return 0;
}

static int
resolve(pws_address *address, const char *host, unsigned port, char *why,
        size_t why_room)
{
    struct addrinfo hints = {.ai_family = AF_INET, .ai_socktype = SOCK_STREAM};
    struct addrinfo *found = NULL;
    int rc;

    address->sa.v4.sin_family = AF_INET;
    address->len = sizeof(address->sa.v4);
    if (host[0] != '\0') {
        rc = getaddrinfo(host, NULL, &hints, &found);
        if (rc != 0) {
            snprintf(why, why_room, "'%s' is no address: %s", host, gai_strerror(rc));
            return -1;
        }
        memcpy(&address->sa.v4, found->ai_addr, sizeof(address->sa.v4));
        freeaddrinfo(found);
    }
    address->sa.v4.sin_port = htons((uint16_t)port);
    return 0;
}

static int
parse_v6(pws_address *address, const char *host, unsigned port, char *why,
         size_t why_room)
{
    address->sa.v6.sin6_family = AF_INET6;
    address->sa.v6.sin6_port = htons((uint16_t)port);
    address->len = sizeof(address->sa.v6);
    if (inet_pton(AF_INET6, host, &address->sa.v6.sin6_addr) != 1) {
        snprintf(why, why_room, "'%s' is no IPv6 address", host);
        return -1;
    }
    return 0;
}

static int
parse_inet(pws_address *address, const char *text, char *why, size_t why_room)
{
    char host[256];
    bool v6 = text[0] == '[';
    const char *end = v6 ? strchr(text, ']') : strrchr(text, ':');
    const char *port_text = end == NULL ? "" : v6 ? end + 1 : end;
    size_t host_len = end == NULL ? strlen(text) : (size_t)(end - text) - (v6 ? 1 : 0);
    long port = DEFAULT_PORT;

    if (v6 && end == NULL) {
        snprintf(why, why_room, "'[' without ']'");
        return -1;
    }
    if (host_len >= sizeof(host)) {
        snprintf(why, why_room, "the host is too long");
        return -1;
    }
    memcpy(host, v6 ? text + 1 : text, host_len);
    host[host_len] = '\0';
    if (*port_text != '\0') {
        port = *port_text == ':' ? read_number(port_text + 1, 65535) : -1;
    }
    if (port < 0) {
        snprintf(why, why_room, "'%s' is not a valid port number", port_text + 1);
        return -1;
    }
    if (v6) {
        return parse_v6(address, host, (unsigned)port, why, why_room);
    }
    if (strchr(host, ':') != NULL) {
        snprintf(why, why_room, "an IPv6 address stands in brackets: [%s]", text);
        return -1;
    }
    if (read_number(host, 1 << 20) >= 0) {
        snprintf(why, why_room, "'%s' is no host; for a port alone write ':%s'", host,
                 host);
        return -1;
    }
    return resolve(address, host, (unsigned)port, why, why_room);
}

int
pws_address_parse(pws_address *address, const char *text, char *why, size_t why_room)
{
    memset(address, 0, sizeof(*address));
    address->inherited_fd = -1;
    if (strncmp(text, "fd://", 5) == 0) {
        long fd = read_number(text + 5, 1 << 20);

        if (fd < 0) {
            snprintf(why, why_room, "'%s' is no descriptor number", text + 5);
            return -1;
        }
        address->inherited_fd = (int)fd;
        return 0;
    }
    if (strncmp(text, "unix:", 5) == 0) {
        text += strncmp(text + 5, "//", 2) == 0 ? 7 : 5;
        return parse_unix(address, text, why, why_room);
    }
    if (strncmp(text, "tcp://", 6) == 0) {
        text += 6;
    }
    return parse_inet(address, text, why, why_room);
}

char *
pws_address_format(const pws_address *address, char *dst, size_t room)
{
    char host[INET6_ADDRSTRLEN] = "";

    switch (address->sa.any.sa_family) {
    case AF_INET:
        inet_ntop(AF_INET, &address->sa.v4.sin_addr, host, sizeof(host));
        snprintf(dst, room, "%s:%u", host, ntohs(address->sa.v4.sin_port));
        break;
    case AF_INET6:
        inet_ntop(AF_INET6, &address->sa.v6.sin6_addr, host, sizeof(host));
        snprintf(dst, room, "[%s]:%u", host, ntohs(address->sa.v6.sin6_port));
        break;
    default:
        if (address->sa.local.sun_path[0] == '\0' &&
            address->len > offsetof(struct sockaddr_un, sun_path)) {
            snprintf(dst, room, "unix:@%.*s", /* an abstract name, of systemd's */
                     (int)(address->len - offsetof(struct sockaddr_un, sun_path)) - 1,
                     address->sa.local.sun_path + 1);
            break;
        }
        /* The kernel may leave out the NUL behind a path of full length. */
        snprintf(dst, room, "unix:%.*s", (int)sizeof(address->sa.local.sun_path),
                 address->sa.local.sun_path);
        break;
    }
    return dst;
}

bool
pws_address_same(const pws_address *a, const pws_address *b)
{
    return a->len == b->len && memcmp(&a->sa, &b->sa, a->len) == 0;
}

size_t
pws_peer_host(const pws_peer *peer, char *dst)
{
    const struct in6_addr *v6 = &peer->v6.sin6_addr;

    dst[0] = '\0';
    if (peer->any.sa_family == AF_INET) {
        inet_ntop(AF_INET, &peer->v4.sin_addr, dst, PWS_HOST_ROOM);
    }
    else if (peer->any.sa_family == AF_INET6) {
        if (IN6_IS_ADDR_V4MAPPED(v6)) {
            inet_ntop(AF_INET, &v6->s6_addr[12], dst, PWS_HOST_ROOM);
        }
        else {
            inet_ntop(AF_INET6, v6, dst, PWS_HOST_ROOM);
        }
    }
    return strlen(dst);
}

unsigned
pws_peer_port(const pws_peer *peer)
{
    if (peer->any.sa_family == AF_INET) {
        return ntohs(peer->v4.sin_port);
    }
    return peer->any.sa_family == AF_INET6 ? ntohs(peer->v6.sin6_port) : 0;
}

static void
map_v4(uint8_t *bytes, const void *v4)
{
    memset(bytes, 0, 10);
    memset(bytes + 10, 0xff, 2);
    memcpy(bytes + 12, v4, 4);
}

/* Whether the first `bits` bits are equal. */
static bool
same_bits(const uint8_t *a, const uint8_t *b, unsigned bits)
{
    unsigned rest = bits % 8;

    if (memcmp(a, b, bits / 8) != 0) {
        return false;
    }
    return rest == 0 || ((a[bits / 8] ^ b[bits / 8]) >> (8 - rest)) == 0;
}

static bool
has_host_bits(const pws_network *network)
{
    for (unsigned bit = network->bits; bit < 128; bit++) {
        if ((network->bytes[bit / 8] >> (7 - bit % 8) & 1) != 0) {
            return true;
        }
    }
    return false;
}

int
pws_network_parse(pws_network *network, const char *text)
{
    char host[PWS_HOST_ROOM];
    const char *slash = strchr(text, '/');
    size_t len = slash != NULL ? (size_t)(slash - text) : strlen(text);
    struct in_addr v4;
    long bits = -1, max = 128;

    if (len >= sizeof(host)) {
        return -1;
    }
    memcpy(host, text, len);
    host[len] = '\0';
    if (inet_pton(AF_INET, host, &v4) == 1) {
        map_v4(network->bytes, &v4);
        max = 32;
    }
    else if (inet_pton(AF_INET6, host, network->bytes) != 1) {
        return -1;
    }
    bits = slash != NULL ? read_number(slash + 1, max) : max;
    if (bits < 0) {
        return -1;
    }
    network->bits = (unsigned)(128 - max + bits);
    return has_host_bits(network) ? -1 : 0;
}

bool
pws_network_has(const pws_network *network, const pws_peer *peer)
{
    uint8_t bytes[16];
    bool v4 =
        peer->any.sa_family == AF_INET ||
        (peer->any.sa_family == AF_INET6 && IN6_IS_ADDR_V4MAPPED(&peer->v6.sin6_addr));

    if (v4 && network->bits < 96) {
        return false; /* a wide IPv6 network is not meant to hold all of IPv4 */
    }
    if (peer->any.sa_family == AF_INET) {
        map_v4(bytes, &peer->v4.sin_addr);
    }
    else if (peer->any.sa_family == AF_INET6) {
        memcpy(bytes, &peer->v6.sin6_addr, sizeof(bytes));
    }
    else {
        return false;
    }
    return same_bits(network->bytes, bytes, network->bits);
}
