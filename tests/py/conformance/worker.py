"""Runs tests of one group and says how each went, a JSON line per event: the parent kills it when
it hangs.

python -m conformance.worker SUITE GROUP TEST...
"""

from __future__ import annotations

import importlib
import json
import os
import signal
import sys
import unittest


def summary(result: unittest.TestResult) -> tuple[str, str]:
    """(ok | fail | skip, the last line of why)"""
    bad = result.errors + result.failures
    if bad:
        return "fail", bad[0][1] if "-v" in sys.argv else bad[0][1].strip().splitlines()[-1]
    if result.unexpectedSuccesses:
        return "fail", "unexpected success"
    if result.skipped:
        return "skip", result.skipped[0][1]
    return "ok", ""


def main(suite_name: str, group: str, names: list[str]) -> None:
    # The tests may write to stdout, and their children inherit descriptors: ours is a private one.
    channel = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    # Ignored in a process that was started in the background, and then by the tests too.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    suite = importlib.import_module(f"conformance.{suite_name}")
    for name in names:
        print(json.dumps({"start": name}), file=channel, flush=True)
        outcome, why = summary(suite.run_one(group, name))
        print(json.dumps({"end": name, "outcome": outcome, "why": why}), file=channel, flush=True)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], [arg for arg in sys.argv[3:] if not arg.startswith("-")])
