"""puff.monkey where programs are unkind: Ctrl-C, exits, forks, late patches, no loop at all.

Each is a program of its own, as its end is what is looked at.
"""

from __future__ import annotations

import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

PATCHED = """
import puff.monkey
puff.monkey.patch_all()
import multiprocessing, os, puff, queue, select, signal, socket, subprocess, sys, threading, time

def on_greenlet(f):
    async def main():
        return await puff.spawn(f).join()
    return puff.run(main())

"""


def run(program: str, *, before: str = PATCHED, cwd: Path | None = None) -> tuple[str, int]:
    """What it prints, and how it ends."""
    ended = subprocess.run(
        [sys.executable, "-c", before + textwrap.dedent(program)], timeout=60, text=True, cwd=cwd,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    return ended.stdout.strip(), ended.returncode


# ---- no loop -------------------------------------------------------------------------------------


def test_a_module_that_waits_while_it_is_imported(tmp_path: Path) -> None:
    (tmp_path / "waits.py").write_text(
        PATCHED
        + textwrap.dedent("""
        lock = threading.Lock()
        with lock:
            assert not lock.acquire(timeout=0.01)
        q, event = queue.Queue(), threading.Event()
        thread = threading.Thread(target=lambda: (time.sleep(0.05), q.put(1), event.set()))
        thread.start()
        assert q.get(timeout=5) == 1 and event.wait(5)
        thread.join()
        a, b = socket.socketpair()
        b.send(b"x")
        assert select.select([a], [], [], 5)[0] == [a] and a.recv(1) == b"x"
        assert subprocess.run(["true"]).returncode == 0
        assert socket.getaddrinfo("localhost", 80)
        a.close(), b.close()
        """)
    )
    assert run("import waits; print(waits.q.empty())", before="", cwd=tmp_path) == ("True", 0)


# ---- patched late --------------------------------------------------------------------------------

LATE = """
import sys, types, warnings
early = types.ModuleType("early")
sys.modules["early"] = early
exec("from time import sleep as nap; from threading import Lock, RLock, Event", vars(early))
import puff.monkey
"""


def test_who_has_imported_the_old_functions_is_named() -> None:
    program = """
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        puff.monkey.patch_all()
        puff.monkey.patch_all()
    print([(each.category.__name__, str(each.message)) for each in caught])
    """
    text = (
        "imported before puff.monkey.patch_all(), and blocking still: "
        "early.Lock (threading.Lock), early.nap (time.sleep)"
    )
    assert run(program, before=LATE) == (str([("RuntimeWarning", text)]), 0)


def test_nobody_is_named_when_the_patch_comes_first() -> None:
    before = "import warnings; warnings.simplefilter('error')\n" + PATCHED
    assert run("print('quiet')", before=before) == ("quiet", 0)


# ---- Ctrl-C and handlers -------------------------------------------------------------------------

WAITS = {
    "time.sleep": "time.sleep(20)",
    "Lock": "lock.acquire()",
    "RLock": "rlock.acquire()",
    "recv": "a.recv(1)",
    "Queue": "queue.Queue().get()",
    "SimpleQueue": "queue.SimpleQueue().get()",
    "Event": "threading.Event().wait()",
    "select": "select.select([a], [], [], 20)",
    "child": "subprocess.run(['sleep', '20'])",
    "join": "thread.join()",
}
INTERRUPTED = """
a, b = socket.socketpair()
lock, rlock = threading.Lock(), threading.RLock()
lock.acquire()
held = threading.Thread(target=rlock.acquire)
held.start(), held.join()
thread = threading.Thread(target=time.sleep, args=(20,), daemon=True)
thread.start()
signal.signal(signal.SIGINT, signal.default_int_handler)
threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGINT)).start()

def work():
    try:
        {wait}
    except BaseException as exc:
        print(type(exc).__name__)
        raise

try:
    {where}
except KeyboardInterrupt:
    print("interrupted")
"""


@pytest.mark.parametrize("wait", WAITS)
def test_ctrl_c_ends_a_wait_without_a_loop(wait: str) -> None:
    printed = run(INTERRUPTED.format(wait=WAITS[wait], where="work()"))
    assert printed == ("KeyboardInterrupt\ninterrupted", 0)


@pytest.mark.parametrize("wait", WAITS)
def test_ctrl_c_ends_the_program_of_a_parked_greenlet(wait: str) -> None:
    printed = run(INTERRUPTED.format(wait=WAITS[wait], where="on_greenlet(work)"))
    assert printed == ("GreenletExit\ninterrupted", 0)


@pytest.mark.parametrize("where", ["on_greenlet(work)", "work()"])
def test_a_handler_that_returns_does_not_end_a_wait(where: str) -> None:
    program = f"""
    signal.signal(signal.SIGALRM, lambda *_: print("handled"))
    signal.setitimer(signal.ITIMER_REAL, 0.05)
    a, b = socket.socketpair()
    threading.Timer(0.3, b.send, (b"x",)).start()

    def work():
        begun = time.monotonic()
        time.sleep(0.1)
        assert time.monotonic() - begun >= 0.1
        signal.setitimer(signal.ITIMER_REAL, 0.05)
        print(a.recv(1))

    {where}
    """
    assert run(program) == ("handled\nhandled\nb'x'", 0)


# ---- exits ---------------------------------------------------------------------------------------

PARKED = """
lock = threading.Lock()
lock.acquire()

def parked():
    try:
        lock.acquire()
    finally:
        print("unwound")

async def main():
    greenlets = [puff.spawn(parked) for _ in range(2)]
    await puff.sleep_ms(20)
    {end}

{run}
"""


@pytest.mark.parametrize(
    ("end", "code"),
    [
        ("pass", 0),
        ("sys.exit(7)", 7),
        ("await puff.spawn(sys.exit, 7).join()", 7),
        ("threading.Thread(target=lock.acquire, daemon=True).start()", 0),
    ],
)
def test_parked_greenlets_are_unwound_at_the_end(end: str, code: int) -> None:
    assert run(PARKED.format(end=end, run="puff.run(main())")) == ("unwound\nunwound", code)


def test_a_script_that_ends_with_greenlets_parked() -> None:
    script = "greenlets = [puff.spawn(parked) for _ in range(2)]; puff.sleep_ms(20); sys.exit(7)"
    assert run(PARKED.format(end="pass", run=script)) == ("unwound\nunwound", 7)


# ---- forks ---------------------------------------------------------------------------------------

CHILD = """
def child():
    try:
        time.sleep(0.01)
        q = queue.Queue()
        thread = threading.Thread(target=q.put, args=(5,))
        thread.start()
        assert q.get(timeout=5) == 5
        thread.join()
        a, b = socket.socketpair()
        b.send(b"x")
        assert a.recv(1) == b"x"
        assert on_greenlet(lambda: (time.sleep(0.01), 7)[1]) == 7
        os._exit(0)
    finally:
        os._exit(1)

def work():
    with threading.Lock(), threading.RLock():
        pid = os.fork()
        if pid == 0:
            child()
    print(os.waitpid(pid, 0)[1])
"""


@pytest.mark.parametrize("where", ["on_greenlet(work)", "work()"])
def test_a_forked_child_waits_plainly_and_may_have_a_loop(where: str) -> None:
    assert run(where, before=PATCHED + CHILD) == ("0", 0)


def test_multiprocessing_from_a_greenlet() -> None:
    program = """
    def put(q):
        q.put(os.getpid())

    def work():
        context = multiprocessing.get_context("fork")
        q = context.Queue()
        process = context.Process(target=put, args=(q,))
        process.start()
        print(q.get(timeout=10) == process.pid)
        process.join()
        with context.Pool(2) as pool:
            print(pool.map(abs, [-1, -2, 3]))

    on_greenlet(work)
    """
    assert run(program) == ("True\n[1, 2, 3]", 0)


def test_closed_standard_streams_are_put_back_under_a_loop() -> None:
    """What the loop opens meanwhile is not closed by that."""
    program = """
    def work():
        saved = [os.dup(fd) for fd in (0, 1, 2)]
        for fd in (0, 1, 2):
            os.close(fd)
        a, b = socket.socketpair()
        thread = threading.Timer(0.05, b.send, (b"x",))
        thread.start()
        a.recv(1)  # the loop's first wait for a descriptor
        thread.join()
        a.close(), b.close()
        for fd, copy in enumerate(saved):
            os.dup2(copy, fd)
        time.sleep(0.01)
        print(subprocess.run(["true"]).returncode)

    on_greenlet(work)
    on_greenlet(work)
    """
    assert run(program) == ("0\n0", 0)


# ---- threads from before -------------------------------------------------------------------------


def test_an_executor_from_before_the_patch_serves_greenlets() -> None:
    before = """
from concurrent.futures import ThreadPoolExecutor
pool = ThreadPoolExecutor(2)
pool.submit(int).result()
"""
    program = """
    lock, event, q = threading.Lock(), threading.Event(), queue.Queue()

    def in_thread(n):
        with lock:
            q.put(n)
        return event.wait(10)

    def work():
        with lock:
            futures = [pool.submit(in_thread, n) for n in range(2)]
            futures.append(puff.spawn_blocking(in_thread, 2))
            time.sleep(0.05)
            assert q.empty()
        print(sorted(q.get(timeout=10) for _ in range(3)))
        event.set()
        print([f.result(10) for f in futures[:2]], futures[2].join(10))

    on_greenlet(work)
    """
    assert run(program, before=before + PATCHED) == ("[0, 1, 2]\n[True, True] True", 0)
