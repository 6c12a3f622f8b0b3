"""CPython's own tests of what puff.monkey replaces, and of its users, in a patched process and on a
greenlet of Puff's loop: where a program's sync code runs.

Each test has a loop of its own. Threads that a test starts are threads, so most of these tests talk
between a greenlet and a thread. Nothing is looked up in the network.
"""

from __future__ import annotations

import importlib
import sys
import unittest
from types import ModuleType

WORKERS = 8  # nearly all of the time is spent in sleeps

FILES = [
    "test_socket", "test_ssl", "test_select", "test_selectors", "test_poll", "test_epoll",
    "test_timeout", "test_threading", "test_threading_local", "test_thread", "test_threadsignals",
    "test_queue", "test_subprocess", "test_sched", "test_socketserver", "test_fork1",
    "test_concurrent_futures",
    "test_concurrent_futures.test_as_completed", "test_concurrent_futures.test_deadlock",
    "test_concurrent_futures.test_future", "test_concurrent_futures.test_init",
    "test_concurrent_futures.test_shutdown", "test_concurrent_futures.test_thread_pool",
    "test_concurrent_futures.test_wait",
    "test_httplib", "test_httpservers", "test_urllib", "test_urllib2", "test_urllib2_localnet",
    "test_urllib_response", "test_robotparser", "test_smtplib", "test_ftplib", "test_poplib",
    "test_imaplib", "test_telnetlib", "test_nntplib", "test_xmlrpc", "test_docxmlrpc",
    "test_wsgiref", "test_logging",
]  # fmt: skip


_HANDLER = "what a signal's handler raises leaves the loop, as ever with asyncio, not who is parked"
_IDENT = "a greenlet's identity is its own; the C API knows the thread's"
_TYPES = "the type is ours, and can be called"

# {file: {"Class" or "Class.test": why}}
NOT_RUN: dict[str, dict[str, str]] = {
    "test_select": {"SelectTestCase.test_disallow_instantiation": _TYPES},
    "test_selectors": {
        f"{kind}SelectorTestCase.test_select_interrupt_exc": _HANDLER
        for kind in ("Default", "Epoll", "Kqueue", "Poll", "Select")
    },
    "test_socket": {
        "GeneralModuleTests.testRefCountGetNameInfo": "the executor's thread lets go a bit later",
        "GeneralModuleTests.test_sendall_interrupted": _HANDLER,
        "GeneralModuleTests.test_sendall_interrupted_with_timeout": _HANDLER,
        "InterruptedRecvTimeoutTest": _HANDLER,
        "InterruptedSendTimeoutTest": _HANDLER,
        "TCPTimeoutTest.testInterruptedTimeout": _HANDLER,
        "ThreadedVSOCKSocketStreamTest": "wants a hypervisor; hangs without the patch as well",
    },
    "test_subprocess": {
        f"{cls}.test_communicate_BrokenPipeError_stdin_write": "writes to the pipe, not the file"
        for cls in ("POSIXProcessTestCase", "ProcessTestCase", "ProcessTestCaseNoPoll")
    },
    "test_threading": {
        "ExceptHookTests.test_excepthook_thread_None": _IDENT,
        "InterruptMainTests.test_interrupt_main_mainthread": "Ctrl-C cancels puff.run()'s Task",
        "InterruptMainTests.test_interrupt_main_subthread": "Ctrl-C cancels puff.run()'s Task",
        "MiscTestCase.test__all__": "threading.local is the one that is written in Python",
        "ThreadTests.test_PyThreadState_SetAsyncExc": _IDENT,
        "ThreadTests.test_disallow_instantiation": _TYPES,
        "ThreadTests.test_main_thread": "current_thread() is the greenlet's, not the main one",
    },
}
if sys.version_info >= (3, 14):
    NOT_RUN["test_concurrent_futures.test_as_completed"] = {
        "InterpreterPoolAsCompletedTest.test_future_times_out": (
            "shares time.sleep() with another interpreter, which takes no Python function"
        )
    }

# Files that say they need the network and make do with this machine.
LOCAL = {"test_socketserver"}


def imported(file: str) -> ModuleType | None:
    try:
        support = importlib.import_module("test.support")
        support.use_resources = ["network"] if file in LOCAL else []
        return importlib.import_module(f"test.{file}")
    except (ModuleNotFoundError, unittest.SkipTest):
        return None


def groups() -> dict[str, list[str]]:
    """{file: ["Class.test", ...]}"""
    found: dict[str, list[str]] = {}
    for file in FILES:
        tests = imported(file)
        for cls in vars(tests).values() if tests else ():
            if isinstance(cls, type) and issubclass(cls, unittest.TestCase):
                names = unittest.TestLoader().getTestCaseNames(cls)
                found.setdefault(file, []).extend(f"{cls.__name__}.{name}" for name in names)
    return {
        file: [name for name in sorted(set(names)) if not _left_out(file, name)]
        for file, names in found.items()
    }


def _left_out(file: str, name: str) -> bool:
    reasons = NOT_RUN.get(file, {})
    return name in reasons or name.partition(".")[0] in reasons


def run_one(file: str, name: str) -> unittest.TestResult:
    import puff
    import puff.monkey

    puff.monkey.patch_all()
    cls, _, test = name.partition(".")
    result = unittest.TestResult()
    suite = unittest.TestSuite([getattr(imported(file), cls)(test)])

    async def main() -> None:
        await puff.spawn(suite.run, result).join()

    puff.run(main())
    return result
