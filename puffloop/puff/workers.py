"""gunicorn's workers on Puff's loop: `gunicorn -k puff.workers.PuffWorker app:app`.

uvicorn speaks HTTP there; the worker is that of the package uvicorn-worker, or of uvicorn itself
where that is too old for the package.
"""

from __future__ import annotations

import warnings
from importlib import import_module
from typing import TYPE_CHECKING, Any, ClassVar

from _puff_hook import add_rows

__all__ = ["PuffWorker"]


def _import(*modules: str, needs: str) -> Any:
    """The first of the modules that can be imported, or an ImportError that says what lacks."""
    missing: ImportError | None = None
    for module in modules:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", DeprecationWarning)  # uvicorn.workers: for our user
                return import_module(module)
        except ImportError as exc:
            missing = exc
    message = f"puff.workers needs {needs}: pip install gunicorn uvicorn-worker ({missing})"
    raise ImportError(message, name=modules[0]) from missing


if TYPE_CHECKING:

    class _Base:
        CONFIG_KWARGS: ClassVar[dict[str, Any]]

else:
    _import("gunicorn", needs="gunicorn")
    # The start-up hook may be off, or Puff not in site-packages: the table's row comes from here.
    add_rows(_import("uvicorn.config", needs="uvicorn"))
    _Base = _import("uvicorn_worker", "uvicorn.workers", needs="uvicorn-worker").UvicornWorker


class PuffWorker(_Base):
    """uvicorn's worker for gunicorn, with Puff's loop.

    gunicorn --workers 4 --worker-class puff.workers.PuffWorker app:app
    """

    CONFIG_KWARGS: ClassVar[dict[str, Any]] = {"loop": "puff", "http": "auto"}
