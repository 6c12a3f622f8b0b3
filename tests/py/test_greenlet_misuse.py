"""Greenlets that raise wherever they switch, never end, or are handled as they should not be."""

from __future__ import annotations

import asyncio
import gc
import threading
import weakref
from collections.abc import Callable
from typing import Any

import greenlet
import pytest
from worlds import on_loop

import puff

BOUND_S = 20.0


async def echo() -> None:
    await asyncio.sleep(0)


def nothing() -> None:
    pass


SWITCHES: dict[str, Callable[[], Any]] = {
    "nothing": nothing,
    "sleep": lambda: puff.sleep_ms(0),
    "await": lambda: puff.await_(echo()),
    "join": lambda: puff.spawn(nothing).join(),
    "join_iter": lambda: list(puff.join_iter([puff.spawn(nothing)])),
    "thread": lambda: puff.spawn_blocking(nothing).join(),
    "callback": lambda: puff.wrap_async(lambda ret: ret(1)),
    "lock": lambda: puff.Lock().acquire(),
    "event": lambda: puff.Event().wait(timeout=0.001),
    "queue": lambda: puff.Queue().put(1),
}
each_switch = pytest.mark.parametrize("switch", list(SWITCHES.values()), ids=list(SWITCHES))
EXCEPTIONS = [
    ValueError("raised"), OSError(2, "no such thing"), asyncio.CancelledError("by hand"),
    TimeoutError(), RecursionError("raised"), MemoryError(), GeneratorExit(), BaseException("base"),
]  # fmt: skip


async def pool_is_well() -> None:
    """Workers run other jobs, as many as before, and no context or exception stays with them."""

    def job(n: int) -> int:
        puff.sleep_ms(0)
        return n

    assert await puff.join_all([puff.spawn(job, n) for n in range(20)]) == list(range(20))
    assert await puff.to_greenlet(job, 5) == 5


@each_switch
@pytest.mark.parametrize("exception", EXCEPTIONS, ids=lambda e: type(e).__name__)
def test_raising_before_and_after_each_switch(switch: Any, exception: BaseException) -> None:
    def raises(before: bool) -> None:
        if not before:
            switch()
        try:
            raise exception
        finally:
            switch()

    async def main() -> None:
        for before in (True, False):
            with pytest.raises(type(exception)) as caught:
                await puff.spawn(raises, before).join()
            assert caught.value is exception
            with pytest.raises(type(exception)) as caught:
                await puff.to_greenlet(raises, before)
            assert caught.value is exception
        await pool_is_well()

    on_loop(main())


@each_switch
def test_killed_at_each_switch(switch: Any) -> None:
    cleaned = []

    def job() -> None:
        try:
            while True:
                switch()
                puff.sleep_ms(0)
        finally:
            switch()
            cleaned.append(True)

    async def main() -> None:
        for n_turns in range(6):
            g = puff.spawn(job)
            for _ in range(n_turns):
                await asyncio.sleep(0)
            g.kill()
            g.kill()
            assert isinstance(await g.join(timeout=BOUND_S), puff.GreenletExit)
            assert isinstance(await g.join(timeout=BOUND_S), puff.GreenletExit)
            assert g.dead
        await pool_is_well()

    on_loop(main())
    assert len(cleaned) >= 4  # those that had begun


@pytest.mark.parametrize("stop", [StopIteration(5), StopIteration()], ids=["value", "none"])
def test_a_stop_iteration_is_no_value(stop: StopIteration) -> None:
    """Leaving an awaitable it would be the awaited value; a coroutine raises RuntimeError."""

    def job() -> None:
        puff.sleep_ms(0)
        raise stop

    async def main() -> None:
        for awaitable in (
            puff.spawn(job).join(),
            puff.to_greenlet(job),
            puff.to_greenlet(next, iter([])),
            puff.join_all([puff.spawn(job)]),
            puff.spawn_blocking(next, iter([])).join(),
            asyncio.create_task(puff.to_greenlet(job)),
        ):
            with pytest.raises(RuntimeError, match="raised StopIteration") as caught:
                await awaitable
            assert isinstance(caught.value.__cause__, StopIteration)

    def sync_code() -> None:
        with pytest.raises(StopIteration):
            puff.spawn(job).join()

    async def in_sync_code() -> None:
        await puff.to_greenlet(sync_code)
        await puff.spawn(sync_code).join()

    on_loop(main())
    on_loop(in_sync_code())


def test_two_that_join_each_other_wait_until_one_is_killed() -> None:
    async def main() -> None:
        pair: list[puff.Greenlet[Any]] = []
        pair.append(puff.spawn(lambda: pair[1].join()))
        pair.append(puff.spawn(lambda: pair[0].join()))
        with pytest.raises(TimeoutError):
            await puff.join_all(pair, timeout=0.01)
        pair[0].kill()
        assert isinstance(await pair[0].join(), puff.GreenletExit)
        assert isinstance(await pair[1].join(), puff.GreenletExit)  # what it joined returned that

    on_loop(main())


def test_one_that_ignores_its_kill_is_told_again_when_its_loop_closes() -> None:
    exits = []

    def stubborn() -> None:
        while len(exits) < 2:
            try:
                puff.sleep_ms(60_000)
            except puff.GreenletExit as exc:
                exits.append(exc)

    async def main() -> None:
        g = puff.spawn(stubborn)
        await asyncio.sleep(0.002)
        for _ in range(3):
            g.kill()  # the first counts
        with pytest.raises(TimeoutError):
            await g.join(timeout=0.01)
        assert len(exits) == 1

    loop = puff.new_event_loop()
    loop.run_until_complete(main())
    loop.close()
    assert len(exits) == 2
    gc.collect()


def test_a_raw_greenlet_of_another_thread_cannot_be_switched_into() -> None:
    errors: list[BaseException] = []

    def in_thread(raw: greenlet.greenlet) -> None:
        try:
            raw.switch()
        except greenlet.error as exc:
            errors.append(exc)

    async def main() -> None:
        raws: list[greenlet.greenlet] = []

        def job() -> str:
            raws.append(greenlet.getcurrent())
            puff.sleep_ms(30)
            return "went on"

        g = puff.spawn(job)
        await asyncio.sleep(0.002)
        thread = threading.Thread(target=in_thread, args=(raws[0],))
        thread.start()
        await asyncio.to_thread(thread.join)
        assert await g.join() == "went on"
        await pool_is_well()

    on_loop(main())
    assert len(errors) == 1


def test_switching_to_the_hub_by_hand_is_the_users_loss_alone() -> None:
    """Nobody knows what would wake it: it hangs until its loop is gone, and the others go on."""

    async def main() -> None:
        def by_hand() -> None:
            greenlet.getcurrent().parent.switch()  # type: ignore[union-attr]

        lost = puff.spawn(by_hand)
        with pytest.raises(TimeoutError):
            await lost.join(timeout=0.01)
        await pool_is_well()
        lost.kill()
        await asyncio.sleep(0)

    on_loop(main())
    gc.collect()


def test_killed_by_hand_it_ends_as_it_is_killed() -> None:
    """greenlet.throw() from a callback of the loop, around Puff."""

    async def main() -> None:
        raws: list[greenlet.greenlet] = []

        def job() -> None:
            raws.append(greenlet.getcurrent())
            puff.sleep_ms(60_000)

        g = puff.spawn(job)
        await asyncio.sleep(0.002)
        raws[0].throw(ZeroDivisionError)
        with pytest.raises(ZeroDivisionError):
            await g.join(timeout=BOUND_S)
        assert asyncio.get_running_loop().is_running()
        await pool_is_well()

    on_loop(main())


def test_parked_on_what_nobody_has_any_more_it_ends_with_its_loop() -> None:
    ended = []

    class Big:
        pass

    async def main() -> weakref.ref[Big]:
        big = Big()

        def job(kept: Big) -> None:
            try:
                puff.Event().wait()  # nobody else has it
            finally:
                ended.append(type(kept).__name__)

        puff.spawn(job, big)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        gc.collect()
        assert not ended
        return weakref.ref(big)

    ref = on_loop(main())
    gc.collect()
    assert ended == ["Big"]
    assert ref() is None
