/* canned_server.c - the engine alone: every request gets the same answer, from C.
 *
 * Usage: canned_server BIND. Prints the address, serves until SIGTERM, and measures
 * what the engine costs without Python. */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>

#include "engine/engine.h"

static pws_engine engine;
static volatile sig_atomic_t stop;

static void
on_term(int signal_number)
{
    (void)signal_number;
    stop = 1;
    pws_engine_wake(&engine);
}

static bool
answer(void *context, pws_exchange *x)
{
    static const pws_header type = {PWS_SLICE("Content-Type"), PWS_SLICE("text/plain")};
    const char *why;

    (void)context;
    if (pws_exchange_start(x, PWS_SLICE("200 OK"), &type, 1, 13, &why) == 0) {
        (void)pws_exchange_write(x, "Hello, world!", 13, NULL);
        (void)pws_exchange_finish(x);
    }
    return true;
}

int
main(int argc, char **argv)
{
    static const pws_engine_config config = {
        .rules = {4094, 100, 8190, PWS_HEAD_MAX, 0, PWS_HEADER_MAP_DROP, NULL, 0, false,
                  NULL, 0},
        .worker_connections = 10000,
        .header_timeout_ms = 10000,
        .body_timeout_ms = 10000,
        .send_timeout_ms = 10000,
        .keepalive_ms = 60000,
        .request_buffering = true,
        .body_buffer_size = 1 << 20,
        .response_spool_limit = 1 << 28,
        .spool_dir = "/tmp",
        .server = {"canned", 6},
    };
    const pws_listener_options options = {
        .backlog = 1024, .uid = (uid_t)-1, .gid = (gid_t)-1};
    pws_address address;
    pws_listener listener;
    char text[256];

    if (argc != 2 || pws_address_parse(&address, argv[1], text, sizeof(text)) < 0 ||
        pws_listener_open(&listener, &address, &options, text, sizeof(text)) < 0 ||
        pws_engine_init(&engine, &config, &listener, 1) < 0 ||
        pws_engine_add_handler(&engine, answer, NULL) < 0) {
        perror("canned_server");
        return EXIT_FAILURE;
    }
    signal(SIGTERM, on_term);
    printf("%s\n", pws_address_format(&listener.address, text, sizeof(text)));
    fflush(stdout);
    while (!stop) {
        if (pws_engine_next(&engine) == NULL && pws_engine_poll(&engine, 1, -1) < 0) {
            break;
        }
    }
    pws_engine_close(&engine);
    pws_listener_close(&listener);
    return EXIT_SUCCESS;
}
