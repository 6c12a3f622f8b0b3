"""Queries as Waiters, for other modules that send SQL."""

from puff._bind.core cimport puff_pg_pool
from puff._bind.loop cimport LoopBase

# The pool of this name on this loop; made on first use. Borrowed: the loop owns it.
cdef puff_pg_pool *pool_of(LoopBase loop, str name) except NULL
