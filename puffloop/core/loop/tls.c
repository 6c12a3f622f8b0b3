/* tls.c - the TLS engine: ciphertext in, plaintext out, and the other way. It does no I/O.
 *
 * The records are OpenSSL's; ours is the BIO under it, one for both directions:
 *
 *   feed() -> [rest | what was fed, borrowed] --bio_read--> SSL --read()--> the caller's memory
 *   write() -> SSL --bio_write--> sink (a stream's queue), or `out` until somebody takes it
 *
 * So a record is copied once on its way in (into OpenSSL's buffer, which decrypts in place), once
 * on its way out, and a connection that is idle owns no buffer at all: OpenSSL gives its own back
 * (SSL_MODE_RELEASE_BUFFERS), and what was fed is kept only where it is not read to its end.
 *
 * The SSL may outlive us (an interpreter's object holds it too): its BIO is then cut off, reads
 * find nothing and writes go nowhere.
 */
#include <openssl/err.h>
#include <openssl/ssl.h>

#include <assert.h>
#include <ctype.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

#include "puff/loop.h"

struct puff_tls {
    SSL *ssl; /* owned: one reference */
    BIO *bio; /* owned: one reference; its data is this */
    const puff_alloc *alloc;
    const char *in; /* ciphertext not yet read: borrowed, or in rest */
    size_t in_len;
    size_t n_partial; /* bytes that OpenSSL holds of a record that is not whole */
    puff_buf rest;    /* what was kept */
    puff_buf out;     /* without a sink */
    puff_tls_sink sink;
    void *sink_arg; /* borrowed */
    bool no_memory; /* why the BIO has failed */
};

/* ---- the BIO ---- */

static int bio_read(BIO *bio, char *buf, int cap) {
    puff_tls *t = BIO_get_data(bio);
    BIO_clear_retry_flags(bio);
    if (!t || t->in_len == 0) {
        BIO_set_retry_read(bio);
        return -1;
    }
    size_t n = (size_t)cap < t->in_len ? (size_t)cap : t->in_len;
    memcpy(buf, t->in, n);
    t->in += n;
    t->in_len -= n;
    t->n_partial += n;
    return (int)n;
}

static int bio_write(BIO *bio, const char *data, int len) {
    puff_tls *t = BIO_get_data(bio);
    BIO_clear_retry_flags(bio);
    if (!t) return len;
    int rc = t->sink ? t->sink(t->sink_arg, data, (size_t)len)
                     : puff_buf_append(&t->out, data, (size_t)len);
    if (rc == 0) return len;
    t->no_memory = true;
    return -1;
}

static long bio_ctrl(BIO *bio, int cmd, long larg, void *parg) {
    puff_tls *t = BIO_get_data(bio);
    switch (cmd) {
    case BIO_CTRL_FLUSH: return 1;
    case BIO_CTRL_PENDING: return t ? (long)t->in_len : 0;
    case BIO_CTRL_WPENDING: return t ? (long)t->out.len : 0;
    default: return 0; /* among them BIO_CTRL_EOF: more may always come */
    }
}

static BIO_METHOD *bio_method_new(void) {
    BIO_METHOD *m = BIO_meth_new(BIO_get_new_index() | BIO_TYPE_SOURCE_SINK, "puff");
    if (m && BIO_meth_set_read(m, bio_read) && BIO_meth_set_write(m, bio_write) &&
        BIO_meth_set_ctrl(m, bio_ctrl))
        return m;
    BIO_meth_free(m);
    return NULL;
}

/* A table of functions that OpenSSL wants made at run time: the same for every loop and thread, and
 * as constant as one of the compiler's once it is there. A BIO may outlive any loop, hence never freed. */
static BIO_METHOD *bio_method(void) {
    static _Atomic(BIO_METHOD *) made;
    BIO_METHOD *m = atomic_load(&made), *none = NULL;
    if (m || !(m = bio_method_new())) return m;
    if (atomic_compare_exchange_strong(&made, &none, m)) return m;
    BIO_meth_free(m);
    return none;
}

/* ---- errors ---- */

/* "wrong version number" -> "WRONG_VERSION_NUMBER": how OpenSSL's own headers name it. */
static void name_of_reason(char *out, size_t cap, const char *text) {
    size_t n = 0;
    for (; text[n] && n + 1 < cap; n++)
        out[n] = isalnum((unsigned char)text[n]) ? (char)toupper((unsigned char)text[n]) : '_';
    out[n] = '\0';
}

/* "SSL routines" -> "SSL" */
static void name_of_library(char *out, size_t cap, const char *text) {
    const char *end = strstr(text, " routines");
    size_t n = end ? (size_t)(end - text) : strlen(text);
    if (n >= cap) n = cap - 1;
    memcpy(out, text, n);
    out[n] = '\0';
}

static void describe(puff_tls_error *err, int kind, unsigned long code) {
    const char *reason = code ? ERR_reason_error_string(code) : NULL;
    const char *library = code ? ERR_lib_error_string(code) : NULL;
    *err = (puff_tls_error){.kind = kind};
    if (reason) name_of_reason(err->reason, sizeof err->reason, reason);
    if (library) name_of_library(err->library, sizeof err->library, library);
    snprintf(err->text, sizeof err->text, "%s", reason ? reason : "unknown error");
    if (kind == SSL_ERROR_SSL && ERR_GET_REASON(code) == SSL_R_UNEXPECTED_EOF_WHILE_READING)
        err->eof = true;
}

/* What a call on t->ssl that returned `ret` means. */
static int outcome(puff_tls *t, int ret, puff_tls_error *err) {
    int kind = SSL_get_error(t->ssl, ret);
    if (t->no_memory) {
        t->no_memory = false;
        ERR_clear_error();
        return PUFF_ENOMEM;
    }
    switch (kind) {
    case SSL_ERROR_NONE: return PUFF_TLS_OK;
    case SSL_ERROR_WANT_READ: return PUFF_TLS_WANT_READ;
    case SSL_ERROR_ZERO_RETURN: return PUFF_TLS_CLOSED;
    default: break;
    }
    if (err) describe(err, kind, ERR_peek_last_error());
    ERR_clear_error();
    return PUFF_EPROTO;
}

/* ---- life ---- */

int puff_tls_new(puff_tls **out, const puff_alloc *alloc, size_t max_kept, SSL *ssl) {
    BIO_METHOD *method = bio_method();
    puff_tls *t = method ? puff_calloc(alloc, 1, sizeof *t) : NULL;
    if (!t) return PUFF_ENOMEM;
    t->bio = BIO_new(method);
    if (!t->bio) goto fail_bio;
    if (!SSL_up_ref(ssl)) goto fail_ssl;
    t->ssl = ssl;
    t->alloc = alloc;
    puff_buf_init(&t->rest, alloc, max_kept);
    puff_buf_init(&t->out, alloc, SIZE_MAX);
    BIO_set_data(t->bio, t);
    BIO_set_init(t->bio, 1);
    BIO_up_ref(t->bio);
    SSL_set_bio(ssl, t->bio, t->bio);
    SSL_set_mode(ssl, SSL_MODE_RELEASE_BUFFERS | SSL_MODE_ENABLE_PARTIAL_WRITE |
                          SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER | SSL_MODE_AUTO_RETRY);
    *out = t;
    return 0;
fail_ssl:
    BIO_free(t->bio);
fail_bio:
    puff_free(alloc, t);
    ERR_clear_error();
    return PUFF_ENOMEM;
}

void puff_tls_free(puff_tls *t) {
    if (!t) return;
    BIO_set_data(t->bio, NULL);
    BIO_free(t->bio);
    SSL_free(t->ssl);
    puff_buf_deinit(&t->rest);
    puff_buf_deinit(&t->out);
    puff_free(t->alloc, t);
}

/* ---- ciphertext ---- */

void puff_tls_set_sink(puff_tls *t, puff_tls_sink sink, void *arg) {
    t->sink = sink;
    t->sink_arg = arg;
}

puff_str puff_tls_peek_output(const puff_tls *t) { return (puff_str){t->out.data, t->out.len}; }

void puff_tls_drop_output(puff_tls *t) { puff_buf_reset(&t->out, 0); }

static bool is_kept(const puff_tls *t) { return t->rest.len > 0; }

int puff_tls_feed(puff_tls *t, const void *data, size_t len) {
    if (t->in_len == 0) {
        puff_buf_reset(&t->rest, 0);
        t->in = data;
        t->in_len = len;
        return 0;
    }
    assert(is_kept(t)); /* or puff_tls_keep() was forgotten */
    puff_buf_consume(&t->rest, t->rest.len - t->in_len);
    int rc = puff_buf_append(&t->rest, data, len);
    t->in = t->rest.data;
    t->in_len = t->rest.len;
    return rc;
}

int puff_tls_keep(puff_tls *t) {
    if (t->in_len == 0) {
        puff_buf_reset(&t->rest, 0);
        t->in = NULL;
        return 0;
    }
    if (is_kept(t)) return 0;
    int rc = puff_buf_append(&t->rest, t->in, t->in_len);
    t->in = t->rest.data;
    t->in_len = t->rest.len;
    return rc;
}

size_t puff_tls_unread(const puff_tls *t) { return t->in_len; }

/* ---- plaintext ---- */

int puff_tls_read(puff_tls *t, void *buf, size_t cap, size_t *n, puff_tls_error *err) {
    char *to = buf;
    ERR_clear_error();
    for (*n = 0; *n < cap;) {
        size_t got;
        if (!SSL_read_ex(t->ssl, to + *n, cap - *n, &got)) return outcome(t, 0, err);
        *n += got;
        t->n_partial = 0;
        /* Asking again only to hear "nothing" costs as much as a small record. */
        if (t->in_len == 0 && !SSL_has_pending(t->ssl)) return PUFF_TLS_WANT_READ;
    }
    return PUFF_TLS_OK;
}

int puff_tls_write(puff_tls *t, const void *data, size_t len, size_t *n, puff_tls_error *err) {
    ERR_clear_error();
    if (SSL_write_ex(t->ssl, data, len, n)) return PUFF_TLS_OK;
    *n = 0;
    return outcome(t, 0, err);
}

/* A record's plaintext is shorter than the record. */
size_t puff_tls_readable(const puff_tls *t) {
    size_t n = t->in_len + (size_t)SSL_pending(t->ssl);
    return n == 0 ? 0 : n + t->n_partial;
}

/* ---- handshake and end, for those who do not leave them to a host ---- */

int puff_tls_handshake(puff_tls *t, puff_tls_error *err) {
    ERR_clear_error();
    return outcome(t, SSL_do_handshake(t->ssl), err);
}

int puff_tls_shutdown(puff_tls *t, puff_tls_error *err) {
    ERR_clear_error();
    int ret = SSL_shutdown(t->ssl);
    if (ret == 0) ret = SSL_shutdown(t->ssl); /* ours is sent: look for the peer's */
    return ret == 1 ? PUFF_TLS_CLOSED : outcome(t, ret, err);
}

/* ---- whose SSL is it? ---- */

bool puff_tls_is_of(const SSL *ssl, const SSL_CTX *ctx) { return SSL_get_SSL_CTX(ssl) == ctx; }

bool puff_tls_is_ours(const SSL *ssl) {
    const SSL_METHOD *m = SSL_get_ssl_method(ssl);
    return m == TLS_method() || m == TLS_client_method() || m == TLS_server_method();
}
