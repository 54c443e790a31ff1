#include "proto/field_line.h"

#if defined(__SSE2__) && !defined(PWS_PORTABLE)

#include <emmintrin.h>
#include <string.h>

#include "proto/chars.h"

/* Longer names are left to others; all known ones are shorter. */
#define NAME_ROOM PWS_FIELD_NAME_ROOM

typedef struct {
    __m128i low, high;
} name_block;

static __m128i
load(const char *at)
{
    return _mm_loadu_si128((const __m128i *)(const void *)at);
}

static void
store(char *at, __m128i bytes)
{
    _mm_storeu_si128((__m128i *)(void *)at, bytes);
}

/* The first bytes of a line of which `left` are there; zeros behind the end. */
static name_block
load_block(const char *at, uint32_t left)
{
    char copy[NAME_ROOM] = {0};

    if (left >= NAME_ROOM) {
        return (name_block){load(at), load(at + 16)};
    }
    memcpy(copy, at, left);
    return (name_block){load(copy), load(copy + 16)};
}

/* A bit for each byte that is `c`. */
static uint32_t
where_is(name_block block, char c)
{
    __m128i all = _mm_set1_epi8(c);

    return (uint32_t)_mm_movemask_epi8(_mm_cmpeq_epi8(block.low, all)) |
           (uint32_t)_mm_movemask_epi8(_mm_cmpeq_epi8(block.high, all)) << 16;
}

/* Small letters as capital ones, '-' as '_'; all other bytes stay. */
static __m128i
cgi_of(__m128i c)
{
    const __m128i before_a = _mm_set1_epi8('a' - 1), behind_z = _mm_set1_epi8('z' + 1);
    __m128i small =
        _mm_and_si128(_mm_cmpgt_epi8(c, before_a), _mm_cmplt_epi8(c, behind_z));
    __m128i dash = _mm_cmpeq_epi8(c, _mm_set1_epi8('-'));

    c = _mm_xor_si128(c, _mm_and_si128(small, _mm_set1_epi8('a' ^ 'A')));
    return _mm_xor_si128(c, _mm_and_si128(dash, _mm_set1_epi8('-' ^ '_')));
}

/* The name alone, zeros behind it. */
static name_block
cut_block(name_block block, uint32_t len)
{
    static const uint8_t ones[2 * NAME_ROOM] = {
        0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
        0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
        0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff};
    const char *mask = (const char *)ones + NAME_ROOM - len;

    return (name_block){_mm_and_si128(block.low, load(mask)),
                        _mm_and_si128(block.high, load(mask + 16))};
}

/* Turn a name into CGI spelling, in the buffer. Returns false when it is no token. */
static bool
spell(char *name, uint32_t len, unsigned *flags)
{
    unsigned seen = 0;

    for (uint32_t i = 0; i < len; i++) {
        uint8_t c = pws_cgi[(unsigned char)name[i]];

        if (c == 0) {
            return false;
        }
        seen |= c;
        name[i] = (char)(c & 0x7f);
    }
    *flags = (seen & PWS_CGI_UNDERSCORE) != 0 ? PWS_FIELD_UNDERSCORE : 0u;
    return true;
}

/* Find out the id of the name, and spell it. Returns false when it is no token: then
 * what has been spelled of it does not matter, since it stays none. */
static bool
read_name(char *at, uint32_t len, name_block block, pws_field *field)
{
    char name[NAME_ROOM];
    unsigned flags = 0;

    field->id = PWS_FIELD_UNKNOWN;
    block = cut_block(block, len);
    if (where_is(block, '_') == 0) {
        block = (name_block){cgi_of(block.low), cgi_of(block.high)};
        store(name, block.low);
        store(name + 16, block.high);
        field->id = (uint8_t)pws_field_find_padded(name, len);
    }
    if (field->id != PWS_FIELD_UNKNOWN) {
        memcpy(at, name, len);
    }
    else if (!spell(at, len, &flags)) {
        return false;
    }
    field->flags = (uint8_t)flags;
    return true;
}

uint32_t
pws_field_line_read(char *base, pws_line_start start, pws_field *field)
{
    const uint32_t at = start.at, left = start.bound - at;
    name_block block = load_block(base + at, left);
    uint32_t colons = where_is(block, ':'), value, end, name_len;

    if (colons == 0 || (colons & 1) != 0) {
        return 0;
    }
    name_len = (uint32_t)__builtin_ctz(colons);
    value = at + name_len + 1;
    end = value + (uint32_t)pws_field_value_span(base + value, start.bound - value);
    if (start.bound - end < 2 || base[end] != '\r' || base[end + 1] != '\n' ||
        !read_name(base + at, name_len, block, field)) {
        return 0;
    }
    start.bound = end + 2;
    while (value < end && (base[value] == ' ' || base[value] == '\t')) {
        value++;
    }
    while (end > value && (base[end - 1] == ' ' || base[end - 1] == '\t')) {
        end--;
    }
    field->name = (pws_span){at, name_len};
    field->value = (pws_span){value, end - value};
    return start.bound;
}

#else

uint32_t
pws_field_line_read(char *base, pws_line_start start, pws_field *field)
{
    (void)base;
    (void)start;
    (void)field;
    return 0;
}

#endif
