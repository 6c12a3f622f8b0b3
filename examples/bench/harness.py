"""Rounds, CPU accounting, tables: what the benchmark scripts share.

A case is run by each contender in turn, round after round, so that a drift of the machine hits all
alike. What is
measured is a process: its operations per second and its user and kernel CPU time per operation,
from /proc. The server
is pinned to one core and the load to the other.
"""

from __future__ import annotations

import contextlib
import json
import os
import platform
import signal
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

OUT = Path(os.environ.get("BENCH_OUT", "."))
ROUNDS = int(os.environ.get("ROUNDS", "5"))
SECONDS = float(os.environ.get("SECONDS_EACH", "3"))
CASE = os.environ.get("CASE", "")  # only the cases whose title has it
SERVER_CORE, CLIENT_CORE = "0", "1"
_TICK = os.sysconf("SC_CLK_TCK")


@dataclass
class Sample:
    """One round of one contender."""

    ops_per_s: float
    user_us: float  # CPU time per operation of the process under test
    system_us: float


@dataclass
class Row:
    contender: str
    best_ops: float
    median_ops: float
    user_us: float  # of the best round
    system_us: float


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port: int = s.getsockname()[1]
        return port


def cpu_seconds(pid: int) -> tuple[float, float]:
    """User and kernel time of a process and of the children that it has now."""
    user = system = 0.0
    for each in [pid, *_children(pid)]:
        with contextlib.suppress(FileNotFoundError):
            fields = Path(f"/proc/{each}/stat").read_text().rpartition(")")[2].split()
            user += int(fields[11]) / _TICK
            system += int(fields[12]) / _TICK
    return user, system


def _children(pid: int) -> list[int]:
    found: list[int] = []
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        with contextlib.suppress(OSError):
            for child in map(int, task.read_text().split()):
                found += [child, *_children(child)]
    return found


@contextlib.contextmanager
def server(argv: Sequence[str], at: int | str, cwd: Path | None = None) -> Iterator[int]:
    """Starts it on the server's core, waits until `at` accepts (a TCP port, the path of a Unix
    socket, or "udp:PORT"), yields its pid.
    """
    env = os.environ | {"PYTHONPATH": str(cwd or Path.cwd())}
    process = subprocess.Popen(
        ["taskset", "-c", SERVER_CORE, *argv],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        cwd=cwd,
        env=env,
        start_new_session=True,
    )
    try:
        _wait_for(at, process)
        yield process.pid
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGTERM)
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _wait_for(at: int | str, process: subprocess.Popen[bytes]) -> None:
    for _ in range(300):
        if process.poll() is not None:
            raise RuntimeError(f"the server has ended with status {process.returncode}")
        with contextlib.suppress(OSError), _connection(at):
            return
        time.sleep(0.05)
    raise RuntimeError("the server did not begin to listen")


def _connection(at: int | str) -> socket.socket:
    """An OSError unless the server is there; one of UDP must echo."""
    if isinstance(at, int):
        return socket.create_connection(("127.0.0.1", at), 1)
    udp = at.startswith("udp:")
    s = socket.socket(*(socket.AF_INET, socket.SOCK_DGRAM) if udp else (socket.AF_UNIX,))
    try:
        s.settimeout(1)
        s.connect(("127.0.0.1", int(at[4:])) if udp else at)
        if udp:
            s.send(b"?")
            s.recv(16)
    except BaseException:
        s.close()
        raise
    return s


def client(*argv: str) -> str:
    """Runs a load on the client's core; returns what it printed."""
    done = subprocess.run(
        ["taskset", "-c", CLIENT_CORE, *argv], capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        raise RuntimeError(f"{argv[0]}: {done.stdout}{done.stderr}")
    return done.stdout


def under_load(pid: int, load: Callable[[], int]) -> Sample:
    """`load` returns how many operations it made the server do."""
    user, system = cpu_seconds(pid)
    start = time.perf_counter()
    n = load()
    elapsed = time.perf_counter() - start
    user_after, system_after = cpu_seconds(pid)
    if not n:
        raise RuntimeError("not one operation was done")
    return Sample(n / elapsed, (user_after - user) / n * 1e6, (system_after - system) / n * 1e6)


def worker(script: str, *args: str) -> Sample:
    """Runs a Python script that prints operations, seconds, user and kernel CPU seconds."""
    n, elapsed, user, system = numbers(script, *args)[-4:]
    return Sample(n / elapsed, user / n * 1e6, system / n * 1e6)


def numbers(script: str, *args: str) -> list[float]:
    """Runs a Python script on the server's core; returns the numbers that it printed."""
    done = subprocess.run(
        ["taskset", "-c", SERVER_CORE, sys.executable, script, *args],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        raise RuntimeError(done.stderr.strip().splitlines()[-1] if done.stderr else "failed")
    return [float(word) for word in done.stdout.split()]


def compare(case: str, contenders: dict[str, Callable[[], Sample]]) -> list[Row]:
    """Runs each contender ROUNDS times, in turn; prints and returns the table of one case."""
    if CASE not in case:
        return []
    samples: dict[str, list[Sample]] = {name: [] for name in contenders}
    for _ in range(ROUNDS):
        for name, run in contenders.items():
            try:
                samples[name].append(run())
            except RuntimeError as exc:
                print(f"{case}: {name}: {exc}", file=sys.stderr)
    rows = [_row(name, taken) for name, taken in samples.items() if taken]
    _print(case, rows)
    return rows


def _row(name: str, taken: list[Sample]) -> Row:
    best = max(taken, key=lambda s: s.ops_per_s)
    median = statistics.median(s.ops_per_s for s in taken)
    return Row(name, best.ops_per_s, median, best.user_us, best.system_us)


def _print(case: str, rows: list[Row]) -> None:
    """The three columns on the right are Puff's figures over the row's: above 1 is better in the
    first, below 1 in the CPU time of an operation.
    """
    puff = next((row for row in rows if row.contender.startswith("puff")), None)
    print(f"\n### {case}\n")
    print("| contender | best /s | median /s | user us | total us | Puff /s | user | total |")
    print("|---|---:|---:|---:|---:|---:|---:|---:|")
    for row in rows:
        print(
            f"| {row.contender} | {row.best_ops:,.0f} | {row.median_ops:,.0f} "
            f"| {row.user_us:.2f} | {row.user_us + row.system_us:.2f} | {_ratios(puff, row)} |"
        )
    sys.stdout.flush()


def _ratios(puff: Row | None, row: Row) -> str:
    if puff is None:
        return " | | "
    total, of_puff = row.user_us + row.system_us, puff.user_us + puff.system_us
    return " | ".join(
        f"{ours / theirs:.2f}x" if theirs else "-"
        for ours, theirs in (
            (puff.best_ops, row.best_ops),
            (puff.user_us, row.user_us),
            (of_puff, total),
        )
    )


def weigh(case: str, unit: str, contenders: dict[str, Callable[[], float]]) -> dict[str, float]:
    """What is not a rate (memory): the least of the rounds; prints and returns the table."""
    if CASE not in case:
        return {}
    taken: dict[str, float] = {}
    for _ in range(ROUNDS):
        for name, run in contenders.items():
            try:
                taken[name] = min(run(), taken.get(name, float("inf")))
            except RuntimeError as exc:
                print(f"{case}: {name}: {exc}", file=sys.stderr)
    print(f"\n### {case}\n\n| contender | {unit} | Puff is |\n|---|---:|---:|")
    for name, size in taken.items():
        ratio = f"{taken['puff'] / size:.2f}x" if "puff" in taken and size else ""
        print(f"| {name} | {size:,.1f} | {ratio} |")
    sys.stdout.flush()
    return taken


def machine() -> str:
    cpu = next(
        (
            line.split(":")[1].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if line.startswith("model name")
        ),
        platform.processor(),
    )
    python = platform.python_version()
    return f"{os.cpu_count()} cores of {cpu}, Linux {platform.release()}, CPython {python}"


def versions(*names: str) -> dict[str, str]:
    found = {}
    for name in names:
        with contextlib.suppress(PackageNotFoundError):
            found[name] = version(name)
    return found


def save(
    table: str,
    cases: dict[str, list[Row]],
    peers: Sequence[str],
    sizes: dict[str, dict[str, float]] | None = None,
) -> None:
    """Writes build/bench/TABLE.json and TABLE.png."""
    cases = {case: rows for case, rows in cases.items() if rows}
    report = {
        "machine": machine(),
        "versions": versions("puffloop", *peers),
        "rounds": ROUNDS,
        "seconds": SECONDS,
        "cases": {case: [asdict(row) for row in rows] for case, rows in cases.items()},
        "sizes": sizes or {},
    }
    (OUT / f"{table}.json").write_text(json.dumps(report, indent=1))
    if cases:
        _chart(table, cases)
    used = ", ".join(f"{name} {v}" for name, v in report["versions"].items())  # type: ignore[attr-defined]
    print(f"\n{report['machine']}; {used}")


def _chart(table: str, cases: dict[str, list[Row]]) -> None:
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(len(cases), 1, figsize=(8, 2.2 * len(cases)), squeeze=False)
    for axis, (case, rows) in zip(axes[:, 0], cases.items(), strict=True):
        colors = ["#1f4e79" if row.contender.startswith("puff") else "#b8c4d0" for row in rows]
        axis.barh([row.contender for row in rows], [row.best_ops for row in rows], color=colors)
        axis.invert_yaxis()
        axis.set_title(f"{case}, operations per second", loc="left", fontsize=9)
        axis.tick_params(labelsize=8)
    figure.tight_layout()
    figure.savefig(OUT / f"{table}.png", dpi=110)
    plt.close(figure)
