/* h1_seeds.h - messages to begin with: each feature of HTTP/1 once, each known attack once. */
#ifndef H1_SEEDS_H
#define H1_SEEDS_H

#define POST "POST / HTTP/1.1\r\nHost: h\r\n"
#define CHUNKED POST "Transfer-Encoding: chunked\r\n\r\n"

static const char *const seeds[] = {
    "GET / HTTP/1.1\r\nHost: h\r\n\r\n",
    "\r\n\r\nGET /a/b?c=d&e=%20 HTTP/1.1\r\nHost: example.com:8080\r\nUser-Agent: x y\t z "
    "\r\nAccept:*/*\r\n\r\n",
    "GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n",
    "GET http://u.example:80/p?q HTTP/1.1\r\nHost: other\r\nConnection: close, x\r\n\r\n",
    "GET https://[::1]:443 HTTP/1.1\r\nHost: [::1]:443\r\n\r\n",
    "OPTIONS * HTTP/1.1\r\nHost: h\r\n\r\n",
    "HEAD /x HTTP/1.1\r\nHost: h\r\nCookie: a=b; c=\"d\"\r\nEmpty:\r\nHigh: \x80\xff\r\n\r\n",
    "M-SEARCH / HTTP/1.1\r\nHost: h\r\n\r\n",
    "GET / HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\nrest",
    POST "Content-Length: 5\r\n\r\nhelloGET",
    POST "Content-Length: 0\r\n\r\n",
    POST "Expect: 100-continue\r\nContent-Length: 1\r\n\r\nx",
    CHUNKED "5\r\nhello\r\n0\r\n\r\nGET",
    CHUNKED "3;a=b;c=\"d e\"\r\nabc\r\n00a\r\n0123456789\r\n0\r\nX-Trailer: y\r\nZ:\r\n\r\n",
    CHUNKED "1\r\na\r\n1\r\nb\r\n1\r\nc\r\n000\r\n\r\n",
    /* smuggling: what must be refused, so that what grows from it is tried */
    POST "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    POST "Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello!",
    POST "Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
    POST "Transfer-Encoding: \vchunked\r\n\r\n0\r\n\r\n",
    POST "Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n",
    "GET / HTTP/1.1\nHost: h\n\n",
    "GET / HTTP/1.1\r\nHost: h\r\nA: b\r\n folded\r\n\r\n",
    CHUNKED "5\nhello\n0\n\n",
    CHUNKED "5;\rx\r\nhello\r\n0\r\n\r\n",
    CHUNKED "5\r\nhelloXX0\r\n\r\n",
    CHUNKED "fffffffffffffffff\r\nx",
};

#endif
