from collections.abc import Callable
from typing import Any, Literal, Protocol, TypeVar, overload

from puff._bind.greenlet import Greenlet
from puff._types import Reply

T = TypeVar("T")

class Return(Protocol):
    def __call__(
        self, value: Any = None, exc: BaseException | type[BaseException] | None = None
    ) -> None: ...

@overload
def wrap_async(
    f: Callable[[Return], object], join: Literal[False], wrap_return: Callable[[Any], T]
) -> Greenlet[T]: ...
@overload
def wrap_async(
    f: Callable[[Return], object], join: Literal[False], wrap_return: None = None
) -> Greenlet[Any]: ...
@overload
def wrap_async(
    f: Callable[[Return], object], join: Literal[True] = True, *, wrap_return: Callable[[Any], T]
) -> Reply[T]: ...
@overload
def wrap_async(
    f: Callable[[Return], object], join: Literal[True] = True, wrap_return: None = None
) -> Reply[Any]: ...
