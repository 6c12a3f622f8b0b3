"""GET and SET by 64 callers: Puff, redis-py, valkey-glide, and redis-benchmark in C."""

from __future__ import annotations

import re
import resource
import shutil
import subprocess
import tempfile
from functools import partial
from pathlib import Path

from harness import (
    CLIENT_CORE,
    SERVER_CORE,
    Sample,
    client,
    compare,
    free_port,
    save,
    server,
    worker,
)

HERE = Path(__file__).parent
CLIENTS = ["puff", "redis-py", "valkey-glide"]
N = 1_000_000


def limit(port: int, case: str, depth: int) -> Sample:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    name = shutil.which("valkey-benchmark") or shutil.which("redis-benchmark") or "redis-benchmark"
    argv = [
        name,
        "-p",
        str(port),
        "-c",
        "1",
        "-P",
        str(depth),
        "-n",
        str(N),
        "-t",
        case,
        "-q",
        "--csv",
    ]
    done = subprocess.run(
        ["taskset", "-c", SERVER_CORE, *argv], capture_output=True, text=True, check=False
    )
    found = re.search(r'"(?:GET|SET)","([\d.]+)"', done.stdout)
    if found is None:
        raise RuntimeError(done.stdout + done.stderr)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    user, system = after.ru_utime - before.ru_utime, after.ru_stime - before.ru_stime
    return Sample(float(found.group(1)), user / N * 1e6, system / N * 1e6)


def main() -> None:
    port = free_port()
    program = shutil.which("valkey-server") or shutil.which("redis-server") or "redis-server"
    script = str(HERE / "work_redis.py")
    cases = {}
    with tempfile.TemporaryDirectory() as folder:
        # The server of this table is the peer of what is measured: it runs on the other core.
        argv = [
            "taskset",
            "-c",
            CLIENT_CORE,
            program,
            "--port",
            str(port),
            "--save",
            "",
            "--dir",
            folder,
        ]
        with server(argv, port):
            client("true")
            for case in ("get", "set"):
                runs = {name: partial(worker, script, name, case, str(port)) for name in CLIENTS}
                runs["C (redis-benchmark -P 64)"] = partial(limit, port, case, 64)
                title = f"{case.upper()}, 64 callers"
                cases[title] = compare(title, runs)
    save("redis", cases, ["redis", "hiredis", "valkey-glide", "uvloop"])


if __name__ == "__main__":
    main()
