"""CPython's own asyncio tests, bound to Puff's loop.

The mixins get a loop by their own hook; whole files get it through the policy. What a Python
version does not have is left out; nothing is skipped by us.
"""

from __future__ import annotations

import asyncio
import importlib
import sys
import unittest
import warnings
from collections.abc import Callable

import puff

# Files that only know asyncio.new_event_loop(), asyncio.run() and Runner.
WHOLE_FILES = [
    "test_context", "test_eager_task_factory", "test_locks", "test_queues", "test_runners",
    "test_staggered", "test_streams", "test_subprocess", "test_taskgroups", "test_threads",
    "test_timeouts", "test_waitfor",
]  # fmt: skip
# Classes in them that are about something else than the loop that we give.
NOT_OURS = {"SubprocessProactorTests", "SubprocessFastWatcherTests", "SubprocessSafeWatcherTests"}


def module(name: str):
    """A module of the interpreter's test.test_asyncio, or None where this version lacks it."""
    try:
        return importlib.import_module(f"test.test_asyncio.{name}")
    except ModuleNotFoundError:
        return None


def available() -> bool:
    """Distributions may leave the test package out."""
    return module("utils") is not None


def bind(name: str, *bases: type, **hooks: Callable[..., object]) -> type[unittest.TestCase]:
    return type(name, bases, {"__module__": __name__, **hooks})


def new_loop(self) -> puff.Loop:
    return puff.new_event_loop()


def mixin_classes() -> dict[str, type[unittest.TestCase]]:
    utils = module("utils")
    events = module("test_events")
    sock, sendfile = module("test_sock_lowlevel"), module("test_sendfile")
    buffered, server, ssl = module("test_buffered_proto"), module("test_server"), module("test_ssl")
    made = [
        bind("Events", events.UnixEventLoopTestsMixin, events.SubprocessTestsMixin, utils.TestCase,
             create_event_loop=new_loop),
        bind("Sockets", sock.BaseSockTestsMixin, utils.TestCase, create_event_loop=new_loop),
        bind("Sendfile", sendfile.SendfileTestsBase, utils.TestCase, create_event_loop=new_loop),
        bind("Buffered", buffered.BaseTestBufferedProtocol, unittest.TestCase, new_loop=new_loop),
        bind("StartServer", server.BaseStartServer, unittest.TestCase, new_loop=new_loop),
    ]  # fmt: skip
    for name in ("TestServer2", "UnixServerCleanupTests"):
        if hasattr(server, name):
            made.append(bind(name, getattr(server, name)))
    if ssl is not None:
        made.append(bind("Tls", ssl.TestSSL, new_loop=new_loop))
    return {cls.__name__: cls for cls in made}


def file_classes() -> dict[str, type[unittest.TestCase]]:
    found = {}
    for name in WHOLE_FILES:
        tests = module(name)
        for attr, cls in vars(tests).items() if tests else ():
            is_case = isinstance(cls, type) and issubclass(cls, unittest.TestCase)
            if is_case and attr not in NOT_OURS and cls.__module__ == tests.__name__:
                found[f"{name[5:]}.{attr}"] = cls
    return found


def classes() -> dict[str, type[unittest.TestCase]]:
    """name -> test case class, for this interpreter."""
    return {**mixin_classes(), **file_classes()}


def tests_of(cls: type[unittest.TestCase]) -> list[str]:
    return list(unittest.TestLoader().getTestCaseNames(cls))


def use_puff() -> None:
    """Before each test: some files set the policy back when they end."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        puff.install()
    # As after any test that ran before: the policy makes no loop of its own any more.
    asyncio.set_event_loop(None)


def run_one(cls: type[unittest.TestCase], name: str) -> tuple[str, str]:
    """(ok | fail | skip, the last line of why)"""
    use_puff()
    result = unittest.TestResult()
    unittest.TestSuite([cls(name)]).run(result)
    bad = result.errors + result.failures
    if bad:
        return "fail", bad[0][1] if "-v" in sys.argv else bad[0][1].strip().splitlines()[-1]
    if result.unexpectedSuccesses:
        return "fail", "unexpected success"
    if result.skipped:
        return "skip", result.skipped[0][1]
    return "ok", ""
