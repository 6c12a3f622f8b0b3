from collections.abc import Callable
from typing import ParamSpec, TypeVar

from puff._bind.greenlet import Greenlet
from puff._types import Reply

P = ParamSpec("P")
T = TypeVar("T")

def spawn_blocking(fn: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> Greenlet[T]: ...
def blocking(fn: Callable[P, T]) -> Callable[P, Reply[T]]: ...
