"""CPython's own asyncio tests pass on Puff's loop.

The table is `python -m conformance.run suites`.
"""

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
    results = run.run_all("suites")
    known = set(FAILURES.get(sys.version_info[:2], {}))
    bad = run.failed_twice("suites", results)
    assert {name: why for name, why in bad.items() if name not in known} == {}
    assert known <= set(bad), "these pass now: take them out of expected.py"
    assert len(results) >= AT_LEAST
