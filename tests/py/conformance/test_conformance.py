"""CPython's own asyncio tests pass on Puff's loop; the table is `python -m conformance.run`."""

from __future__ import annotations

import sys

import pytest

from conformance import run, suites
from conformance.expected import FAILURES

# With all of CPython's mixins there are this many; fewer means that the binding has lost some.
AT_LEAST = 1400


def test_every_file_of_test_asyncio_has_been_looked_at() -> None:
    assert not suites.available() or suites.unclassified() == set()


@pytest.mark.timeout(600)
@pytest.mark.skipif(
    not suites.available(), reason="this Python is installed without its test package"
)
def test_cpython_asyncio_tests_pass_on_puffs_loop() -> None:
    results = run.run_all()
    bad = {name for name, (outcome, _) in results.items() if outcome not in ("ok", "skip")}
    # Some of them measure time: on a busy machine one may fail, but not twice.
    known = set(FAILURES.get(sys.version_info[:2], {}))
    for name in sorted(bad - known):
        cls, _, test = name.rpartition(".")
        results[name] = run.run_class(cls, [test])[test]
    unexpected = {
        name: results[name] for name in bad - known if results[name].outcome not in ("ok", "skip")
    }
    assert unexpected == {}
    assert known <= bad, "these pass now: take them out of expected.py"
    assert len(results) >= AT_LEAST
