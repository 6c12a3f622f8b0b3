"""Files in every world: read_file_bytes(), write_file_bytes(), open_file()."""

from __future__ import annotations

import asyncio
import os
import threading

import pytest
from worlds import every_world, in_coroutine, on_loop, refused_on_foreign_loop, sync_worlds

import puff


@every_world
def test_write_and_read_whole_files(world, tmp_path) -> None:
    path = tmp_path / "f"
    assert world(lambda: puff.write_file_bytes(path, b"bytes")) == 5
    assert world(lambda: puff.read_file_bytes(str(path))) == b"bytes"


@every_world
def test_errors_are_pythons_own(world, tmp_path) -> None:
    path = str(tmp_path / "none" / "f")
    with pytest.raises(FileNotFoundError) as caught:
        world(lambda: puff.read_file_bytes(path))
    assert caught.value.filename == path
    with pytest.raises(IsADirectoryError):
        world(lambda: puff.read_file_bytes(tmp_path))
    with pytest.raises(FileNotFoundError):
        world(lambda: puff.open_file(path))


@sync_worlds
def test_a_file_in_sync_code(world, tmp_path) -> None:
    def use():
        with puff.open_file(tmp_path / "f", "w+", encoding="utf-8") as file:
            assert file.write("ä\nb\nc") == 5
            assert file.seek(0) == 0
            assert file.readline() == "ä\n"
            assert file.tell() == 3
            assert list(file) == ["b\n", "c"]
            file.seek(0)
            assert file.read() == "ä\nb\nc"
            assert file.truncate(3) == 3
            file.flush()
            assert os.fstat(file.fileno()).st_size == 3
        assert file.closed
        file.close()
        with pytest.raises(ValueError, match="closed"):
            file.read()
        return True

    assert world(use)


def test_a_file_in_a_coroutine(tmp_path) -> None:
    async def main():
        async with puff.open_file(tmp_path / "f", "w") as file:
            await file.writelines(["a\n", "b\n"])
        assert file.closed and file.mode == "w"
        file = await puff.open_file(tmp_path / "f")
        async with file:
            assert [line async for line in file] == ["a\n", "b\n"]
        with pytest.raises(RuntimeError, match="async for"):
            iter(file)
        with pytest.raises(RuntimeError, match="async with"), file:
            pass

    on_loop(main())


def test_the_loop_goes_on_while_a_file_blocks(tmp_path) -> None:
    """A FIFO without a writer blocks whoever opens it."""
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)

    async def main():
        read = asyncio.ensure_future(puff.read_file_bytes(fifo))
        await asyncio.sleep(0.01)
        assert not read.done()
        assert await puff.write_file_bytes(fifo, b"through") == 7
        return await read

    assert on_loop(main()) == b"through"


def test_a_cancelled_open_leaves_no_file_open(tmp_path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)

    async def main():
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(puff.open_file(fifo, "rb", buffering=0), 0.05)
        end = os.open(fifo, os.O_WRONLY)  # the open that was left to itself goes on, and is closed
        try:
            while True:
                await asyncio.sleep(0.001)
                os.write(end, b"x")
        except BrokenPipeError:
            return True
        finally:
            os.close(end)

    assert on_loop(main())


def test_greenlets_write_to_one_file_without_mixing(tmp_path) -> None:
    async def main():
        async with puff.open_file(tmp_path / "f", "w") as file:
            jobs = [puff.spawn(file.write, f"{n:04}" * 50 + "\n") for n in range(100)]
            await puff.join_all(jobs)

    on_loop(main())
    lines = (tmp_path / "f").read_text().splitlines()
    assert sorted(lines) == [f"{n:04}" * 50 for n in range(100)]


def test_files_do_not_wait_for_blocking_functions(tmp_path) -> None:
    (tmp_path / "f").write_bytes(b"read")

    async def main():
        go_on = threading.Event()
        jobs = [puff.spawn_blocking(go_on.wait, 10) for _ in range(100)]
        read = await puff.read_file_bytes(tmp_path / "f")
        go_on.set()
        await puff.join_all(jobs)
        return read

    assert on_loop(main()) == b"read"


def test_an_empty_file_and_one_of_many_bytes(tmp_path) -> None:
    for data in (b"", os.urandom(3_000_000)):
        in_coroutine(lambda data=data: puff.write_file_bytes(tmp_path / "f", data))
        assert in_coroutine(lambda: puff.read_file_bytes(tmp_path / "f")) == data


def test_foreign_loops_are_refused(tmp_path) -> None:
    refused_on_foreign_loop(lambda: puff.read_file_bytes(tmp_path))
    refused_on_foreign_loop(lambda: puff.open_file(tmp_path / "f"))
