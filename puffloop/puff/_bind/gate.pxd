"""A line of those who wait for something that one of them at a time can have."""

from puff._bind.timed cimport TimedWaiter


cdef class Turn(TimedWaiter):
    cdef Gate gate
    cdef object timeout  # seconds, or None
    cdef object late     # an exception to raise, or a value, when the time is over
    cdef object gift     # what the waiter brings, if anything
    cdef object answer
    cdef object failure  # an exception instead of an answer, or None
    cdef bint granted    # it has what it waits for, though maybe not been told yet

    cdef void deliver(self) noexcept
    cdef void miss(self) noexcept


cdef class Gate:
    cdef object line     # OrderedDict: Turn -> None; () until the first
    cdef object __weakref__

    # Overrides, in any thread. enter() takes what is there now (sets turn.answer) or says False;
    # undo() takes back what a turn was granted, for it is gone.
    cdef bint enter(self, Turn turn) except -1
    cdef void undo(self, Turn turn) noexcept
    # On the turn's own loop: it stands in line now, and can be admitted.
    cdef int lined_up(self, Turn turn) except -1

    # The call: what enter() gives, now or when somebody admits the turn. `late`: see Turn.
    cdef object ask(self, object timeout, object late, object gift)
    # The same without a first try: whoever calls knows that there is nothing. False: it is late.
    cdef object ask_in_line(self, object timeout, object gift)
    # In a forked child: those who stand in it are the parent's.
    cdef void forget_line(self) noexcept
    # Out of the line: the first, or None.
    cdef Turn pop(self)
    # In any thread. False: its loop is closed, and nobody waits any more.
    cdef bint admit(self, Turn turn, object answer) noexcept
    cdef void refuse(self, Turn turn, object failure) noexcept
    cdef bint wake(self, Turn turn) noexcept
    # admit() the first that still waits. False: nobody does.
    cdef bint admit_next(self, object answer) noexcept


# Seconds or None, of the arguments that threading and queue know.
cdef object time_limit(object block, object timeout)
cdef int refuse_in_coroutine(str instead) except -1
