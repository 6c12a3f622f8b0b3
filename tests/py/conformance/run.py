"""Runs every class in processes of its own and gathers the outcomes; a hang is an outcome too.

python -m conformance.run [-v] [CLASS ...]         prints a table
"""

from __future__ import annotations

import json
import os
import queue
import subprocess
import sys
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

from conformance import suites

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


def run_some(cls: str, names: list[str], verbose: bool) -> dict[str, Outcome]:
    """Runs names in one process until all are done, or until one hangs or kills the process."""
    paths = os.pathsep.join([str(HERE), os.environ.get("PYTHONPATH", "")])
    process = subprocess.Popen(
        [sys.executable, "-m", "conformance.worker", cls, *names, *(["-v"] if verbose else [])],
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


def run_class(cls: str, names: list[str], verbose: bool = False) -> dict[str, Outcome]:
    done: dict[str, Outcome] = {}
    while left := [name for name in names if name not in done]:
        more = run_some(cls, left, verbose)
        done.update(more or {left[0]: Outcome("crash", "the process said nothing")})
    return done


def batches(only: list[str]) -> list[tuple[str, list[str]]]:
    """Large classes in parts, so that two workers end at about the same time."""
    found = []
    for cls, case in suites.classes().items():
        names = suites.tests_of(case)
        if only and cls not in only:
            continue
        found += [(cls, names[i : i + 30]) for i in range(0, len(names), 30)]
    return sorted(found, key=lambda batch: -len(batch[1]))


def run_all(only: list[str] | None = None, verbose: bool = False) -> dict[str, Outcome]:
    """{"Class.test": outcome}"""
    results: dict[str, Outcome] = {}
    with ThreadPoolExecutor(2) as pool:
        jobs = [
            (cls, pool.submit(run_class, cls, names, verbose)) for cls, names in batches(only or [])
        ]
        for cls, job in jobs:
            results.update({f"{cls}.{name}": outcome for name, outcome in job.result().items()})
    return results


def main() -> int:
    verbose = "-v" in sys.argv
    results = run_all([arg for arg in sys.argv[1:] if arg != "-v"], verbose)
    for name, (outcome, why) in sorted(results.items()):
        if outcome not in ("ok", "skip") or (verbose and outcome != "ok"):
            print(f"{outcome:5} {name}: {why}")
    counts = Counter(outcome for outcome, _ in results.values())
    print(f"Python {sys.version.split()[0]}: {dict(counts)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
