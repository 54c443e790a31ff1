#include "proto/uwsgi.h"

#include "proto/chars.h"
#include "proto/forwarded.h"
#include "proto/framing.h"

#define HEADER_SIZE 4u
#define METHOD_MAX 20

/* Values of modifier1; those of uWSGI's other plugins are not for us. */
enum {
    WSGI = 0,
    WSGI_CUT = 30, /* PATH_INFO begins with SCRIPT_NAME, which is to be cut off */
    PING = 100,
};

/* The variables that mean something to us. */
typedef enum {
    METHOD,
    TARGET,
    PATH,
    QUERY,
    SCRIPT,
    PROTOCOL,
    CLIENT,
    CLIENT_PORT,
    SERVER_NAME,
    SERVER_PORT,
    UWSGI_SCHEME,
    HTTPS,
    REQUEST_SCHEME,
    LENGTH,
    TYPE,
    CODING,
    SOFTWARE,
    RAW_URI,
    KNOWN_COUNT,
} known_id;

/* What becomes of a variable. */
typedef enum {
    TAKEN, /* it is in the request; or it is ours to say */
    KEPT,  /* under its whole name */
    FIELD, /* as the field that it is, though it has no "HTTP_" */
} fate;

typedef struct {
    pws_slice name;
    fate fate;
} known_variable;

#define VARIABLE(text, fate)                                                           \
    {                                                                                  \
        {text, sizeof(text) - 1}, fate                                                 \
    }

static const known_variable known[KNOWN_COUNT] = {
    [METHOD] = VARIABLE("REQUEST_METHOD", TAKEN),
    [TARGET] = VARIABLE("REQUEST_URI", TAKEN),
    [PATH] = VARIABLE("PATH_INFO", TAKEN),
    [QUERY] = VARIABLE("QUERY_STRING", TAKEN),
    [SCRIPT] = VARIABLE("SCRIPT_NAME", TAKEN),
    [PROTOCOL] = VARIABLE("SERVER_PROTOCOL", KEPT),
    [CLIENT] = VARIABLE("REMOTE_ADDR", KEPT),
    [CLIENT_PORT] = VARIABLE("REMOTE_PORT", TAKEN), /* see note_client */
    [SERVER_NAME] = VARIABLE("SERVER_NAME", KEPT),
    [SERVER_PORT] = VARIABLE("SERVER_PORT", KEPT),
    [UWSGI_SCHEME] = VARIABLE("UWSGI_SCHEME", KEPT),
    [HTTPS] = VARIABLE("HTTPS", KEPT),
    [REQUEST_SCHEME] = VARIABLE("REQUEST_SCHEME", KEPT),
    [LENGTH] = VARIABLE("CONTENT_LENGTH", FIELD),
    [TYPE] = VARIABLE("CONTENT_TYPE", FIELD),
    /* The body comes without it, but for one case: see judge_length. */
    [CODING] = VARIABLE("HTTP_TRANSFER_ENCODING", TAKEN),
    [SOFTWARE] = VARIABLE("SERVER_SOFTWARE", TAKEN),
    [RAW_URI] = VARIABLE("RAW_URI", TAKEN),
};

/* What uWSGI loads code or opens files by, for whoever reaches its socket. */
static const pws_slice obeyed[] = {
    {"UWSGI_APPID", 11},  {"UWSGI_CACHE_GET", 15}, {"UWSGI_CALLABLE", 14},
    {"UWSGI_CHDIR", 11},  {"UWSGI_FILE", 10},      {"UWSGI_HOME", 10},
    {"UWSGI_MODULE", 12}, {"UWSGI_POSTFILE", 14},  {"UWSGI_PYHOME", 12},
    {"UWSGI_SCRIPT", 12}, {"UWSGI_SETENV", 12},    {"UWSGI_TOUCH_RELOAD", 18},
};

static bool
begins_with(pws_slice text, pws_slice beginning)
{
    return text.len >= beginning.len &&
           memcmp(text.at, beginning.at, beginning.len) == 0;
}

/* ---- The variables ---- */

/* The room was looked at by the caller. */
static void
add(pws_request *req, pws_span name, pws_span value, unsigned flags)
{
    pws_field_id id = PWS_FIELD_UNKNOWN;

    if ((flags & PWS_FIELD_VARIABLE) == 0) {
        id = pws_field_find(req->base + name.at, name.len);
    }
    req->fields[req->field_count] =
        (pws_field){name, value, (uint8_t)id, (uint8_t)(flags | PWS_FIELD_REPLACES)};
    if (id != PWS_FIELD_UNKNOWN) {
        req->present |= (uint64_t)1 << id;
        if (id < PWS_FIELD_PLACED) {
            req->placed[id] = req->field_count;
        }
    }
    req->field_count++;
}

/* "HTTP_..." with a name behind it. CONTENT_TYPE and CONTENT_LENGTH come without it as
 * well, which is what counts; nginx sends both. */
static void
take_field(pws_request *req, pws_span name, pws_span value)
{
    pws_slice text = pws_request_slice(req, name);

    if (pws_slice_eq(text, PWS_SLICE("HTTP_CONTENT_TYPE")) ||
        pws_slice_eq(text, PWS_SLICE("HTTP_CONTENT_LENGTH"))) {
        add(req, name, value, PWS_FIELD_VARIABLE);
        return;
    }
    add(req, (pws_span){name.at + 5, name.len - 5}, value, 0);
}

static void
take_other(pws_request *req, pws_span name, pws_span value)
{
    pws_slice text = pws_request_slice(req, name);

    /* These are objects of ours: a text in their place would break the app. */
    if (begins_with(text, PWS_SLICE("wsgi.")) ||
        begins_with(text, PWS_SLICE("gunicorn."))) {
        return;
    }
    if (begins_with(text, PWS_SLICE("UWSGI_"))) {
        for (size_t i = 0; i < sizeof(obeyed) / sizeof(obeyed[0]); i++) {
            if (pws_slice_eq(text, obeyed[i])) {
                req->inert = name;
            }
        }
    }
    add(req, name, value, PWS_FIELD_VARIABLE);
}

static known_id
find_known(pws_slice name)
{
    known_id id = 0;

    while (id < KNOWN_COUNT && !pws_slice_eq(known[id].name, name)) {
        id++;
    }
    return id;
}

static void
take_variable(pws_request *req, pws_span *said, pws_span name, pws_span value)
{
    pws_slice text = pws_request_slice(req, name);
    known_id id = find_known(text);

    if (id == KNOWN_COUNT) {
        if (text.len > 5 && begins_with(text, PWS_SLICE("HTTP_"))) {
            take_field(req, name, value);
        }
        else {
            take_other(req, name, value);
        }
        return;
    }
    said[id] = value;
    if ((id == SERVER_NAME || id == SERVER_PORT) && value.len == 0) {
        return; /* PEP 3333 wants them to say something: ours do */
    }
    if (known[id].fate == FIELD) {
        add(req, name, value, 0);
    }
    else if (known[id].fate == KEPT) {
        add(req, name, value, PWS_FIELD_VARIABLE);
    }
}

/* Two bytes of length and so many more. Returns false when the block is shorter. */
static bool
read_text(const char *base, uint32_t *at, uint32_t end, pws_span *text)
{
    const unsigned char *bytes = (const unsigned char *)base + *at;
    uint32_t len;

    if (end - *at < 2) {
        return false;
    }
    len = bytes[0] | (uint32_t)bytes[1] << 8;
    *at += 2;
    if (len > end - *at) {
        return false;
    }
    *text = (pws_span){*at, len};
    *at += len;
    return true;
}

static bool
is_name(pws_slice name)
{
    for (size_t i = 0; i < name.len; i++) {
        if (name.at[i] <= ' ' || name.at[i] >= 0x7f) {
            return false;
        }
    }
    return name.len > 0;
}

/* For this variable, and for what note_client adds. The whole room suffices for both:
 * what note_client adds is a variable that was counted, and not added before. */
static bool
has_room(const pws_request *req)
{
    return req->field_count + 1 < req->field_room || req->field_room >= req->field_most;
}

/* All variables in [HEADER_SIZE, end); `said` gets the values of the known ones. */
static int
read_block(pws_request *req, pws_span *said, uint32_t end)
{
    uint32_t at = HEADER_SIZE, count = 0;
    pws_span name, value;

    while (at < end) {
        if (count++ == req->field_most) {
            return pws_refuse(req, 431, "too many uwsgi variables");
        }
        if (!has_room(req) && pws_request_grow(req) != 0) {
            return 431;
        }
        if (!read_text(req->base, &at, end, &name)) {
            return pws_refuse(req, 400, "name of a uwsgi variable beyond its block");
        }
        if (!is_name(pws_request_slice(req, name))) {
            return pws_refuse(req, 400, "malformed name of a uwsgi variable");
        }
        if (!read_text(req->base, &at, end, &value)) {
            return pws_refuse(req, 400, "value of a uwsgi variable beyond its block");
        }
        take_variable(req, said, name, value);
    }
    return 0;
}

/* ---- What they mean ---- */

/* No value of a packet is at its first byte. */
static bool
was_sent(pws_span span)
{
    return span.at > 0;
}

static int
judge_method(pws_request *req, pws_span span)
{
    pws_slice method = pws_request_slice(req, span);

    if (method.len == 0) {
        return pws_refuse(req, 400, "no REQUEST_METHOD in the uwsgi variables");
    }
    for (size_t i = 0; i < method.len; i++) {
        if (!pws_is_token(method.at[i]) || method.len > METHOD_MAX) {
            return pws_refuse(req, 400, "malformed REQUEST_METHOD");
        }
    }
    req->method = span;
    req->head = pws_slice_eq(method, PWS_SLICE("HEAD"));
    return 0;
}

/* Without CONTENT_LENGTH, which nginx always sends, a chunked body is in its chunks. An
 * empty one says that there is none. */
static int
judge_length(pws_request *req, const pws_span *said)
{
    pws_slice length = pws_request_slice(req, said[LENGTH]);
    pws_slice coding = pws_request_slice(req, said[CODING]);

    if (length.len > 0) {
        if (pws_parse_length(length, &req->length) < 0) {
            return pws_refuse(req, 400, "malformed CONTENT_LENGTH");
        }
        req->body = req->length > 0 ? PWS_BODY_LENGTH : PWS_BODY_NONE;
    }
    else if (!was_sent(said[LENGTH]) && coding.len > 0) {
        if (!pws_slice_eq_nocase(coding, PWS_SLICE("chunked"))) {
            return pws_refuse(req, 501, "transfer coding other than chunked");
        }
        req->body = PWS_BODY_CHUNKED;
    }
    return 0;
}

/* Cut SCRIPT_NAME off the path, where that begins with it as whole segments. */
static void
cut_script_name(pws_request *req)
{
    pws_slice name = pws_request_slice(req, req->script_name);
    pws_slice path = pws_request_slice(req, req->path);

    if (begins_with(path, name) && (path.len == name.len || path.at[name.len] == '/')) {
        req->path.at += req->script_name.len;
        req->path.len -= req->script_name.len;
    }
}

/* What is not there is made of the target. */
static void
note_target(pws_request *req, const pws_span *said)
{
    pws_slice target = pws_request_slice(req, said[TARGET]);
    const char *mark = target.len > 0 ? memchr(target.at, '?', target.len) : NULL;
    uint32_t path_len =
        mark != NULL ? (uint32_t)(mark - target.at) : (uint32_t)target.len;

    req->target = said[TARGET];
    req->path = said[PATH];
    req->query = said[QUERY];
    req->script_name = said[SCRIPT];
    req->path_is_cut = was_sent(said[SCRIPT]);
    if (!was_sent(said[PATH])) {
        req->path = (pws_span){said[TARGET].at, path_len};
        req->path_escaped = path_len > 0 && memchr(target.at, '%', path_len) != NULL;
    }
    if (!was_sent(said[QUERY]) && mark != NULL) {
        req->query =
            (pws_span){said[TARGET].at + path_len + 1, said[TARGET].len - path_len - 1};
    }
    if (req->base[0] == WSGI_CUT || !was_sent(said[PATH])) {
        cut_script_name(req);
    }
}

/* The first of the three that says something. */
static void
note_scheme(pws_request *req, const pws_span *said)
{
    pws_slice https = pws_request_slice(req, said[HTTPS]);
    pws_slice scheme = pws_request_slice(req, said[UWSGI_SCHEME]);

    if (scheme.len == 0 && https.len > 0) {
        req->https = pws_slice_eq_nocase(https, PWS_SLICE("on")) ||
                     pws_slice_eq(https, PWS_SLICE("1"));
        req->has_scheme = true;
        return;
    }
    if (scheme.len == 0) {
        scheme = pws_request_slice(req, said[REQUEST_SCHEME]);
    }
    req->https = pws_slice_eq_nocase(scheme, PWS_SLICE("https"));
    req->has_scheme = scheme.len > 0;
}

/* A port without an address would be joined to the address of the front end. */
static void
note_client(pws_request *req, const pws_span *said)
{
    uint32_t len = (uint32_t)known[CLIENT_PORT].name.len;
    pws_span port = said[CLIENT_PORT];

    req->client = said[CLIENT];
    req->has_client = was_sent(said[CLIENT]);
    if (req->has_client && was_sent(port)) {
        add(req, (pws_span){port.at - 2 - len, len}, port, PWS_FIELD_VARIABLE);
    }
}

static int
take_block(pws_request *req, uint32_t end)
{
    pws_span said[KNOWN_COUNT] = {{0, 0}};
    int status = read_block(req, said, end);

    if (status != 0 || (status = judge_method(req, said[METHOD])) != 0) {
        return status;
    }
    note_target(req, said);
    note_scheme(req, said);
    req->protocol = said[PROTOCOL];
    note_client(req, said);
    req->has_server = said[SERVER_NAME].len > 0 && said[SERVER_PORT].len > 0;
    return judge_length(req, said);
}

/* ---- The packet ---- */

/* What else is spoken to a socket where nginx was expected. */
static const char *
other_protocol(const char *base)
{
    unsigned letters = 0;

    if (base[0] == 0x16 && base[1] == 3) {
        return "TLS spoken to a uwsgi socket";
    }
    while (letters < HEADER_SIZE && (base[letters] >= 'A' && base[letters] <= 'Z')) {
        letters++;
    }
    if (letters == HEADER_SIZE || (letters == 3 && base[letters] == ' ')) {
        return "HTTP spoken to a uwsgi socket";
    }
    return NULL;
}

static int
read_header(pws_head *parser, pws_request *req)
{
    const char *other = other_protocol(req->base);

    if (other != NULL) {
        return pws_refuse(req, 400, other);
    }
    if (req->base[0] == PING) {
        parser->stage = PWS_HEAD_PING;
    }
    else if (req->base[0] == WSGI || req->base[0] == WSGI_CUT) {
        parser->stage = PWS_HEAD_FIELDS;
        parser->at = HEADER_SIZE;
    }
    else {
        return pws_refuse(req, 501, "uwsgi modifier1 other than 0, 30 and 100");
    }
    return 0;
}

int
pws_uwsgi_parse(pws_head *parser, pws_request *req, char *base, uint32_t len)
{
    const unsigned char *bytes = (const unsigned char *)base;
    uint32_t end;
    int status = 0;

    req->base = base;
    if (parser->stage == PWS_HEAD_LINE && len >= HEADER_SIZE) {
        status = read_header(parser, req);
    }
    if (parser->stage == PWS_HEAD_FIELDS) {
        end = HEADER_SIZE + (bytes[1] | (uint32_t)bytes[2] << 8);
        if (len >= end) {
            parser->stage = PWS_HEAD_DONE;
            parser->at = end;
            status = take_block(req, end);
        }
    }
    parser->seen = len;
    return status;
}

int
pws_uwsgi_judge(pws_request *req, const pws_rules *rules, bool trusted)
{
    int status = 0;

    if (!req->has_scheme && trusted) {
        status = pws_forwarded_scheme(req, rules);
    }
    return status != 0 ? status : pws_request_judge_size(req, rules);
}
