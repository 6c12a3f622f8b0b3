"""asyncio's streams over Puff's transports."""

cdef int adopt(object protocol) except -1
