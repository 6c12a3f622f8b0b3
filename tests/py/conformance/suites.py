"""CPython's own asyncio tests, bound to Puff's loop.

The mixins get a loop by their own hook; whole files get it through the policy. What a Python
version does not have is left out; nothing is skipped by us.
"""

from __future__ import annotations

import asyncio
import importlib
import unittest
import warnings
from collections.abc import Callable
from pathlib import Path

import puff
from conformance.expected import NOT_RUN

WORKERS = 2

# Files that only know asyncio.new_event_loop(), run(), Runner and SelectorEventLoop(): all are
# ours while a test runs.
WHOLE_FILES = [
    "test.test_asyncio.test_base_events", "test.test_asyncio.test_context",
    "test.test_asyncio.test_eager_task_factory", "test.test_asyncio.test_events",
    "test.test_asyncio.test_free_threading", "test.test_asyncio.test_futures",
    "test.test_asyncio.test_futures2", "test.test_asyncio.test_graph",
    "test.test_asyncio.test_locks", "test.test_asyncio.test_pep492",
    "test.test_asyncio.test_queues", "test.test_asyncio.test_runners",
    "test.test_asyncio.test_sslproto", "test.test_asyncio.test_staggered",
    "test.test_asyncio.test_streams", "test.test_asyncio.test_subprocess",
    "test.test_asyncio.test_taskgroups", "test.test_asyncio.test_tasks",
    "test.test_asyncio.test_threads", "test.test_asyncio.test_timeouts",
    "test.test_asyncio.test_unix_events", "test.test_asyncio.test_waitfor",
    # Outside test_asyncio, and written on asyncio all the same.
    "test.test_asyncgen", "test.test_contextlib_async", "test.test_coroutines",
    "test.test_unittest.test_async_case", "unittest.test.test_async_case",
]  # fmt: skip

# Every file of test_asyncio is in WHOLE_FILES, has a mixin below, or stands here.
NOT_LOOP_FILES = {
    "test_proactor_events": "asyncio's Windows loop, on mocks",
    "test_protocols": "the abstract classes",
    "test_selector_events": "asyncio's own selector loop and transports, on mocks of sockets",
    "test_tools": "asyncio's ps and pstree, which read another process",
    "test_transports": "the abstract classes",
    "test_windows_events": "Windows",
    "test_windows_utils": "Windows",
}
MIXIN_FILES = {
    "test_buffered_proto", "test_events", "test_sendfile", "test_server", "test_sock_lowlevel",
    "test_ssl", "test_sslproto",
}  # fmt: skip

# Classes of whole files that make no loop of ours.
NOT_OURS = {
    "AbstractChildWatcherTests": "the abstract class",
    "AbstractEventLoopTests": "the abstract class",
    "BaseChildWatcherTests": "the abstract class",
    "BaseEventLoopTests": "makes a BaseEventLoop: BaseLoop below makes ours",
    "BaseLoopSockSendfileTests": "makes a BaseSelectorEventLoop: SockSendfile below makes ours",
    "EPollEventLoopTests": "asyncio's selectors: Events below has the same tests",
    "FastChildWatcherTests": "the watcher alone, on mocks",
    "HandleTests": "asyncio.Handle on a mock of a loop",
    "PollEventLoopTests": "as EPollEventLoopTests",
    "ProactorStartTLSTests": "Windows",
    "SafeChildWatcherTests": "the watcher alone, on mocks",
    "SelectEventLoopTests": "as EPollEventLoopTests",
    "SelectorStartTLSTests": "bound as StartTls below",
    "SubprocessProactorTests": "Windows",
    "TestAbstractServer": "the abstract class",
    "TimerTests": "asyncio.TimerHandle on a mock of a loop",
    "UnixReadPipeTransportTests": "asyncio's transport on a mock of os.read",
    "UnixWritePipeTransportTests": "asyncio's transport on a mock of os.write",
}


def imported(name: str):
    """A module of the interpreter's tests, or None where this version lacks it."""
    try:
        return importlib.import_module(name)
    except (ModuleNotFoundError, unittest.SkipTest):
        return None


def module(name: str):
    return imported(f"test.test_asyncio.{name}")


def unclassified() -> set[str]:
    """Files of test_asyncio that a new Python has brought and nobody has looked at."""
    package = imported("test.test_asyncio")
    files = {path.stem for path in Path(package.__file__).parent.glob("test_*.py")}
    whole = {name.rpartition(".")[2] for name in WHOLE_FILES}
    return files - whole - MIXIN_FILES - set(NOT_LOOP_FILES)


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
    buffered, server = module("test_buffered_proto"), module("test_server")
    ssl, sslproto = module("test_ssl"), module("test_sslproto")
    # 3.14 has no child watchers, with which the Unix mixin went about.
    loop_tests = getattr(events, "UnixEventLoopTestsMixin", events.EventLoopTestsMixin)
    made = [
        bind("Events", loop_tests, events.SubprocessTestsMixin, utils.TestCase,
             create_event_loop=new_loop),
        bind("Sockets", sock.BaseSockTestsMixin, utils.TestCase, create_event_loop=new_loop),
        bind("Sendfile", sendfile.SendfileTestsBase, utils.TestCase, create_event_loop=new_loop),
        bind("Buffered", buffered.BaseTestBufferedProtocol, unittest.TestCase, new_loop=new_loop),
        bind("StartServer", server.BaseStartServer, unittest.TestCase, new_loop=new_loop),
    ]  # fmt: skip
    for name in ("TestServer2", "UnixServerCleanupTests"):
        if hasattr(server, name):
            made.append(bind(name, getattr(server, name)))
    made += base_loop_classes(utils, module("test_base_events"))
    made.append(bind("StartTls", sslproto.BaseStartTLS, unittest.TestCase, new_loop=new_loop))
    if ssl is not None:
        made.append(bind("Tls", ssl.TestSSL, new_loop=new_loop))
    return {cls.__name__: cls for cls in made}


def base_loop_classes(utils, base) -> list[type[unittest.TestCase]]:
    """test_base_events makes abstract loops in its setUp(); what it tries is every loop's."""

    def set_up(self) -> None:
        utils.TestCase.setUp(self)
        self.loop = puff.new_event_loop()
        self.set_event_loop(self.loop)

    def set_up_with_file(self) -> None:
        set_up(self)
        self.file = Path(base.os_helper.TESTFN).open("rb")  # noqa: SIM115
        self.addCleanup(self.file.close)

    return [
        bind("BaseLoop", base.BaseEventLoopTests, setUp=set_up),
        bind("SockSendfile", base.BaseLoopSockSendfileTests, setUp=set_up_with_file),
    ]


def file_classes() -> dict[str, type[unittest.TestCase]]:
    found = {}
    for name in WHOLE_FILES:
        tests = imported(name)
        for attr, cls in vars(tests).items() if tests else ():
            is_case = isinstance(cls, type) and issubclass(cls, unittest.TestCase)
            if is_case and attr not in NOT_OURS and cls.__module__ == tests.__name__:
                found[f"{name.rpartition('.test_')[2]}.{attr}"] = cls
    return found


def classes() -> dict[str, type[unittest.TestCase]]:
    """name -> test case class, for this interpreter."""
    return {**mixin_classes(), **file_classes()}


def tests_of(cls: type[unittest.TestCase]) -> list[str]:
    names = unittest.TestLoader().getTestCaseNames(cls)
    return [name for name in names if f"{cls.__name__}.{name}" not in NOT_RUN]


def use_puff() -> None:
    """Before each test: some files set the policy back when they end."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        puff.install()
    asyncio.SelectorEventLoop = asyncio.unix_events.SelectorEventLoop = puff.Loop
    asyncio.EventLoop = puff.Loop  # 3.13 has it
    # As after any test that ran before: the policy makes no loop of its own any more.
    asyncio.set_event_loop(None)


def groups() -> dict[str, list[str]]:
    """{class: its tests}"""
    return {name: tests_of(cls) for name, cls in classes().items()}


def run_one(cls: str, name: str) -> unittest.TestResult:
    use_puff()
    result = unittest.TestResult()
    unittest.TestSuite([classes()[cls](name)]).run(result)
    return result
