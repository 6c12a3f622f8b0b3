/* table.c - the names of methods, fields and statuses (declared in puff/http.h). */
#include "puff/http.h"

#include <string.h>

#define PUFF_HTTP_X(id, name) {name, sizeof(name) - 1},
static const puff_str methods[PUFF_HTTP_METHOD_COUNT] = {{NULL, 0}, PUFF_HTTP_METHODS(PUFF_HTTP_X)};
static const puff_str fields[PUFF_HTTP_FIELD_COUNT] = {{NULL, 0}, PUFF_HTTP_FIELDS(PUFF_HTTP_X)};
#undef PUFF_HTTP_X

/* PUFF_HTTP_FIELDS is sorted by length, so the names of one length are neighbours: [len] is the
 * first of them, [len + 1] the end. A test compares this with the list. */
#define F(id) PUFF_HTTP_FIELD_##id
static const uint8_t first_of_len[] = {
    1,
    1,
    F(TE),                             /* 2 */
    F(AGE),                            /* 3 */
    F(DATE),                           /* 4 */
    F(ALLOW),                          /* 5 */
    F(ACCEPT),                         /* 6 */
    F(ALT_SVC),                        /* 7 */
    F(IF_MATCH),                       /* 8 */
    F(FORWARDED),                      /* 9 */
    F(CONNECTION),                     /* 10 */
    F(RETRY_AFTER),                    /* 11 */
    F(CONTENT_TYPE),                   /* 12 */
    F(ACCEPT_RANGES),                  /* 13 */
    F(ACCEPT_CHARSET),                 /* 14 */
    F(ACCEPT_ENCODING),                /* 15 */
    F(CONTENT_ENCODING),               /* 16 */
    F(IF_MODIFIED_SINCE),              /* 17 */
    F(SEC_CH_UA_PLATFORM),             /* 18 */
    F(CONTENT_DISPOSITION),            /* 19 */
    F(SEC_WEBSOCKET_VERSION),          /* 20: none */
    F(SEC_WEBSOCKET_VERSION),          /* 21 */
    F(SEC_WEBSOCKET_PROTOCOL),         /* 22 */
    F(CONTENT_SECURITY_POLICY),        /* 23 */
    F(SEC_WEBSOCKET_EXTENSIONS),       /* 24 */
    F(STRICT_TRANSPORT_SECURITY),      /* 25 */
    F(ACCESS_CONTROL_REQUEST_METHOD),  /* 26: none */
    F(ACCESS_CONTROL_REQUEST_METHOD),  /* 27: none */
    F(ACCESS_CONTROL_REQUEST_METHOD),  /* 28: none */
    F(ACCESS_CONTROL_REQUEST_METHOD),  /* 29 */
    F(ACCESS_CONTROL_REQUEST_HEADERS), /* 30 */
    F(COUNT),
};
#undef F
enum { MAX_LEN = sizeof first_of_len - 2 };

puff_str puff_http_field_name(enum puff_http_field_id id) { return fields[id]; }

/* A handful of candidates per length, told apart by their last byte nearly always. */
enum puff_http_field_id puff_http_field_id_of(puff_str name) {
    if (name.len > MAX_LEN || name.len == 0) return PUFF_HTTP_FIELD_OTHER;
    const char last = name.ptr[name.len - 1];
    for (int id = first_of_len[name.len]; id < first_of_len[name.len + 1]; id++)
        if (fields[id].ptr[name.len - 1] == last && memcmp(fields[id].ptr, name.ptr, name.len) == 0)
            return (enum puff_http_field_id)id;
    return PUFF_HTTP_FIELD_OTHER;
}

puff_str puff_http_method_name(enum puff_http_method m) { return methods[m]; }

#define S(status, phrase) \
    case status: return PUFF_STR(phrase)

puff_str puff_http_status_text(int status) {
    switch (status) {
        S(100, "Continue");
        S(101, "Switching Protocols");
        S(102, "Processing");
        S(103, "Early Hints");
        S(200, "OK");
        S(201, "Created");
        S(202, "Accepted");
        S(203, "Non-Authoritative Information");
        S(204, "No Content");
        S(205, "Reset Content");
        S(206, "Partial Content");
        S(207, "Multi-Status");
        S(208, "Already Reported");
        S(226, "IM Used");
        S(300, "Multiple Choices");
        S(301, "Moved Permanently");
        S(302, "Found");
        S(303, "See Other");
        S(304, "Not Modified");
        S(305, "Use Proxy");
        S(307, "Temporary Redirect");
        S(308, "Permanent Redirect");
        S(400, "Bad Request");
        S(401, "Unauthorized");
        S(402, "Payment Required");
        S(403, "Forbidden");
        S(404, "Not Found");
        S(405, "Method Not Allowed");
        S(406, "Not Acceptable");
        S(407, "Proxy Authentication Required");
        S(408, "Request Timeout");
        S(409, "Conflict");
        S(410, "Gone");
        S(411, "Length Required");
        S(412, "Precondition Failed");
        S(413, "Content Too Large");
        S(414, "URI Too Long");
        S(415, "Unsupported Media Type");
        S(416, "Range Not Satisfiable");
        S(417, "Expectation Failed");
        S(418, "I'm a teapot");
        S(421, "Misdirected Request");
        S(422, "Unprocessable Content");
        S(423, "Locked");
        S(424, "Failed Dependency");
        S(425, "Too Early");
        S(426, "Upgrade Required");
        S(428, "Precondition Required");
        S(429, "Too Many Requests");
        S(431, "Request Header Fields Too Large");
        S(451, "Unavailable For Legal Reasons");
        S(500, "Internal Server Error");
        S(501, "Not Implemented");
        S(502, "Bad Gateway");
        S(503, "Service Unavailable");
        S(504, "Gateway Timeout");
        S(505, "HTTP Version Not Supported");
        S(506, "Variant Also Negotiates");
        S(507, "Insufficient Storage");
        S(508, "Loop Detected");
        S(511, "Network Authentication Required");
    }
    return (puff_str){NULL, 0};
}
