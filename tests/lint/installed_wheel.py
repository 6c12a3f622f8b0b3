"""What `make wheel` asks of the installed wheel: one round through each native module."""

import asyncio
import os
import sys

import _puff_hook
import puff


async def main() -> None:
    loop = asyncio.get_running_loop()
    assert isinstance(loop, puff.Loop), loop
    reader, writer = os.pipe()
    loop.call_later(0.01, os.write, writer, b"x")
    await loop.run_in_executor(None, os.read, reader, 1)


if __name__ == "__main__":
    puff.run(main())
    package = os.path.dirname(puff.__file__)
    for path in ("_lib/libpuff.so", "include/puff.h", "py.typed"):
        assert os.path.exists(os.path.join(package, path)), path
    for path in ("puff.pth", "puff.start"):
        assert os.path.exists(os.path.join(os.path.dirname(package), path)), path
    assert _puff_hook.Finder in sys.meta_path, "the start-up hook has not run"
    print(package)
