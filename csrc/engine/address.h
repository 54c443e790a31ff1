/* address.h - where to listen, who calls, and whom to trust. */
#ifndef PWS_ENGINE_ADDRESS_H
#define PWS_ENGINE_ADDRESS_H

#include <netinet/in.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "base/slice.h"

/* A socket address of any family we know. `inherited_fd` is the number of "fd://N",
 * else -1. */
typedef struct {
    union {
        struct sockaddr any;
        struct sockaddr_in v4;
        struct sockaddr_in6 v6;
        struct sockaddr_un local;
    } sa;
    socklen_t len;
    int inherited_fd;
} pws_address;

/* The peer of a connection: no path, to keep it small. */
typedef union {
    struct sockaddr any;
    struct sockaddr_in v4;
    struct sockaddr_in6 v6;
} pws_peer;

/* Read a bind string: HOST, HOST:PORT, :PORT, [V6]:PORT, tcp://..., unix:PATH,
 * unix://PATH, fd://N; the port is 8000 unless given. May ask the resolver (IPv4, as
 * Gunicorn does). Returns 0, or -1 with a sentence in `why`. */
int pws_address_parse(pws_address *address, const char *text, char *why,
                      size_t why_room);

/* "127.0.0.1:8000", "[::1]:8000" or "unix:/path", NUL-terminated. Returns dst. */
char *pws_address_format(const pws_address *address, char *dst, size_t room);
#define PWS_ADDRESS_ROOM 128

/* Whether both are one and the same place to listen. */
bool pws_address_same(const pws_address *a, const pws_address *b);

/* The numeric host of `peer` ("" for a Unix peer), NUL-terminated; an IPv4-mapped IPv6
 * address is written as IPv4. Returns its length. */
size_t pws_peer_host(const pws_peer *peer, char *dst);
#define PWS_HOST_ROOM 64

/* The port of `peer` in host order; 0 for a Unix peer. */
unsigned pws_peer_port(const pws_peer *peer);

/* A range of addresses; IPv4 ones are kept as IPv4-mapped IPv6. */
typedef struct {
    uint8_t bytes[16];
    unsigned bits;
} pws_network;

/* Read "ADDRESS" or "ADDRESS/BITS". Returns 0, or -1 when it is neither, or has host
 * bits set. */
int pws_network_parse(pws_network *network, const char *text);

/* Whether `peer` lies in `network`; a Unix peer lies in none. */
bool pws_network_has(const pws_network *network, const pws_peer *peer);

#endif
