from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")

def to_greenlet(
    fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs
) -> Coroutine[Any, Any, T]: ...
def await_(aw: Awaitable[T]) -> T: ...
def flow_locals() -> Any: ...
