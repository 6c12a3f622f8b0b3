"""Runs a suite's groups in processes of their own and gathers the outcomes; a hang is one too.

python -m conformance.run [-v] SUITE [GROUP ...]         prints a table

A suite is a module here: suites (asyncio's tests, a group is a class) or patched (puff.monkey, a
group is a file).
"""

from __future__ import annotations

import importlib
import json
import os
import queue
import subprocess
import sys
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

LIMIT_S = float(
    os.environ.get("CONFORMANCE_LIMIT_S", "30")
)  # per test: CPython's slowest takes 10 on a busy machine
HERE = Path(__file__).resolve().parent.parent


class Outcome(NamedTuple):
    outcome: str  # ok, fail, skip, hang, crash
    why: str


def lines_of(process: subprocess.Popen[str]) -> queue.SimpleQueue[str | None]:
    """The process's lines as they come, then None."""
    lines: queue.SimpleQueue[str | None] = queue.SimpleQueue()

    def pump() -> None:
        for line in process.stdout:
            lines.put(line)
        lines.put(None)

    threading.Thread(target=pump, daemon=True).start()
    return lines


def run_some(suite: str, group: str, names: list[str], verbose: bool) -> dict[str, Outcome]:
    """Runs names in one process until all are done, or until one hangs or kills the process."""
    paths = os.pathsep.join([str(HERE), os.environ.get("PYTHONPATH", "")])
    process = subprocess.Popen(
        [sys.executable, "-m", "conformance.worker", suite, group, *names,
         *(["-v"] if verbose else [])],
        stdout=subprocess.PIPE, stdin=subprocess.DEVNULL, text=True, start_new_session=True,
        stderr=None if verbose else subprocess.DEVNULL, env={**os.environ, "PYTHONPATH": paths},
    )  # fmt: skip
    done: dict[str, Outcome] = {}
    current = names[0]
    lines = lines_of(process)
    while True:
        try:
            line = lines.get(timeout=LIMIT_S)
        except queue.Empty:
            process.kill()
            done[current] = Outcome("hang", f"not done after {LIMIT_S} s")
            break
        if line is None:
            if process.wait() != 0:
                done[current] = Outcome("crash", f"the process ended with {process.returncode}")
            break
        event = json.loads(line)
        current = event.get("start", current)
        if "end" in event:
            done[event["end"]] = Outcome(event["outcome"], event["why"])
    process.kill()
    process.wait()
    return done


def run_group(
    suite: str, group: str, names: list[str], verbose: bool = False
) -> dict[str, Outcome]:
    done: dict[str, Outcome] = {}
    while left := [name for name in names if name not in done]:
        more = run_some(suite, group, left, verbose)
        done.update(more or {left[0]: Outcome("crash", "the process said nothing")})
    return done


def module_of(suite: str) -> ModuleType:
    return importlib.import_module(f"conformance.{suite}")


def batches(suite: str, only: list[str]) -> list[tuple[str, list[str]]]:
    """Large groups in parts, so that the workers end at about the same time."""
    found = []
    for group, names in module_of(suite).groups().items():
        if only and group not in only:
            continue
        found += [(group, names[i : i + 30]) for i in range(0, len(names), 30)]
    return sorted(found, key=lambda batch: -len(batch[1]))


def run_all(suite: str, only: list[str] | None = None, verbose: bool = False) -> dict[str, Outcome]:
    """{"group::test": outcome}"""
    results: dict[str, Outcome] = {}
    with ThreadPoolExecutor(module_of(suite).WORKERS) as pool:
        jobs = [
            (group, pool.submit(run_group, suite, group, names, verbose))
            for group, names in batches(suite, only or [])
        ]
        for group, job in jobs:
            results.update({f"{group}::{name}": how for name, how in job.result().items()})
    return results


def failed_twice(suite: str, results: dict[str, Outcome]) -> dict[str, Outcome]:
    """Some tests measure time: on a busy machine one may fail, but not twice."""
    bad = {}
    for name, first in results.items():
        if first.outcome not in ("ok", "skip"):
            group, test = name.split("::")
            again = run_group(suite, group, [test])[test]
            if again.outcome not in ("ok", "skip"):
                bad[name] = again
    return bad


def main() -> int:
    verbose = "-v" in sys.argv
    suite, *only = [arg for arg in sys.argv[1:] if arg != "-v"]
    results = run_all(suite, only, verbose)
    for name, (outcome, why) in sorted(results.items()):
        if outcome not in ("ok", "skip") or (verbose and outcome != "ok"):
            print(f"{outcome:5} {name}: {why}")
    counts = Counter(outcome for outcome, _ in results.values())
    print(f"Python {sys.version.split()[0]}: {dict(counts)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
