"""Tests of CPython's that Puff's loop is known to fail, with the reason: {(3, 11): {"Class.test":
why}}.

Empty is the aim, and the state: a line here is a debt that docs/loop.md must list too.
"""

FAILURES: dict[tuple[int, int], dict[str, str]] = {}
