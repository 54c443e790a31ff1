/* portable.h - the parser of heads as it is where there are no vectors, to compare. */
#ifndef PWS_TESTS_PORTABLE_H
#define PWS_TESTS_PORTABLE_H

#include "proto/http1.h"

int portable_http1_parse(pws_head *parser, const pws_rules *rules, pws_request *req,
                         char *base, uint32_t len);

#endif
