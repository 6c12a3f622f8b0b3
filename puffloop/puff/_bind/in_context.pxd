"""Awaiting in a contextvars context that somebody else has entered; driving by hand."""


# An awaitable: `aw`, with each of its steps in the context that is current now. Whoever awaits it
# sees to it that nothing else runs in that context meanwhile.
cdef object in_context_here(object aw)
# What `await aw` would iterate.
cdef object iterator_of(object aw)
# One step of such an iterator, by send(None) or throw(exc): what it yields, or, with *returned set,
# what it has returned.
cdef object drive(object inner, object exc, int *returned)
# The exception of throw(exception), or of the older throw(type, value, traceback).
cdef object exception_of(typ, val, tb)
