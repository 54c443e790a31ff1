/* model_driver.c - lets tests/unit/test_model.py ask the C code.
 *
 * Each line of stdin is a question, with bytes in hexadecimal ("-" for none):
 *
 *     head <line> <fields> <size> <head> <body> <map> <peer> <cut> <bytes>
 *     chunked <body> <fields> <size> <cut> <bytes>
 *     authority <bytes>
 *     decode <bytes>
 *     length <bytes>
 *     date <seconds>
 *
 * and gets one line of JSON. <peer>: 0 not trusted, 1 trusted, 2 trusted with any name.
 */
#include <inttypes.h>

#include "base/clock.h"
#include "feed.h"
#include "proto/chars.h"
#include "proto/framing.h"
#include "proto/target.h"

static const pws_slice forwarders[] = {{"SCRIPT_NAME", 11}, {"PATH_INFO", 9}};
static const pws_scheme_field schemes[] = {{{"X_FORWARDED_PROTO", 17}, {"https", 5}},
                                           {{"X_FORWARDED_SSL", 15}, {"on", 2}}};

/* Turn hexadecimal into bytes in place. */
static pws_slice
unhex(char *text)
{
    size_t n = 0;

    while (pws_hex_value(text[2 * n]) >= 0) {
        text[n] =
            (char)(pws_hex_value(text[2 * n]) * 16 + pws_hex_value(text[2 * n + 1]));
        n++;
    }
    return (pws_slice){text, n};
}

static void
answer_head(char *bytes, const unsigned long *n)
{
    static feed_head_result r;
    pws_rules rules = {
        .line_max = (uint32_t)n[0],
        .fields_max = (uint32_t)n[1],
        .field_size_max = (uint32_t)n[2],
        .head_max = (uint32_t)n[3],
        .body_max = n[4],
        .header_map = (pws_header_map)n[5],
        .forwarder_fields = forwarders,
        .forwarder_count = 2,
        .forwarder_any = n[6] == 2,
        .scheme_fields = schemes,
        .scheme_count = 2,
    };
    pws_slice text = unhex(bytes);

    feed_head(&r, FEED_BLOCKS, &rules, n[6] != 0, text.at, text.len, (unsigned)n[7]);
    feed_print_head(stdout, &r);
    feed_block_release();
}

static void
answer_chunked(char *bytes, const unsigned long *n)
{
    feed_body_result r;
    pws_rules rules = {.body_max = n[0],
                       .fields_max = (uint32_t)n[1],
                       .field_size_max = (uint32_t)n[2]};
    pws_slice text = unhex(bytes);

    feed_body(&r, FEED_BLOCKS, &rules, text.at, text.len, (unsigned)n[3]);
    feed_print_body(stdout, &r);
    free(r.body);
}

static void
answer_bytes(const char *kind, char *bytes)
{
    pws_slice text = unhex(bytes);
    char *copy = feed_block(text.at, text.len);

    text.at = copy;
    if (strcmp(kind, "authority") == 0) {
        printf("%d\n", pws_authority_valid(text));
    }
    else if (strcmp(kind, "decode") == 0) {
        text.len = pws_percent_decode(copy, text);
        fputs("{\"status\":0", stdout);
        feed_print_bytes(stdout, "bytes", text);
        fputs("}\n", stdout);
    }
    else {
        uint64_t value = 0;
        int status = pws_parse_length(text, &value);

        printf("{\"status\":%d,\"value\":%" PRIu64 "}\n", status, value);
    }
    feed_block_release();
}

static void
answer_date(const char *seconds)
{
    static const char empty[PWS_HTTP_DATE_LEN];
    char *date = feed_block(empty, sizeof(empty));

    pws_http_date(date, strtoll(seconds, NULL, 10));
    printf("\"%.*s\"\n", PWS_HTTP_DATE_LEN, date);
    feed_block_release();
}

int
main(void)
{
    char *line = NULL;
    size_t room = 0;

    while (getline(&line, &room, stdin) > 0) {
        char *words[12], *rest = NULL;
        unsigned long numbers[12];
        size_t count = 0;

        for (char *word = strtok_r(line, " \n", &rest); word != NULL && count < 12;
             word = strtok_r(NULL, " \n", &rest)) {
            numbers[count] = strtoul(word, NULL, 10);
            words[count++] = word;
        }
        if (count == 10 && strcmp(words[0], "head") == 0) {
            answer_head(words[9], numbers + 1);
        }
        else if (count == 6 && strcmp(words[0], "chunked") == 0) {
            answer_chunked(words[5], numbers + 1);
        }
        else if (count == 2 && strcmp(words[0], "date") == 0) {
            answer_date(words[1]);
        }
        else if (count == 2) {
            answer_bytes(words[0], words[1]);
        }
        else {
            return 2;
        }
    }
    free(line);
    return 0;
}
