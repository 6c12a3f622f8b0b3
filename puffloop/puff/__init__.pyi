from puff._types import value_of as value_of
from puff.greenlet import (
    Greenlet as Greenlet,
    GreenletExit as GreenletExit,
    await_ as await_,
    blocking as blocking,
    is_asyncio as is_asyncio,
    is_greenlet as is_greenlet,
    join_all as join_all,
    join_iter as join_iter,
    sleep_ms as sleep_ms,
    spawn as spawn,
    spawn_blocking as spawn_blocking,
    to_greenlet as to_greenlet,
    wrap_async as wrap_async,
)
from puff.policy import (
    Loop as Loop,
    Policy as Policy,
    install as install,
    new_event_loop as new_event_loop,
    run as run,
)
from puff.stats import LoopStats as LoopStats
