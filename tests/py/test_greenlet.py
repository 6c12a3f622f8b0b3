"""Greenlets of spawn(): joining and killing them, and what becomes of them in the end."""

from __future__ import annotations

import asyncio
import gc

import pytest
from worlds import on_loop, refused_on_foreign_loop, sync_worlds

import puff


def nap(ms, value=None):
    puff.sleep_ms(ms)
    if isinstance(value, Exception):
        raise value
    return value


# ---- join_iter() ---------------------------------------------------------------------------------


def three():
    return [puff.spawn(nap, ms, ms) for ms in (30, 1, 15)]


@sync_worlds
def test_join_iter_in_the_order_of_their_ends(world) -> None:
    assert world(lambda: list(puff.join_iter(three()))) == [1, 15, 30]


def test_join_iter_in_a_coroutine() -> None:
    async def main():
        return [value async for value in puff.join_iter(three())]

    assert on_loop(main()) == [1, 15, 30]


def test_join_iter_with_for_in_a_coroutine_gives_awaitables() -> None:
    async def main():
        return [await value for value in puff.join_iter(three())]  # type: ignore[misc]

    assert on_loop(main()) == [1, 15, 30]


@sync_worlds
def test_join_iter_of_nothing(world) -> None:
    assert world(lambda: list(puff.join_iter([]))) == []


@sync_worlds
def test_join_iter_raises_each_exception_at_its_turn(world) -> None:
    def call():
        jobs = [(20, "last"), (1, "first"), (10, KeyError("second"))]
        ended = puff.join_iter(puff.spawn(nap, *job) for job in jobs)
        assert next(ended) == "first"
        with pytest.raises(KeyError):
            next(ended)
        assert next(ended) == "last"
        with pytest.raises(StopIteration):
            next(ended)
        return True

    assert world(call)


def test_join_iter_knows_in_what_order_the_dead_have_ended() -> None:
    async def main():
        greenlets = three()
        await puff.join_all(greenlets)
        return [value async for value in puff.join_iter(reversed(greenlets))]

    assert on_loop(main()) == [1, 15, 30]


def test_join_iter_that_is_cancelled_loses_nothing() -> None:
    async def main():
        ended = puff.join_iter([puff.spawn(nap, 20, "late"), puff.spawn(nap, 1, "early")])
        assert await anext(ended) == "early"
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(anext(ended), 0.001)
        return [value async for value in ended]

    assert on_loop(main()) == ["late"]


def test_join_iter_cancelled_with_the_answer_there_loses_nothing() -> None:
    async def main():
        job = puff.spawn(nap, 1, "kept")
        ended = puff.join_iter([job])
        task = asyncio.ensure_future(anext(ended))
        while not job.dead:
            await asyncio.sleep(0)
        task.cancel()  # it has been woken, and has not run
        with pytest.raises(asyncio.CancelledError):
            await task
        return [value async for value in ended]

    assert on_loop(main()) == ["kept"]


def test_join_iter_of_many_is_not_quadratic() -> None:
    async def main():
        greenlets = [puff.spawn(nap, n % 5, n) for n in range(5000)]
        return [value async for value in puff.join_iter(greenlets)]

    assert sorted(on_loop(main())) == list(range(5000))


def test_join_iter_left_early_leaves_the_others_running() -> None:
    async def main():
        greenlets = three()
        async for _ in puff.join_iter(greenlets):
            break
        gc.collect()
        return await puff.join_all(greenlets)

    assert on_loop(main()) == [30, 1, 15]


def test_join_iter_of_itself_is_refused() -> None:
    async def main():
        box = []
        box.append(puff.spawn(lambda: next(puff.join_iter(box))))
        with pytest.raises(RuntimeError, match="join itself"):
            await box[0].join()

    on_loop(main())


def test_join_iter_takes_greenlets_only() -> None:
    with pytest.raises(TypeError):
        puff.join_iter([5])  # type: ignore[list-item]


def test_join_iter_on_a_foreign_loop_is_refused() -> None:
    refused_on_foreign_loop(lambda: next(puff.join_iter([puff.Greenlet()])))


def test_join_iter_mixes_greenlets_and_blocking_ones() -> None:
    async def main():
        greenlets = [puff.spawn(nap, 1, "greenlet"), puff.spawn_blocking(lambda: "thread")]
        return {value async for value in puff.join_iter(greenlets)}

    assert on_loop(main()) == {"greenlet", "thread"}
