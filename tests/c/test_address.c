/* Addresses, peers and networks. */
#include "harness.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <string.h>

#include "engine/address.h"

TEST(bind_strings_are_understood)
{
    static const char *const cases[][2] = {
        {"127.0.0.1:80", "127.0.0.1:80"},
        {"127.0.0.1", "127.0.0.1:8000"},
        {":9000", "0.0.0.0:9000"},
        {"tcp://10.1.2.3:1", "10.1.2.3:1"},
        {"localhost:65535", "127.0.0.1:65535"},
        {"[::1]:80", "[::1]:80"},
        {"[::]", "[::]:8000"},
        {"tcp://[fe80::1]:0", "[fe80::1]:0"},
        {"unix:/run/a.sock", "unix:/run/a.sock"},
        {"unix:///run/a.sock", "unix:/run/a.sock"},
        {"unix:a.sock", "unix:a.sock"},
    };
    char text[PWS_ADDRESS_ROOM], why[256];
    pws_address address;

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        CHECK_EQ(pws_address_parse(&address, cases[i][0], why, sizeof(why)), 0);
        CHECK_EQ(address.inherited_fd, -1);
        pws_address_format(&address, text, sizeof(text));
        if (strcmp(text, cases[i][1]) != 0) {
            harness_fail(__FILE__, __LINE__, text);
        }
    }
    CHECK_EQ(pws_address_parse(&address, "fd://17", why, sizeof(why)), 0);
    CHECK_EQ(address.inherited_fd, 17);
}

TEST(bad_bind_strings_are_refused_with_a_sentence)
{
    static const char *const cases[] = {
        "127.0.0.1:65536",
        "127.0.0.1:",
        "127.0.0.1:x",
        "127.0.0.1:-1",
        "127.0.0.1: 80",
        "8000",
        "::1",
        "::1:80",
        "[::1",
        "[::1]80",
        "[127.0.0.1]:1",
        "[]:1",
        "unix:",
        "unix://",
        "fd://",
        "fd://x",
        "fd://-1",
        "fd://99999999999999999999",
        "1.2.3.4.5.invalid:1",
        "127.0.0.1:99999999999999999999",
    };
    char why[256], longer[400];
    pws_address address;

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        why[0] = '\0';
        if (pws_address_parse(&address, cases[i], why, sizeof(why)) == 0 ||
            strlen(why) < 10) {
            harness_fail(__FILE__, __LINE__, cases[i]);
        }
    }
    memset(longer, 'a', sizeof(longer));
    memcpy(longer, "unix:", 5);
    longer[5 + 108] = '\0';
    CHECK_EQ(pws_address_parse(&address, longer, why, sizeof(why)), -1);
    longer[5 + 107] = '\0';
    CHECK_EQ(pws_address_parse(&address, longer, why, sizeof(why)), 0);
    memset(longer, 'a', 300);
    longer[300] = '\0';
    CHECK_EQ(pws_address_parse(&address, longer, why, sizeof(why)), -1);
    CHECK_EQ(pws_address_parse(&address, longer, why, 5), -1);
    CHECK_EQ(strlen(why), 4);
}

TEST(a_path_of_full_length_is_written_within_its_bounds)
{
    pws_address *address;
    pws_address full;
    char text[PWS_ADDRESS_ROOM];

    memset(&full, 'p', sizeof(full));
    full.sa.local.sun_family = AF_UNIX;
    address = (pws_address *)(void *)guarded(&full, sizeof(full));
    pws_address_format(address, text, sizeof(text));
    CHECK_EQ(strlen(text), 5 + sizeof(full.sa.local.sun_path));
}

static pws_peer
peer_of(const char *host)
{
    pws_peer peer;

    memset(&peer, 0, sizeof(peer));
    if (inet_pton(AF_INET, host, &peer.v4.sin_addr) == 1) {
        peer.v4.sin_family = AF_INET;
        peer.v4.sin_port = htons(77);
    }
    else if (inet_pton(AF_INET6, host, &peer.v6.sin6_addr) == 1) {
        peer.v6.sin6_family = AF_INET6;
        peer.v6.sin6_port = htons(77);
    }
    else {
        peer.any.sa_family = AF_UNIX;
    }
    return peer;
}

TEST(a_peer_has_a_host_and_a_port)
{
    static const char *const cases[][2] = {{"10.0.0.1", "10.0.0.1"},
                                           {"2001:db8::7", "2001:db8::7"},
                                           {"::ffff:10.0.0.1", "10.0.0.1"},
                                           {"unix", ""}};
    char host[PWS_HOST_ROOM];

    for (size_t i = 0; i < 4; i++) {
        pws_peer peer = peer_of(cases[i][0]);

        CHECK_EQ(pws_peer_host(&peer, host), strlen(cases[i][1]));
        CHECK_EQ(strcmp(host, cases[i][1]), 0);
        CHECK_EQ(pws_peer_port(&peer), i < 3 ? 77 : 0);
    }
}

TEST(networks_hold_their_addresses)
{
    static const struct {
        const char *network, *host;
        bool has;
    } cases[] = {
        {"127.0.0.1", "127.0.0.1", true},
        {"127.0.0.1", "127.0.0.2", false},
        {"10.0.0.0/8", "10.255.255.255", true},
        {"10.0.0.0/8", "11.0.0.0", false},
        {"10.0.0.0/8", "::ffff:10.1.2.3", true},
        {"192.168.8.0/21", "192.168.15.1", true},
        {"192.168.8.0/21", "192.168.16.1", false},
        {"0.0.0.0/0", "1.2.3.4", true},
        {"0.0.0.0/0", "::1", false},
        {"::/0", "1.2.3.4", false},
        {"::1", "::1", true},
        {"::1", "::2", false},
        {"2001:db8::/33", "2001:db8:7fff::", true},
        {"2001:db8::/33", "2001:db8:8000::", false},
        {"::ffff:10.0.0.0/104", "10.1.1.1", true},
        {"::/0", "unix", false},
        {"10.1.2.3/32", "10.1.2.3", true},
        {"::1/128", "::1", true},
    };

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        pws_peer peer = peer_of(cases[i].host);
        pws_network network;

        if (pws_network_parse(&network, cases[i].network) < 0 ||
            pws_network_has(&network, &peer) != cases[i].has) {
            printf("    %s %s\n", cases[i].network, cases[i].host);
            harness_fail(__FILE__, __LINE__, "a network");
        }
    }
}

TEST(what_is_no_network_is_refused)
{
    static const char *const cases[] = {
        "",
        "10.0.0.1/8",
        "10.0.0.0/33",
        "10.0.0.0/",
        "10.0.0.0/-1",
        "10.0.0",
        "::1/127",
        "::/129",
        "localhost",
        "10.0.0.0/8/8",
        "10.0.0.0 ",
        "*",
        "fe80::1%lo",
        "10.0.0.0/8 ",
        "0000000000000000000000000000000000000000000000000000000000000000000000000000",
    };
    pws_network network;

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        if (pws_network_parse(&network, cases[i]) == 0) {
            harness_fail(__FILE__, __LINE__, cases[i]);
        }
    }
}
