/* portable.c - proto/http1.c and what it scans with, byte by byte, under other names.
 */
#define PWS_PORTABLE
#define pws_cgi portable_cgi
#define pws_target_char portable_target_char
#define pws_host_char portable_host_char
#define pws_hex_value portable_hex_value
#define pws_field_value_span portable_field_value_span
#define pws_is_token_text portable_is_token_text
#define pws_target_span portable_target_span
#define pws_same_span portable_same_span
#define pws_field_line_read portable_field_line_read
#define pws_http1_parse_line portable_http1_parse_line
#define pws_http1_parse portable_http1_parse

#include "../../csrc/proto/chars.c"
#include "../../csrc/proto/field_line.c"
#include "../../csrc/proto/http1.c"
