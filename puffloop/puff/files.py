"""Files that do not block the loop: Python's own, on threads.

data = await puff.read_file_bytes("image.png")      # in sync code without await
async with puff.open_file("log.txt", "a") as log:
    await log.write(line)
"""

from __future__ import annotations

from puff._bind.files import File, open_file, read_file_bytes, write_file_bytes

__all__ = ["File", "open_file", "read_file_bytes", "write_file_bytes"]
