"""The puff command: what it prints, its exit status, and that an error is one sentence."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from puff import cli, config, errors, imports

Puff = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def puff(tmp_path: Path) -> Puff:
    """`puff("serve", "--bind", ..., env={...})` in a folder of its own, in a process of its own."""

    def run(*args: str, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
        clean = {k: v for k, v in os.environ.items() if not k.startswith("PUFF_")}
        return subprocess.run(
            [sys.executable, "-m", "puff", *args],
            cwd=tmp_path,
            env=clean | (env or {}),
            capture_output=True,
            text=True,
            stdin=subprocess.DEVNULL,
            timeout=50,
            check=False,
        )

    return run


class Served(Exception):
    """Raised in place of serving."""

    def __init__(self, options: config.ServerConfig) -> None:
        self.options = options


@pytest.fixture
def serve(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., config.ServerConfig]:
    """Runs `puff serve ARGS` here, and returns what `puff.serve.serve` would get."""
    for name in list(os.environ):
        if name.startswith("PUFF_"):
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(config, "_current", None)

    def fake(options: config.ServerConfig) -> int:
        raise Served(options)

    module = type(sys)("puff.serve")
    module.serve = fake  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "puff.serve", module)

    def run(*args: str) -> config.ServerConfig:
        with pytest.raises(Served) as e:
            cli.main(["serve", *args])
        return e.value.options

    return run


# ---- serve ---------------------------------------------------------------------------------------


def test_serve_hands_its_flags_on(serve: Callable[..., config.ServerConfig]) -> None:
    options = serve(
        *("--asgi", "app:app", "--bind", "unix:/tmp/x.sock", "--reuse-port", "--workers", "3"),
        *("--access-log", "--log-level", "debug", "--max-body", "1000", "--no-server-header"),
    )
    assert options == config.ServerConfig(
        interface="asgi",
        app="app:app",
        bind="unix:/tmp/x.sock",
        reuse_port=True,
        workers=3,
        access_log=True,
        log_level="debug",
        stop_timeout_ms=30_000,
        watchdog_ms=1000,
        http={"max_body": 1000, "server_header": False},
    )


def test_serve_defaults(serve: Callable[..., config.ServerConfig]) -> None:
    options = serve("--asgi", "app:app")
    assert (options.bind, options.workers, options.http) == ("127.0.0.1:7777", 1, {})


def test_each_pool_has_its_flag(serve: Callable[..., config.ServerConfig]) -> None:
    Path("puff.toml").write_text('asgi = "a:b"\n[[postgres]]\nname = "Audit_log"\n')
    serve("--audit-log-postgres-url", "postgresql://audit", "--default-redis-url", "redis://r")
    assert config.pool_url("postgres", "Audit_log") == "postgresql://audit"
    assert config.pool_url("redis", "default") == "redis://r"


def test_serve_reads_dotenv_into_the_environment(
    serve: Callable[..., config.ServerConfig], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FROM_DOTENV", "x")  # so that it is restored
    monkeypatch.delenv("FROM_DOTENV")
    Path(".env").write_text("FROM_DOTENV=yes\n")
    serve("--asgi", "a:b")
    assert os.environ["FROM_DOTENV"] == "yes"
    assert sys.path[0] == os.getcwd()


def test_config_flag_names_the_file(serve: Callable[..., config.ServerConfig]) -> None:
    Path("other.toml").write_text('asgi = "a:b"\n[[redis]]\nname = "cache"\n')
    assert serve("--config", "other.toml", "--cache-redis-url", "redis://c").app == "a:b"
    assert serve("--config=other.toml").app == "a:b"


# ---- mistakes ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["serve"], "puff: nothing to serve: puff serve --asgi module:app, puff serve --wsgi"),
        (["serve", "--asgi", "a:b", "--workers", "0"], "puff: --workers: expected an integer >= 1"),
        (["serve", "--asgi", "a:b", "--workers", "x"], "Invalid value for '--workers'"),
        (["serve", "--config", "no.toml"], "no.toml: No such file or directory"),
        (["serve", "--nonsense"], "No such option"),
        (["nonsense"], "No such command 'nonsense'"),
        (["run", "none.py"], "puff: there is no script none.py"),
        (["config"], "--cflags, --libs or both"),
    ],
)
def test_a_usage_mistake_is_one_sentence_and_status_2(
    puff: Puff, args: list[str], message: str
) -> None:
    done = puff(*args)
    assert done.returncode == 2
    assert message in done.stderr
    assert "Traceback" not in done.stderr


def test_a_broken_file_does_not_break_the_help(puff: Puff, tmp_path: Path) -> None:
    (tmp_path / "puff.toml").write_text("[serve]\n")
    assert puff("serve", "--help").returncode == 0
    done = puff("serve", "--asgi", "a:b")
    assert done.returncode == 2
    assert done.stderr == (
        f"puff: {tmp_path}/puff.toml:1: unknown key `serve`; did you mean `server`?\n"
    )


def test_no_arguments_is_help(puff: Puff) -> None:
    done = puff()
    assert done.returncode == 0
    assert "puff serve --asgi module:app" in done.stdout


def test_keys_without_effect_are_said(puff: Puff, tmp_path: Path) -> None:
    (tmp_path / "puff.toml").write_text("pytest = true\n")
    (tmp_path / "m.py").write_text("def f(): pass\n")
    done = puff("run", "m:f")
    assert done.returncode == 0
    assert "puff.toml:1: pytest: this version of Puff does not have it yet" in done.stderr


# ---- import paths --------------------------------------------------------------------------------


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.syspath_prepend(tmp_path)
    folder = tmp_path / "some_package"
    folder.mkdir()
    (folder / "__init__.py").touch()
    (folder / "web.py").write_text("class api:\n    app = 'the app'\n")
    (folder / "raises.py").write_text("def f():\n    return 1 / 0\nf()\n")
    (folder / "lacks.py").write_text("import not_installed_anywhere\n")
    return "some_package"


@pytest.mark.parametrize("path", ["web:api", "web.api", "web:api.app"])
def test_both_forms_of_import_paths(module: str, path: str) -> None:
    assert imports.import_path(f"{module}.{path}")


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("wep:api", "there is no module 'some_package.wep' here"),
        ("web:ap", r"module some_package.web has no 'ap'; did you mean 'api'\?"),
        ("web:api.apq", r"api has no 'apq'; did you mean 'app'\?"),
        ("web:", "is no import path; expected package.module:attr"),
        ("lacks:app", "importing some_package.lacks failed: No module named 'not_installed"),
        ("raises:app", "importing some_package.raises failed: ZeroDivisionError: division by zero"),
    ],
)
def test_import_paths_that_fail(module: str, path: str, message: str) -> None:
    with pytest.raises(errors.AppImportError, match=message):
        imports.import_path(f"{module}.{path}")


@pytest.mark.parametrize("path", ["app", "", "a:b:c", "a/b.py:app", "a b:c"])
def test_what_is_no_import_path(path: str) -> None:
    with pytest.raises(errors.AppImportError, match="is no import path; expected package"):
        imports.import_path(path)


def test_a_module_that_raises_shows_its_own_traceback_only(module: str) -> None:
    with pytest.raises(errors.AppImportError) as e:
        imports.import_path(f"{module}.raises:app")
    trace = imports.traceback_of(e.value)
    assert trace.startswith("Traceback (most recent call last):\n")
    assert re.findall(r'File ".*?(\w+\.py|<frozen .*?>)"', trace) == ["raises.py", "raises.py"]
    with pytest.raises(errors.AppImportError) as e:
        imports.import_path(f"{module}.wep:app")
    assert imports.traceback_of(e.value) == ""


def test_an_app_that_cannot_be_imported_is_status_3(puff: Puff, tmp_path: Path) -> None:
    (tmp_path / "bad.py").write_text("1 / 0\n")
    done = puff("run", "bad:main")
    assert done.returncode == 3
    assert 'bad.py", line 1' in done.stderr
    assert "importlib" not in done.stderr
    done = puff("run", "absent:main")
    assert (done.returncode, "Traceback" in done.stderr) == (3, False)


# ---- the other commands --------------------------------------------------------------------------


def test_run_calls_a_function_with_arguments(puff: Puff, tmp_path: Path) -> None:
    (tmp_path / "m.py").write_text("def f(*a):\n    print(a)\n    return 5\n")
    done = puff("run", "m:f", "x", "--flag")
    assert (done.returncode, done.stdout) == (5, "('x', '--flag')\n")


def test_own_commands(puff: Puff, tmp_path: Path) -> None:
    (tmp_path / "m.py").write_text("def f():\n    print('called')\n")
    section = '[[commands]]\nfunction = "m.f"\ncommand_name = "{}"\n'
    (tmp_path / "puff.toml").write_text(section.format("greet"))
    assert puff("greet").stdout == "called\n"
    assert "greet" in puff("--help").stdout
    (tmp_path / "puff.toml").write_text(section.format("serve"))
    done = puff("serve", "--asgi", "a:b")
    assert (done.returncode, "serve is a command of puff" in done.stderr) == (2, True)


def test_example_config_is_a_valid_file(puff: Puff, tmp_path: Path) -> None:
    (tmp_path / "puff.toml").write_text(puff("example_config").stdout)
    assert config.load(tmp_path / "puff.toml").notes == []


def test_doctor_tells_what_is_reachable_without_secrets(puff: Puff, tmp_path: Path) -> None:
    url = "postgresql://me:hunter2@127.0.0.1:1/db"
    done = puff("doctor", "--json", env={"PUFF_DEFAULT_POSTGRES_URL": url})
    report = {check["what"]: check for check in json.loads(done.stdout)}
    assert done.returncode == 1
    assert report["postgres default"]["fine"] is False
    assert "me:***@127.0.0.1:1" in report["postgres default"]["detail"]
    assert "PUFF_DEFAULT_POSTGRES_URL" in report["postgres default"]["detail"]
    assert report["redis default"]["detail"].startswith("embedded, by /")
    assert "hunter2" not in done.stdout + done.stderr
    assert not (tmp_path / ".puff").exists()


def test_compiler_flags(puff: Puff, tmp_path: Path) -> None:
    flags = puff("config", "--cflags").stdout.split()
    source = tmp_path / "x.c"
    source.write_text('#include "puff.h"\nint main(void) { return puff_err_name(0) == 0; }\n')
    compiled = subprocess.run(["cc", "-c", source, *flags, "-o", tmp_path / "x.o"], timeout=50)
    assert compiled.returncode == 0


def test_every_command_has_a_help_text(puff: Puff) -> None:
    for command in ("serve", "run", "doctor", "example_config", "config"):
        done = puff(command, "--help")
        assert done.returncode == 0
        assert len(done.stdout.splitlines()) >= 5


def test_flags_after_the_target_of_run_are_its_own(puff: Puff, tmp_path: Path) -> None:
    (tmp_path / "m.py").write_text("def f(*a):\n    print(a)\n")
    (tmp_path / "p.toml").touch()
    done = puff("run", "--config", "p.toml", "m:f", "--config", "mine.toml", "--help")
    assert (done.returncode, done.stdout) == (0, "('--config', 'mine.toml', '--help')\n")
