from puff._types import value_of as value_of
from puff.files import (
    File as File,
    open_file as open_file,
    read_file_bytes as read_file_bytes,
    write_file_bytes as write_file_bytes,
)
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
from puff.sync import (
    BoundedSemaphore as BoundedSemaphore,
    Condition as Condition,
    Event as Event,
    LifoQueue as LifoQueue,
    Lock as Lock,
    PriorityQueue as PriorityQueue,
    Queue as Queue,
    QueueEmpty as QueueEmpty,
    QueueFull as QueueFull,
    QueueShutDown as QueueShutDown,
    RLock as RLock,
    Semaphore as Semaphore,
)
from puff.watchdog import Block as Block
