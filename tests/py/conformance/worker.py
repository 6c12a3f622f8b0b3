"""Runs tests of one class and says how each went, a JSON line per event: the parent kills it when
it hangs.

python -m conformance.worker CLASS TEST...
"""

from __future__ import annotations

import json
import os
import signal
import sys

from conformance import suites


def main(cls_name: str, names: list[str]) -> None:
    # The tests may write to stdout, and their children inherit descriptors: ours is a private one.
    channel = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    # Ignored in a process that was started in the background, and then by the tests too.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    cls = suites.classes()[cls_name]
    for name in names:
        print(json.dumps({"start": name}), file=channel, flush=True)
        outcome, why = suites.run_one(cls, name)
        print(json.dumps({"end": name, "outcome": outcome, "why": why}), file=channel, flush=True)


if __name__ == "__main__":
    main(sys.argv[1], [arg for arg in sys.argv[2:] if not arg.startswith("-")])
