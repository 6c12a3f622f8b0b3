"""asyncio's streams over Puff's transports: StreamReader's hot methods in C (reader.c).

A StreamReaderProtocol that is attached to one of our transports, and its reader, become instances
of the two classes below: same attributes, same methods, same exceptions. Only objects whose class
is exactly asyncio's do, and only while asyncio's methods are those that reader.c knows.
"""

import asyncio


cdef extern from "reader.h":
    int puff_reader_init(object asyncio_reader, object asyncio_protocol, object reader,
                         object protocol) except -1
    bint puff_reader_is_patched()


cdef object _StreamReader = asyncio.StreamReader
cdef object _StreamReaderProtocol = asyncio.StreamReaderProtocol


class StreamReader(asyncio.StreamReader):
    __slots__ = ()
    __module__ = "asyncio.streams"


class StreamReaderProtocol(asyncio.StreamReaderProtocol):
    __slots__ = ()
    __module__ = "asyncio.streams"


# Every name that the functions which reader.c stands in for use, in CPython 3.10 to 3.14. One more
# would mean that they do something which reader.c does not.
cdef set _KNOWN = set(
    """
    IncompleteReadError LimitOverrunError NotImplementedError RuntimeError StopAsyncIteration
    ValueError ConnectionResetError _buffer _connection_lost _drain_waiters _eof _exception _limit
    _loop _maybe_resume_transport _paused _stream_reader _stream_reader_wr _transport
    _wait_for_data _waiter _wakeup_waiter append args bytes cancelled clear consumed create_future
    exceptions extend feed_data find isinstance join len max memoryview partial pause_reading read
    readline readuntil remove resume_reading set_result sorted startswith tuple
    """.split()
)


cdef bint _knows(cls, str methods):
    for name in methods.split():
        function = getattr(cls, name, None)
        if isinstance(function, property):
            function = function.fget
        code = getattr(function, "__code__", None)
        if code is None or not _KNOWN.issuperset(code.co_names):
            return False
    return True


cdef bint _usable = _knows(
    _StreamReader,
    "read readline readexactly readuntil feed_data _wait_for_data _wakeup_waiter"
    " _maybe_resume_transport __anext__",
) and _knows(_StreamReaderProtocol, "data_received _drain_helper _stream_reader")

if _usable:
    puff_reader_init(_StreamReader, _StreamReaderProtocol, StreamReader, StreamReaderProtocol)


cdef int adopt(object protocol) except -1:
    """Gives the protocol, and its reader, C methods."""
    if not _usable or type(protocol) is not _StreamReaderProtocol or puff_reader_is_patched():
        return 0
    reader = protocol._stream_reader
    if type(reader) is _StreamReader:
        reader.__class__ = StreamReader
    protocol.__class__ = StreamReaderProtocol
    return 0
