"""Commands as Waiters, for other modules that speak to Redis."""

from puff._bind.core cimport puff_redis_pool
from puff._bind.loop cimport LoopBase

# The pool of ("redis", name) on this loop; made on first use. Borrowed: the loop owns it.
cdef puff_redis_pool *pool_of(LoopBase loop, tuple key) except NULL
