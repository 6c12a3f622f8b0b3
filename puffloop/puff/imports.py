"""Import paths as users write them: `package.module:attr` and `package.module.attr`."""

from __future__ import annotations

import difflib
import importlib
import importlib.util
import traceback
from types import ModuleType, TracebackType
from typing import Any

from puff.errors import AppImportError

__all__ = ["import_path", "traceback_of"]


def import_path(path: str) -> Any:
    """The object that the path names. Raises AppImportError with one sentence.

    When the module was found and raised, that exception is the error's `__cause__`:
    `traceback_of` shows it without our own frames.
    """
    module_name, attributes = _split(path)
    found: Any = _module(module_name, path)
    for name in attributes.split("."):
        if not hasattr(found, name):
            raise AppImportError(f"{path}: {_missing(found, name)}")
        found = getattr(found, name)
    return found


def traceback_of(error: AppImportError) -> str:
    """The user's own traceback when a module of theirs raised, else nothing."""
    cause = error.__cause__
    if cause is None:
        return ""
    tb: TracebackType | None = cause.__traceback__
    while tb and _is_machinery(tb.tb_frame.f_code.co_filename):
        tb = tb.tb_next
    return "".join(traceback.format_exception(type(cause), cause, tb))


def _split(path: str) -> tuple[str, str]:
    module, colon, attributes = path.partition(":")
    if not colon:
        module, _, attributes = path.rpartition(".")
    parts = [*module.split("."), *attributes.split(".")]
    if not all(part.isidentifier() for part in parts):
        raise AppImportError(
            f"{path!r} is no import path; expected package.module:attr or package.module.attr"
        )
    return module, attributes


def _module(name: str, path: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as e:
        if e.name and (name == e.name or name.startswith(e.name + ".")):
            raise AppImportError(
                f"{path}: there is no module {e.name!r} here (looked on sys.path, from the current "
                "folder on); run puff in the folder that holds it"
            ) from None
        raise AppImportError(f"{path}: importing {name} failed: {e}") from e
    except Exception as e:
        raise AppImportError(f"{path}: importing {name} failed: {type(e).__name__}: {e}") from e


def _missing(owner: Any, name: str) -> str:
    kind = "module" if isinstance(owner, ModuleType) else type(owner).__name__
    label = getattr(owner, "__name__", kind)
    near = difflib.get_close_matches(name, [n for n in dir(owner) if n[0] != "_"], 1, 0.6)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    return f"{kind} {label} has no {name!r}{hint}"


def _is_machinery(filename: str) -> bool:
    return filename in (__file__, importlib.__file__) or filename.startswith("<frozen importlib")
