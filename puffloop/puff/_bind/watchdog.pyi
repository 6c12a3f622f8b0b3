from collections.abc import Callable

from puff.watchdog import Block

class WatchdogMethods:
    def set_watchdog(
        self,
        threshold_ms: int,
        report: Callable[[Block], object] | None = None,
        *,
        gap_ms: int = 10_000,
    ) -> None: ...
