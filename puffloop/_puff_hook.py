"""What runs at the start of every interpreter that has Puff installed: `uvicorn --loop puff`.

uvicorn knows loops by a table of its own, which nobody can add to from outside. site runs install()
(puff.pth; from CPython 3.15 on puff.start), which leaves a finder in sys.meta_path and imports
nothing. The finder waits for `uvicorn.config`, and when that module has been executed adds one row
to its table and goes away. docs/loop.md has what it costs. PUFF_NO_HOOK=1 turns it off.

Nothing here may raise: this is every program's interpreter. Annotations or
contextlib would be imports.
"""
# mypy: ignore-errors
# ruff: noqa: SIM105

import os
import sys

WATCHED = "uvicorn.config"
# uvicorn's table -> our row: to 0.35 a function that sets a policy, from 0.36 a factory's maker.
ROWS = {"LOOP_SETUPS": "puff._uvicorn:setup", "LOOP_FACTORIES": "puff._uvicorn:factory"}


def add_rows(config):
    for table, row in ROWS.items():
        rows = getattr(config, table, None)
        if isinstance(rows, dict):
            rows.setdefault("puff", row)


class Finder:
    """Finds WATCHED as the other finders do, with a loader that calls add_rows() at the end."""

    @classmethod
    def find_spec(cls, name, path=None, target=None):
        if name != WATCHED:
            return None
        for finder in sys.meta_path:
            find = None if finder is cls else getattr(finder, "find_spec", None)
            spec = find(name, path, target) if find else None  # may raise: so it would without us
            if spec is not None:
                break
        else:
            return None
        try:
            cls.watch(spec.loader)
        except Exception:
            pass
        return spec

    @classmethod
    def watch(cls, loader):
        execute = loader.exec_module

        def exec_module(module):
            del loader.exec_module  # the instance's; the class's is back
            execute(module)
            try:
                sys.meta_path.remove(cls)
                add_rows(module)
            except Exception:
                pass

        loader.exec_module = exec_module


def install():
    try:
        off = os.environ.get("PUFF_NO_HOOK", "0") not in ("", "0")
        if not off and WATCHED not in sys.modules and Finder not in sys.meta_path:
            sys.meta_path.insert(0, Finder)
    except Exception:
        pass
