"""puff.monkey: what threading and queue have parks greenlets, and still works between threads."""

from __future__ import annotations

import _thread
import asyncio
import concurrent.futures
import queue
import signal
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from monkeys import CROWD, TOGETHER_S, crowd, killed, on_greenlet, patched

import puff
import puff.monkey
from puff.greenlet import GreenletExit


@pytest.fixture(autouse=True)
def _monkey() -> Iterator[None]:
    with patched():
        yield


def together(*fns: Callable[[], Any]) -> list[Any]:
    return crowd(lambda i: fns[i](), len(fns))[0]


locks = pytest.mark.parametrize("make", ["Lock", "RLock"])


def made(name: str) -> Any:
    return getattr(threading, name)()


# ---- locks ---------------------------------------------------------------------------------------


@locks
def test_one_at_a_time(make: str) -> None:
    lock = made(make)
    inside = 0

    def work(i: int) -> None:
        nonlocal inside
        with lock:
            inside += 1
            assert inside == 1
            time.sleep(0.001)
            inside -= 1

    crowd(work, 20)
    assert not lock._is_owned() if make == "RLock" else not lock.locked()


@locks
def test_lock_times_out_and_goes_on(make: str) -> None:
    lock = made(make)

    def hold() -> None:
        with lock:
            time.sleep(0.1)

    def ask() -> list[bool]:
        time.sleep(0.01)
        got = [lock.acquire(False), lock.acquire(timeout=0.01), lock.acquire(timeout=5)]
        lock.release()
        return got

    assert together(hold, ask)[1] == [False, False, True]


@locks
def test_killed_in_line_leaves_the_line(make: str) -> None:
    lock = made(make)
    lock.acquire()  # by this thread
    assert isinstance(killed(lock.acquire), GreenletExit)
    lock.release()
    assert on_greenlet(lambda: (lock.acquire(timeout=1), lock.release())[0])


def test_killed_when_its_turn_has_come_tells_the_next() -> None:
    lock = threading.Lock()

    async def main() -> bool:
        lock.acquire()
        first = puff.spawn(lock.acquire)
        second = puff.spawn(lock.acquire, True, 5)
        await puff.sleep_ms(10)
        first.kill()
        lock.release()  # tells the first, before the kill has reached it
        return await second.join(timeout=10)

    assert puff.run(main())


def test_rlock_is_owned_by_its_greenlet() -> None:
    lock = threading.RLock()

    def own() -> None:
        with lock, lock:
            time.sleep(0.05)

    def other() -> bool:
        time.sleep(0.01)
        with pytest.raises(RuntimeError):
            lock.release()
        return lock.acquire(False)

    assert together(own, other)[1] is False


def test_locks_between_threads_and_greenlets() -> None:
    lock = threading.Lock()
    count = 0

    def work(n: int) -> None:
        nonlocal count
        for _ in range(n):
            with lock:
                before = count
                time.sleep(0)
                count = before + 1

    threads = [threading.Thread(target=work, args=(100,)) for _ in range(3)]
    for thread in threads:
        thread.start()
    crowd(lambda i: work(50), 6)
    for thread in threads:
        thread.join(20)
    assert count == 600


def test_wrong_arguments() -> None:
    def work() -> None:
        lock = threading.Lock()
        for args in ((False, 1), (True, -2)):
            with pytest.raises(ValueError):
                lock.acquire(*args)
        with pytest.raises(OverflowError):
            lock.acquire(timeout=1e20)
        with pytest.raises(RuntimeError):
            lock.release()
        with pytest.raises(TypeError):
            lock.acquire(timeout="1")

    on_greenlet(work)


# ---- what is built from them ---------------------------------------------------------------------


def test_events_conditions_and_barriers() -> None:
    event, condition, barrier = threading.Event(), threading.Condition(), threading.Barrier(CROWD)

    def work(i: int) -> bool:
        barrier.wait(5)
        if i == 0:
            time.sleep(0.01)
            event.set()
            with condition:
                condition.notify_all()
            return True
        assert event.wait(5)
        with condition:
            return condition.wait_for(event.is_set, 5)

    answers, seconds = crowd(work)
    assert all(answers)
    assert seconds < TOGETHER_S


def test_waits_that_end_by_timeout() -> None:
    def work(i: int) -> list[bool]:
        condition = threading.Condition()
        with condition:
            waited = condition.wait(0.05)
        return [waited, threading.Event().wait(0.05), threading.Semaphore(0).acquire(timeout=0.05)]

    answers, seconds = crowd(work)
    assert answers == [[False] * 3] * CROWD
    assert seconds < TOGETHER_S


def test_an_event_set_by_a_thread_and_by_a_coroutine() -> None:
    by_thread, by_coroutine = threading.Event(), threading.Event()

    async def main() -> list[bool]:
        waiting = [puff.spawn(each.wait, 5) for each in (by_thread, by_coroutine)]
        await puff.sleep_ms(10)
        thread = threading.Thread(target=by_thread.set)
        thread.start()
        by_coroutine.set()
        got = await puff.join_all(waiting, timeout=10)
        thread.join(5)
        return got

    assert puff.run(main()) == [True, True]


@pytest.mark.parametrize("kind", ["Queue", "LifoQueue", "PriorityQueue", "SimpleQueue"])
def test_queues(kind: str) -> None:
    q = getattr(queue, kind)()

    def get(n: int) -> list[int]:
        return [q.get(timeout=5) for _ in range(n)]

    def put() -> None:
        for i in range(10):
            q.put(i)
            time.sleep(0.001)

    got = together(lambda: get(5), lambda: get(5), put)
    assert sorted(got[0] + got[1]) == list(range(10))
    with pytest.raises(queue.Empty):
        on_greenlet(lambda: q.get(timeout=0.02))


def test_a_full_queue_parks_who_puts() -> None:
    q: queue.Queue[int] = queue.Queue(1)
    got = together(
        lambda: [q.put(i, timeout=5) for i in range(20)],
        lambda: [q.get(timeout=5) for _ in range(20)],
    )
    assert got[1] == list(range(20))


def test_a_thread_serves_greenlets_by_queue() -> None:
    questions: queue.Queue[Any] = queue.Queue()

    def serve() -> None:
        while (question := questions.get()) is not None:
            n, answer = question
            answer.put(n * 2)

    thread = threading.Thread(target=serve)
    thread.start()

    def ask(i: int) -> int:
        answer: queue.SimpleQueue[int] = queue.SimpleQueue()
        questions.put((i, answer))
        return answer.get(timeout=10)

    assert crowd(ask)[0] == [i * 2 for i in range(CROWD)]
    questions.put(None)
    thread.join(5)
    assert not thread.is_alive()


def test_a_simple_queue_passes_over_who_was_killed_in_line() -> None:
    q: queue.SimpleQueue[int] = queue.SimpleQueue()

    async def main() -> list[Any]:
        waiting = [puff.spawn(q.get) for _ in range(4)]
        await puff.sleep_ms(10)
        waiting[0].kill()  # while it stands in line
        await puff.sleep_ms(10)
        waiting[1].kill()
        q.put(1)  # lets it in, before the kill has reached it
        q.put(2)
        return await puff.join_all(waiting[2:], timeout=10)

    assert puff.run(main()) == [1, 2]
    assert q.empty()


def test_a_simple_queue_between_threads_and_greenlets() -> None:
    q: queue.SimpleQueue[int] = queue.SimpleQueue()
    got: list[int] = []

    def take() -> None:
        while (item := q.get(timeout=20)) >= 0:
            got.append(item)

    threads = [threading.Thread(target=take) for _ in range(3)]
    for thread in threads:
        thread.start()

    def put_all() -> None:
        for i in range(2000):
            q.put(i)
            if i % 50 == 0:
                time.sleep(0)
        for _ in range(6):
            q.put(-1)

    together(take, take, take, put_all)
    for thread in threads:
        thread.join(20)
    assert sorted(got) == list(range(2000))


def test_a_simple_queue_refuses_what_it_always_refused() -> None:
    def work() -> None:
        q: queue.SimpleQueue[int] = queue.SimpleQueue()
        with pytest.raises(ValueError):
            q.get(timeout=-1)
        with pytest.raises(OverflowError):
            q.get(timeout=1e20)
        for args in ((True, 0), (False,), (True, 0.01)):
            with pytest.raises(queue.Empty):
                q.get(*args)
        q.put(1, False, 5)
        assert (q.qsize(), q.get(False), q.empty()) == (1, 1, True)

    on_greenlet(work)


# ---- identity and locals -------------------------------------------------------------------------


def test_identity_is_the_greenlets() -> None:
    main = threading.get_ident()

    def work(i: int) -> tuple[int, str, bool]:
        thread = threading.current_thread()
        before = threading.get_ident(), thread.name
        time.sleep(0.01)
        assert before == (threading.get_ident(), threading.current_thread().name)
        assert thread is threading.current_thread()
        assert thread.ident == threading.get_ident() == _thread.get_ident()
        return (*before, thread.is_alive())

    identities = crowd(work)[0]
    assert len({ident for ident, _, _ in identities}) == CROWD
    assert main not in {ident for ident, _, _ in identities}
    assert threading.get_ident() == main
    assert threading.current_thread() is threading.main_thread()
    assert len(threading.enumerate()) < CROWD


def test_a_signal_for_a_greenlet_comes_to_the_main_thread() -> None:
    """Its identity is no thread's: the C library would read any address that it is given."""
    got = []
    before = signal.signal(signal.SIGUSR1, lambda *_: got.append(1))

    def work() -> float:
        mine = threading.get_ident()
        signal.pthread_kill(mine, signal.SIGUSR1)
        thread = threading.Thread(target=signal.pthread_kill, args=(mine, signal.SIGUSR1))
        thread.start()
        thread.join(5)
        return time.clock_gettime(time.pthread_getcpuclockid(mine))

    try:
        assert on_greenlet(work) > 0
        assert len(got) == 2
    finally:
        signal.signal(signal.SIGUSR1, before)


def test_locals_are_the_greenlets() -> None:
    class Settings(threading.local):
        made = 0

        def __init__(self, start: int) -> None:
            type(self).made += 1
            self.value = start

    settings = Settings(-1)

    def work(i: int) -> int:
        assert settings.value == -1
        settings.value = i
        time.sleep(0.01)
        return settings.value

    assert crowd(work)[0] == list(range(CROWD))
    assert settings.value == -1
    assert Settings.made == CROWD + 1


def test_locals_end_with_their_greenlet() -> None:
    local = threading.local()
    ended = []

    class Thing:
        def __del__(self) -> None:
            ended.append(1)

    def work(i: int) -> None:
        local.thing = Thing()

    crowd(work, 5)
    assert not hasattr(local, "thing")  # it has kept the values of the flow that was here last
    assert len(ended) == 5


def test_debug_mode_takes_a_greenlet_for_a_part_of_its_loops_thread() -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        loop.set_debug(True)
        await puff.spawn(time.sleep, 0.001).join(timeout=10)
        await puff.spawn(loop.call_soon, max, 1, 2).join(timeout=10)
        with pytest.raises(RuntimeError, match="Non-thread-safe"):
            await asyncio.to_thread(loop.call_soon, max, 1, 2)

    puff.run(main())


# ---- threads -------------------------------------------------------------------------------------


def test_threads_are_joined_without_blocking() -> None:
    def work(i: int) -> bool:
        thread = threading.Thread(target=time.sleep, args=(0.1,))
        thread.start()
        thread.join(0.001)
        assert thread.is_alive()
        thread.join()
        return thread.is_alive()

    answers, seconds = crowd(work, 20)
    assert answers == [False] * 20
    assert seconds < 1.9


def test_executors_keep_threads_and_their_futures_park() -> None:
    with concurrent.futures.ThreadPoolExecutor(4) as pool:

        def work(i: int) -> bool:
            return pool.submit(threading.current_thread).result(10) is not None

        assert all(crowd(work)[0])
    with concurrent.futures.ThreadPoolExecutor(CROWD) as pool:
        _, seconds = crowd(lambda i: pool.submit(time.sleep, 0.1).result(10))
        assert seconds < TOGETHER_S


def test_timer() -> None:
    event = threading.Event()

    def work() -> bool:
        timer = threading.Timer(0.02, event.set)
        timer.start()
        assert event.wait(5)
        timer.join(5)
        return timer.is_alive()

    assert on_greenlet(work) is False


def test_old_locks_keep_working() -> None:
    puff.monkey.unpatch_all()
    lock, rlock, event = threading.Lock(), threading.RLock(), threading.Event()
    with patched():

        def work(i: int) -> bool:
            with lock, rlock:
                event.set()
            return event.wait(1)

        assert all(crowd(work)[0])
