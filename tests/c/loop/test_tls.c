/* test_tls.c - the TLS engine: two of them in memory, their ciphertext cut anywhere. */
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/ssl.h>
#include <openssl/x509.h>

#include "check.h"
#include "puff/loop.h"

enum { MAX_KEPT = 1 << 20, MANY = 100000 };

typedef struct end {
    SSL *ssl;
    puff_tls *tls;
} end;

static puff_alloc_failing memory;
static SSL_CTX *server_ctx, *client_ctx;
static end server, client;
static char plain[MANY], got[MANY];

static void certify(SSL_CTX *ctx) {
    EVP_PKEY *key = EVP_EC_gen("P-256");
    X509 *cert = X509_new();
    ASN1_INTEGER_set(X509_get_serialNumber(cert), 1);
    X509_gmtime_adj(X509_getm_notBefore(cert), -3600);
    X509_gmtime_adj(X509_getm_notAfter(cert), 3600);
    X509_set_pubkey(cert, key);
    X509_NAME *name = X509_get_subject_name(cert);
    X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_ASC, (const unsigned char *)"test", -1, -1, 0);
    X509_set_issuer_name(cert, name);
    CHECK(X509_sign(cert, key, EVP_sha256()) > 0);
    CHECK_EQ_INT(SSL_CTX_use_certificate(ctx, cert), 1);
    CHECK_EQ_INT(SSL_CTX_use_PrivateKey(ctx, key), 1);
    X509_free(cert);
    EVP_PKEY_free(key);
}

static end end_new(SSL_CTX *ctx, bool is_server) {
    end e = {.ssl = SSL_new(ctx)};
    CHECK_EQ_INT(puff_tls_is_of(e.ssl, ctx), true);
    CHECK_EQ_INT(puff_tls_is_ours(e.ssl), true);
    is_server ? SSL_set_accept_state(e.ssl) : SSL_set_connect_state(e.ssl);
    CHECK_EQ_INT(puff_tls_new(&e.tls, &memory.alloc, MAX_KEPT, e.ssl), 0);
    return e;
}

static void begin(int version) {
    puff_alloc_failing_init(&memory, 0);
    server_ctx = SSL_CTX_new(TLS_server_method());
    client_ctx = SSL_CTX_new(TLS_client_method());
    SSL_CTX_set_max_proto_version(server_ctx, version);
    SSL_CTX_set_options(server_ctx, SSL_OP_ALLOW_CLIENT_RENEGOTIATION);
    certify(server_ctx);
    server = end_new(server_ctx, true);
    client = end_new(client_ctx, false);
    for (size_t i = 0; i < MANY; i++) plain[i] = (char)(i * 7 + i / 251);
}

static void finish(void) {
    puff_tls_free(server.tls);
    puff_tls_free(client.tls);
    SSL_free(server.ssl);
    SSL_free(client.ssl);
    SSL_CTX_free(server_ctx);
    SSL_CTX_free(client_ctx);
    CHECK_EQ_INT(memory.n_live, 0);
}

/* What `from` has to send, moved to `to` in pieces of at most `piece` bytes. The memory it was fed
 * from is overwritten each time: nothing may be borrowed for longer. Returns how much came. */
static size_t deliver(end *from, end *to, size_t piece, char *into) {
    puff_str out = puff_tls_peek_output(from->tls);
    size_t n_all = 0;
    char *wire = malloc(out.len + 1), *fed = malloc(piece);
    if (out.len > 0) memcpy(wire, out.ptr, out.len);
    puff_tls_drop_output(from->tls);
    for (size_t at = 0, n = 0; at < out.len; at += n) {
        n = out.len - at < piece ? out.len - at : piece;
        memcpy(fed, wire + at, n);
        CHECK_EQ_INT(puff_tls_feed(to->tls, fed, n), 0);
        size_t n_read;
        int rc = puff_tls_read(to->tls, into + n_all, MANY - n_all, &n_read, NULL);
        CHECK(rc == PUFF_TLS_WANT_READ || rc == PUFF_TLS_CLOSED);
        n_all += n_read;
        CHECK_EQ_INT(puff_tls_keep(to->tls), 0);
        memset(fed, 0xdd, n);
    }
    free(wire);
    free(fed);
    return n_all;
}

static void shake_hands(size_t piece) {
    puff_tls_error err;
    CHECK_EQ_INT(puff_tls_handshake(client.tls, &err), PUFF_TLS_WANT_READ);
    for (int i = 0; i < 4; i++) {
        deliver(&client, &server, piece, got);
        deliver(&server, &client, piece, got);
    }
    CHECK_EQ_INT(puff_tls_handshake(client.tls, &err), PUFF_TLS_OK);
    CHECK_EQ_INT(puff_tls_handshake(server.tls, &err), PUFF_TLS_OK);
}

static void write_all(end *e, const char *data, size_t len) {
    for (size_t n; len > 0; data += n, len -= n)
        CHECK_EQ_INT(puff_tls_write(e->tls, data, len, &n, NULL), PUFF_TLS_OK);
}

static void exchange(size_t piece) {
    write_all(&client, plain, MANY);
    CHECK_EQ_INT(deliver(&client, &server, piece, got), MANY);
    CHECK_EQ_MEM(got, MANY, plain, MANY);
    write_all(&server, plain, 1000);
    CHECK_EQ_INT(deliver(&server, &client, piece, got), 1000);
    CHECK_EQ_MEM(got, 1000, plain, 1000);
}

TEST(data_passes_byte_by_byte) {
    for (int version = TLS1_2_VERSION; version <= TLS1_3_VERSION; version++) {
        begin(version);
        shake_hands(1);
        exchange(1);
        finish();
    }
}

TEST(data_passes_in_pieces_that_end_inside_records) {
    for (size_t piece = 2; piece < 70000; piece = piece * 3 + 1) {
        begin(TLS1_3_VERSION);
        shake_hands(piece);
        exchange(piece);
        finish();
    }
}

TEST(an_idle_engine_keeps_no_buffer) {
    begin(TLS1_3_VERSION);
    size_t n_idle = memory.n_live;
    shake_hands(5);
    exchange(1000);
    CHECK_EQ_INT(memory.n_live, n_idle);
    CHECK_EQ_INT(puff_tls_unread(server.tls), 0);
    finish();
}

TEST(what_is_not_read_is_kept_and_read_first) {
    begin(TLS1_3_VERSION);
    shake_hands(MANY);
    write_all(&client, plain, 40000);
    puff_str out = puff_tls_peek_output(client.tls);
    size_t n, half = out.len / 2;
    char *fed = malloc(half);
    memcpy(fed, out.ptr, half);
    CHECK_EQ_INT(puff_tls_feed(server.tls, fed, half), 0);
    CHECK_EQ_INT(puff_tls_read(server.tls, got, 100, &n, NULL), PUFF_TLS_OK);
    CHECK_EQ_INT(n, 100);
    CHECK(puff_tls_readable(server.tls) >= 40000 / 2 - 100);
    CHECK_EQ_INT(puff_tls_keep(server.tls), 0);
    free(fed);
    CHECK(puff_tls_unread(server.tls) > 0);
    CHECK_EQ_INT(puff_tls_feed(server.tls, out.ptr + half, out.len - half), 0);
    CHECK_EQ_INT(puff_tls_read(server.tls, got + 100, MANY - 100, &n, NULL), PUFF_TLS_WANT_READ);
    CHECK_EQ_MEM(got, n + 100, plain, 40000);
    puff_tls_drop_output(client.tls);
    finish();
}

TEST(the_memory_that_a_read_needs_is_known_before) {
    begin(TLS1_3_VERSION);
    shake_hands(MANY);
    CHECK_EQ_INT(puff_tls_readable(server.tls), 0);
    size_t n;
    write_all(&client, plain, 10000);
    puff_str out = puff_tls_peek_output(client.tls);
    CHECK_EQ_INT(puff_tls_feed(server.tls, out.ptr, out.len - 10), 0);
    CHECK_EQ_INT(puff_tls_read(server.tls, got, MANY, &n, NULL), PUFF_TLS_WANT_READ);
    CHECK_EQ_INT(puff_tls_readable(server.tls), 0);
    CHECK_EQ_INT(puff_tls_feed(server.tls, out.ptr + out.len - 10, 10), 0);
    CHECK(puff_tls_readable(server.tls) >= 10000);
    CHECK_EQ_INT(puff_tls_read(server.tls, got, MANY, &n, NULL), PUFF_TLS_WANT_READ);
    CHECK_EQ_INT(n, 10000);
    finish();
}

TEST(more_than_the_ceiling_is_not_kept) {
    static char junk[MAX_KEPT + 1];
    begin(TLS1_3_VERSION);
    CHECK_EQ_INT(puff_tls_feed(server.tls, junk, sizeof junk), 0);
    CHECK_EQ_INT(puff_tls_keep(server.tls), PUFF_ELIMIT);
    finish();
}

TEST(keys_are_updated_between_records) {
    begin(TLS1_3_VERSION);
    shake_hands(MANY);
    for (int i = 0; i < 3; i++) {
        CHECK_EQ_INT(SSL_key_update(client.ssl, SSL_KEY_UPDATE_REQUESTED), 1);
        exchange(7);
    }
    finish();
}

TEST(a_renegotiation_holds_writes_back_until_it_is_done) {
    begin(TLS1_2_VERSION);
    shake_hands(MANY);
    size_t n;
    CHECK_EQ_INT(SSL_renegotiate(client.ssl), 1);
    CHECK_EQ_INT(puff_tls_write(client.tls, plain, 10, &n, NULL), PUFF_TLS_WANT_READ);
    CHECK_EQ_INT(n, 0);
    for (int i = 0; i < 3; i++) {
        CHECK_EQ_INT(deliver(&client, &server, 100, got), 0);
        CHECK_EQ_INT(deliver(&server, &client, 100, got), 0);
    }
    CHECK_EQ_INT(puff_tls_write(client.tls, plain, 500, &n, NULL),
                 PUFF_TLS_OK); /* the 10 and more */
    CHECK_EQ_INT(n, 500);
    CHECK_EQ_INT(deliver(&client, &server, MANY, got), 500);
    CHECK_EQ_MEM(got, 500, plain, 500);
    finish();
}

TEST(both_sides_close) {
    begin(TLS1_3_VERSION);
    shake_hands(MANY);
    puff_tls_error err;
    size_t n;
    write_all(&client, plain, 5);
    CHECK_EQ_INT(puff_tls_shutdown(client.tls, &err), PUFF_TLS_WANT_READ);
    CHECK_EQ_INT(deliver(&client, &server, MANY, got), 5);
    CHECK_EQ_INT(puff_tls_read(server.tls, got, MANY, &n, &err), PUFF_TLS_CLOSED);
    CHECK_EQ_INT(puff_tls_shutdown(server.tls, &err), PUFF_TLS_CLOSED);
    puff_str out = puff_tls_peek_output(server.tls);
    CHECK_EQ_INT(puff_tls_feed(client.tls, out.ptr, out.len), 0);
    CHECK_EQ_INT(puff_tls_shutdown(client.tls, &err), PUFF_TLS_CLOSED);
    finish();
}

TEST(what_is_no_tls_is_named) {
    begin(TLS1_3_VERSION);
    puff_tls_error err;
    CHECK_EQ_INT(puff_tls_feed(server.tls, PUFF_STR("GET / HTTP/1.1\r\n\r\n").ptr, 18), 0);
    CHECK_EQ_INT(puff_tls_handshake(server.tls, &err), PUFF_EPROTO);
    CHECK_EQ_STR(err.library, "SSL");
    CHECK_EQ_STR(err.reason, "HTTP_REQUEST");
    CHECK_EQ_STR(err.text, "http request");
    CHECK_EQ_INT(ERR_peek_error(), 0);
    finish();
}

TEST(a_record_that_was_changed_is_an_error) {
    begin(TLS1_3_VERSION);
    shake_hands(MANY);
    write_all(&client, plain, 100);
    puff_str out = puff_tls_peek_output(client.tls);
    char wire[200];
    memcpy(wire, out.ptr, out.len);
    wire[50] ^= 1;
    puff_tls_error err;
    size_t n;
    CHECK_EQ_INT(puff_tls_feed(server.tls, wire, out.len), 0);
    CHECK_EQ_INT(puff_tls_read(server.tls, got, MANY, &n, &err), PUFF_EPROTO);
    CHECK_EQ_INT(n, 0);
    CHECK(strcmp(err.reason, "DECRYPTION_FAILED_OR_BAD_RECORD_MAC") == 0 ||
          strcmp(err.reason, "RECORD_LAYER_FAILURE") == 0); /* newer ones */
    finish();
}

static size_t n_sunk;
static int sink(void *arg, const void *data, size_t len) {
    n_sunk += len;
    return *(int *)arg;
}

TEST(a_sink_takes_what_is_to_be_sent) {
    begin(TLS1_3_VERSION);
    shake_hands(MANY);
    int answer = 0;
    size_t n;
    n_sunk = 0;
    puff_tls_set_sink(client.tls, sink, &answer);
    write_all(&client, plain, 100);
    CHECK(n_sunk > 100);
    CHECK_EQ_INT(puff_tls_peek_output(client.tls).len, 0);
    answer = PUFF_ENOMEM;
    CHECK_EQ_INT(puff_tls_write(client.tls, plain, 100, &n, NULL), PUFF_ENOMEM);
    finish();
}

TEST(an_ssl_outlives_its_engine) {
    begin(TLS1_3_VERSION);
    shake_hands(MANY);
    puff_tls_free(client.tls);
    client.tls = NULL;
    CHECK_EQ_INT(SSL_read(client.ssl, got, 10), -1);
    CHECK_EQ_INT(SSL_get_error(client.ssl, -1), SSL_ERROR_WANT_READ);
    CHECK_EQ_INT(SSL_write(client.ssl, plain, 10), 10);
    finish();
}

TEST(memory_that_runs_out_is_told) {
    begin(TLS1_3_VERSION);
    shake_hands(MANY);
    puff_tls *t;
    size_t n;
    memory.fail_at = memory.n_calls + 1;
    CHECK_EQ_INT(puff_tls_new(&t, &memory.alloc, MAX_KEPT, client.ssl), PUFF_ENOMEM);
    memory.fail_at = memory.n_calls + 1;
    CHECK_EQ_INT(puff_tls_write(client.tls, plain, 100, &n, NULL), PUFF_ENOMEM);
    memory.fail_at = 0;
    CHECK_EQ_INT(puff_tls_feed(server.tls, plain, 100), 0);
    memory.fail_at = memory.n_calls + 1;
    CHECK_EQ_INT(puff_tls_keep(server.tls), PUFF_ENOMEM);
    finish();
}

RUN_TESTS;
