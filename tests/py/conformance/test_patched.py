"""CPython's own tests of sockets, threads and their users pass on greenlets under puff.monkey.

The table is `python -m conformance.run patched`; patched.py has what is not run and why.
"""

from __future__ import annotations

import pytest

from conformance import patched, run, suites

AT_LEAST = 2000  # fewer means that whole files are gone


def test_what_is_left_out_exists() -> None:
    found = set(patched.groups())
    assert set(patched.NOT_RUN) <= found or not suites.available()


@pytest.mark.timeout(600)
@pytest.mark.skipif(
    not suites.available(), reason="this Python is installed without its test package"
)
def test_cpythons_tests_pass_on_greenlets_of_a_patched_process() -> None:
    results = run.run_all("patched")
    assert run.failed_twice("patched", results) == {}
    assert len(results) >= AT_LEAST
