/* stream_io.h - the half of a stream transport that runs once per read and once per write.
 *
 * Everything that is rare (errors, the end, back-pressure) is in transport.pyx and reached through
 * puff_stream_rare.
 */
#ifndef PUFF_BIND_STREAM_IO_H
#define PUFF_BIND_STREAM_IO_H

#include "endpoint.h"

/* Who gets what is read. */
enum puff_stream_sink {
    PUFF_SINK_PROTOCOL, /* protocol.data_received(bytes) */
    PUFF_SINK_BUFFERED, /* protocol.get_buffer(), buffer_updated() */
    PUFF_SINK_FILTER, /* native code, before a protocol of its own: it borrows the loop's buffer */
};

/* How Stream begins (transport.pxd declares the same fields in this order; checked at import). */
typedef struct puff_stream_object {
    puff_endpoint end;
    puff_stream *core; /* owned; NULL once its close has begun */
    PyObject *chunk;   /* owned or NULL: the bytes that the read under way fills */
    Py_buffer target;  /* what it fills instead; obj is NULL: nothing */
    size_t low, high;  /* write buffer limits */
    int sink;
    int long_reads;  /* the last one was: the next goes straight into a chunk */
    int eof_written; /* and nothing may be written any more */
    PyObject *empty_waiter;
} puff_stream_object;

typedef struct puff_stream_rare {
    /* The exception that is set, as asyncio's transports treat it. */
    void (*failed)(PyObject *stream, const char *message);
    void (*ended)(PyObject *stream, ssize_t status); /* UV_EOF or an error */
    int (*write)(PyObject *stream, PyObject *data);  /* any write; -1: an exception is set */
    int (*over_high)(PyObject *stream);              /* more is queued than the limit */
    int (*filter)(PyObject *stream, const char *data, ssize_t n); /* in the stream's context */
} puff_stream_rare;

void puff_stream_on_alloc(puff_stream *st, char **buf, size_t *cap);
void puff_stream_on_read(puff_stream *st, char *buf, ssize_t n);

/* Queues exactly these bytes (a reference is kept as long as they are). */
int puff_stream_queue(puff_stream_object *s, PyObject *bytes);

/* Gives the class Transport its write(), of a slot with a Stream. */
int puff_stream_io_init(PyObject *transport_class, PyObject *stream_class,
                        const puff_stream_rare *rare);

#endif
