from typing import Any, Final

from puff._types import Reply

SHAPE_AS_IS: Final[int]
SHAPE_FLAG: Final[int]
SHAPE_NOTHING: Final[int]
SHAPE_FLOAT: Final[int]
SHAPE_MAPPING: Final[int]
SHAPE_TEXT: Final[int]
SHAPE_TIME: Final[int]

class Client:
    name: str
    def __init__(self, name: str) -> None: ...
    def run(self, shape: int, decode: bool, *args: Any) -> Reply[Any]: ...
    def run_within(self, timeout_ms: int | None, decode: bool, *args: Any) -> Reply[Any]: ...
    def stats(self) -> dict[str, int] | None: ...
