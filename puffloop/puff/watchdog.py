"""What the watchdog of a loop has to say: `loop.set_watchdog()`, `puff serve --watchdog-ms`.

The log has, while it happens:

    WARNING puff.watchdog: the loop has been blocked for 1.00 s by report() in /srv/site.py, line 17
      File "/srv/site.py", line 30, in view
        return report(request)
      File "/srv/site.py", line 17, in report
        time.sleep(5)
"""

from __future__ import annotations

import logging
import sys
import traceback
from collections.abc import Callable
from typing import NamedTuple

__all__ = ["Block", "report_block", "tell"]

logger = logging.getLogger("puff.watchdog")


class Block(NamedTuple):
    """One block of a loop, at one moment; what `report` of `loop.set_watchdog()` is given."""

    seconds: float  # so far; in all, when it is over
    stack: traceback.StackSummary  # of the loop's thread, newest last; empty when it is over
    over: bool  # the loop goes on
    dumped: bool  # code in C kept the GIL: the stack is on stderr
    n_silent: int  # blocks before this one that were not told, for there was one just before

    @property
    def where(self) -> str:
        """The function that runs, its file and its line."""
        if not self.stack:
            return "code that keeps the GIL"
        frame = self.stack[-1]
        return f"{frame.name}() in {frame.filename}, line {frame.lineno}"


def tell(
    report: Callable[[Block], object],
    thread_id: int,
    seconds: float,
    lasts: bool,
    over: bool,
    dumped: bool,
    n_silent: int,
) -> None:
    """On the watchdog's thread, with the GIL since it was seen that the block `lasts`."""
    frame = sys._current_frames().get(thread_id) if lasts else None
    try:
        stack = traceback.extract_stack(frame) if frame else traceback.StackSummary()
        del frame  # its locals are not ours to keep
        report(Block(seconds, stack, not lasts, dumped, n_silent))
    except BaseException:
        logger.exception("the report of a blocked loop has failed")


def report_block(block: Block) -> None:
    """Logs it."""
    if block.stack:
        more = f" ({block.n_silent} more since the last report)" if block.n_silent else ""
        stack = "".join(block.stack.format()).rstrip()
        logger.warning(
            "the loop has been blocked for %.2f s by %s%s\n%s",
            block.seconds, block.where, more, stack,
        )  # fmt: skip
    elif block.dumped:
        logger.warning(
            "the loop was blocked for %.2f s by code that kept the GIL: its stack is on stderr",
            block.seconds,
        )
    else:
        logger.warning("the loop was blocked for %.2f s and goes on", block.seconds)
