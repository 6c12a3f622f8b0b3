from collections.abc import Callable
from contextvars import ContextVar
from typing import Any

class Insides:
    original: Any
    handler: Any
    handler_takes: tuple[str, ...]
    threads_of_loops: dict[Any, Any]
    sensitive_context: ContextVar[Any]
    thread_above: ContextVar[bool]
    handling: Callable[..., Any]
    before: Callable[[tuple[str, ...], BaseException | None], list[Any]]

def call_of(insides: Insides) -> Callable[..., Any]: ...
