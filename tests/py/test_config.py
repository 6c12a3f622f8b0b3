"""puff.config: precedence, named pools, and messages with file, line, key and the nearest key."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from puff import config, example
from puff.config import dotenv, schema, toml, urls
from puff.errors import ConfigError

ROOT = Path(__file__).parents[2]
NEVER = 2**64 - 1


@pytest.fixture(autouse=True)
def bare(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A folder of its own, and no variable of Puff's."""
    import os

    for name in list(os.environ):
        if name.startswith("PUFF_"):
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(config, "_current", None)


def load(text: str, **overrides: object) -> config.Config:
    Path("puff.toml").write_text(text)
    return config.load(overrides=overrides)


def refusal(text: str) -> str:
    with pytest.raises(ConfigError) as e:
        load(text)
    return str(e.value).replace(str(Path.cwd()) + "/", "")


# ---- precedence ---------------------------------------------------------------------------------


def test_flag_environment_dotenv_file_default(monkeypatch: pytest.MonkeyPatch) -> None:
    text = 'asgi = "a:b"\n[server]\nbind = "file:1"\n'
    assert load('asgi = "a:b"').server().bind == "127.0.0.1:7777"
    assert load(text).server().bind == "file:1"
    Path(".env").write_text("PUFF_BIND=dotenv:1\n")
    assert load(text).server().bind == "dotenv:1"
    monkeypatch.setenv("PUFF_BIND", "environment:1")
    assert load(text).server().bind == "environment:1"
    assert load(text, bind="flag:1").server().bind == "flag:1"


def test_precedence_of_a_pools_url(monkeypatch: pytest.MonkeyPatch) -> None:
    text = '[[postgres]]\nname = "audit"\nurl = "postgresql://file"\n'
    assert load(text).pool_url("postgres", "audit") == "postgresql://file"
    Path(".env").write_text("PUFF_AUDIT_POSTGRES_URL=postgresql://dotenv\n")
    assert load(text).pool_url("postgres", "audit") == "postgresql://dotenv"
    monkeypatch.setenv("PUFF_AUDIT_POSTGRES_URL", "postgresql://environment")
    assert load(text).pool_url("postgres", "audit") == "postgresql://environment"
    flags = {"audit-postgres-url": "postgresql://flag"}
    assert load(text, **flags).pool_url("postgres", "audit") == "postgresql://flag"


def test_an_empty_variable_counts_as_not_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PUFF_DEFAULT_REDIS_URL", "")
    text = '[[redis]]\nurl = "redis://file"\n'
    assert load(text).pool_url("redis", "default") == "redis://file"


def test_without_any_url_the_embedded_server_of_the_files_folder(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(config.embedded, "postgres_url", lambda folder: f"postgres in {folder}")
    monkeypatch.setattr(config.embedded, "redis_url", lambda folder: f"redis in {folder}")
    here = Path.cwd()
    assert config.pool_url("postgres", "default") == f"postgres in {here}"
    (here / "sub").mkdir()
    (here / "sub" / "p.toml").touch()
    assert config.load("sub/p.toml").pool_url("redis", "default") == f"redis in {here}/sub"


def test_blocking_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    Path("puff.toml").write_text("blocking_threads = 3\n")
    assert config.load().blocking_threads() == 3
    monkeypatch.setenv("PUFF_BLOCKING_THREADS", "5")
    assert config.load().blocking_threads() == 5
    monkeypatch.setenv("PUFF_BLOCKING_THREADS", "")
    Path("puff.toml").write_text("")
    assert config.load().blocking_threads() is None
    Path("puff.toml").write_text("blocking_threads = 0\n")
    with pytest.raises(ConfigError, match="blocking_threads"):
        config.load()


def test_puff_config_names_the_file(monkeypatch: pytest.MonkeyPatch) -> None:
    Path("other.toml").write_text('asgi = "other:app"')
    monkeypatch.setenv("PUFF_CONFIG", "other.toml")
    assert config.load().app() == ("asgi", "other:app")
    monkeypatch.setenv("PUFF_CONFIG", "missing.toml")
    with pytest.raises(ConfigError, match=r"missing.toml: No such file or directory"):
        config.load()


def test_settings_are_read_once_and_can_be_set() -> None:
    Path("puff.toml").write_text('asgi = "one:app"')
    assert config.current().app() == ("asgi", "one:app")
    Path("puff.toml").write_text('asgi = "two:app"')
    assert config.current().app() == ("asgi", "one:app")
    config.use(config.load())
    assert config.current().app() == ("asgi", "two:app")


# ---- pools --------------------------------------------------------------------------------------


def test_pool_options_are_those_that_are_set() -> None:
    text = "[[postgres]]\nmax_size = 8\nquery_timeout_ms = 0\nqueue_timeout_ms = 5\n"
    options = load(text).pool_options("postgres", "default")
    assert options == {"max_size": 8, "query_timeout_ms": NEVER, "queue_timeout_ms": 5}
    assert load("").pool_options("redis", "default") == {}


def test_pool_size_is_the_originals_name() -> None:
    loaded = load("[[postgres]]\npool_size = 3\n[[redis]]\npool_size = 2\n")
    assert loaded.pool_options("postgres", "default") == {"max_size": 3}
    assert loaded.pool_options("redis", "default") == {"connections": 2}


def test_an_unknown_pool_names_the_known_ones() -> None:
    loaded = load('[[postgres]]\nname = "audit"\n')
    with pytest.raises(ConfigError, match=r"no postgres pool is called 'odit'; known: audit, def"):
        loaded.pool_url("postgres", "odit")
    with pytest.raises(ConfigError, match="no pools of kind 'mysql'; known: postgres, redis"):
        loaded.pool_url("mysql", "default")


def test_a_pool_that_is_switched_off() -> None:
    loaded = load("[[redis]]\nenable = false\n")
    with pytest.raises(ConfigError, match="the redis pool 'default' is switched off"):
        loaded.pool_url("redis", "default")


@pytest.mark.parametrize(
    ("kind", "url"),
    [
        ("postgres", "postgres://u:p@h/d"),
        ("postgres", "host=/run/pg dbname=x"),
        ("redis", "rediss://h:1/2"),
        ("redis", "valkey://h"),
        ("redis", "unix:///run/x.sock"),
        ("redis", "/run/x.sock"),
    ],
)
def test_urls_that_are_good(kind: str, url: str) -> None:
    assert urls.check(kind, url, "test") == url


def test_a_url_of_another_kind_is_refused_without_its_password() -> None:
    loaded = load('[[postgres]]\nurl = "mysql://me:hunter2@host/db"\n')
    with pytest.raises(ConfigError) as e:
        loaded.pool_url("postgres", "default")
    message = str(e.value)
    assert "[[postgres]] default: url: 'mysql://me:***@host/db' is no postgres URL" in message
    assert "hunter2" not in message


@pytest.mark.parametrize(
    ("url", "masked"),
    [
        ("postgresql://u:secret@h/d", "postgresql://u:***@h/d"),
        ("redis://:s3cret@h:1/0", "redis://:***@h:1/0"),
        ("postgresql://u:p@ss@h/d", "postgresql://u:***@h/d"),
        ("postgresql://u:p/a?s@h/d", "postgresql://u:***@h/d"),
        ("postgresql://u@h/d?password=secret&x=1", "postgresql://u@h/d?password=***&x=1"),
        ("host=h password=secret user=u", "host=h password=*** user=u"),
        ("password = 'se cr\\'et' user=u", "password = *** user=u"),
        ("password='never closed", "password=***"),
        ("postgresql:///d?host=/run", "postgresql:///d?host=/run"),
        ("postgresql://u@[::1]:5432/d", "postgresql://u@[::1]:5432/d"),
        ("unix:///run/redis.sock", "unix:///run/redis.sock"),
    ],
)
def test_mask(url: str, masked: str) -> None:
    assert config.mask_url(url) == masked


# ---- what is wrong with a file ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('asgy = "a:b"\n', "puff.toml:1: unknown key `asgy`; did you mean `asgi`?"),
        ('asgi_app = "a:b"\n', "puff.toml:1: unknown key `asgi_app`; did you mean `asgi`?"),
        (
            "[server]\nworkers = 2\nmax_bdy = 1\n",
            "puff.toml:3: server: unknown key `max_bdy`; did you mean `max_body`?",
        ),
        (
            '[[postgres]]\nurl = "x"\n\n[[postgres]]\nname = "audit"\nmaxsize = 1\n',
            "puff.toml:6: postgres[2]: unknown key `maxsize`; did you mean `max_size`?",
        ),
        (
            '[[commands]]\nfunction = "a:b"\ncommand_name = "c"\nzzz = 1\n',
            "puff.toml:4: commands[1]: unknown key `zzz`; known: command_name, function",
        ),
        ("asgi = 3\n", "puff.toml:1: asgi: expected a string, got an integer"),
        ('asgi = ""\n', "puff.toml:1: asgi: expected a string that is not empty"),
        (
            '[server]\nworkers = "2"\n',
            "puff.toml:2: server.workers: expected an integer, got a string",
        ),
        ("[server]\nworkers = 0\n", "puff.toml:2: server.workers: expected an integer >= 1"),
        (
            '[server]\nlog_level = "loud"\n',
            "puff.toml:2: server.log_level: expected one of debug, info, warning, error, critical",
        ),
        (
            "redis = true\n",
            "puff.toml:1: redis: expected an array of tables ([[...]]), got true or false",
        ),
        (
            '[[redis]]\nname = "no space"\n',
            "puff.toml:2: redis[1].name: expected a name of letters, digits, - and _",
        ),
        ('[[commands]]\nfunction = "a:b"\n', "puff.toml:1: commands[1]: `command_name` is missing"),
        (
            "x = \n",
            "puff.toml: not TOML: line 1, column 5: Invalid value",
        ),
        (
            '[[redis]]\nname = "a-b"\n[[redis]]\nname = "a_b"\n',
            "puff.toml: [[redis]] a_b: 'a-b' has the same variable, PUFF_A_B_REDIS_URL",
        ),
        (
            "[[redis]]\npool_size = 1\nconnections = 2\n",
            "puff.toml: [[redis]] default: pool_size and connections are the same; keep one",
        ),
    ],
)
def test_mistakes_are_named_with_file_line_and_key(text: str, message: str) -> None:
    assert refusal(text) == message


def test_a_file_that_is_no_text() -> None:
    Path("puff.toml").write_bytes(b"asgi = '\xff'")
    with pytest.raises(ConfigError, match=r"puff.toml: not UTF-8 \(byte 8\)"):
        config.load()


def test_keys_of_later_features_are_accepted_and_said_aloud() -> None:
    text = "asyncio = true\ngreenlets = false\npytest = true\n[cors]\nx = 1\n[[graphql]]\ny = 2\n"
    notes = [note.rpartition("/")[2] for note in load(text).notes]
    assert sorted(notes) == [
        "puff.toml:2: greenlets = false has no effect",
        "puff.toml:3: pytest: this version of Puff does not have it yet; ignored",
        "puff.toml:4: cors: this version of Puff does not have it yet; ignored",
        "puff.toml:6: graphql: this version of Puff does not have it yet; ignored",
    ]


def test_the_app_is_asgi_or_wsgi_and_not_both(monkeypatch: pytest.MonkeyPatch) -> None:
    assert load('wsgi = "a:b"').app() == ("wsgi", "a:b")
    assert load('asgi = "a:b"').app() == ("asgi", "a:b")
    with pytest.raises(ConfigError, match="both set; one app is served"):
        load('asgi = "a:b"\nwsgi = "c:d"').server()
    monkeypatch.setenv("PUFF_WSGI", "e:f")
    assert load('asgi = "a:b"').app() == ("wsgi", "e:f")
    monkeypatch.delenv("PUFF_WSGI")
    with pytest.raises(ConfigError, match="nothing to serve: puff serve --asgi module:app"):
        load("").server()


def test_a_variable_and_a_flag_are_validated_like_the_file(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PUFF_MAX_BODY", "a lot")
    with pytest.raises(ConfigError, match=r"PUFF_MAX_BODY: expected an integer.*'a lot' was given"):
        load('asgi = "a:b"').server()
    with pytest.raises(ConfigError, match=r"--workers: expected an integer >= 1 \(0 was given\)"):
        load('asgi = "a:b"', workers=0, max_body=1).server()
    monkeypatch.setenv("PUFF_MAX_BODY", "17")
    monkeypatch.setenv("PUFF_ACCESS_LOG", "true")
    server = load('asgi = "a:b"').server()
    assert server.http == {"max_body": 17}
    assert server.access_log is True


# ---- .env ---------------------------------------------------------------------------------------


def test_dotenv_syntax() -> None:
    text = """
# comment
export A=plain text # a comment
B="two\\nlines \\"x\\" # kept"
C='as $it is'
D=
E=with#hash
  F = spaced
G=a=b
"""
    Path(".env").write_text(text)
    assert dotenv.read(Path(".env")) == {
        "A": "plain text",
        "B": 'two\nlines "x" # kept',
        "C": "as $it is",
        "D": "",
        "E": "with#hash",
        "F": "spaced",
        "G": "a=b",
    }


def test_a_bad_line_of_dotenv_is_named_without_its_value() -> None:
    Path(".env").write_text('OK=1\nSECRET="hunter2\n')
    with pytest.raises(ConfigError, match=r"\.env:2: expected NAME=value") as e:
        load("")
    assert "hunter2" not in str(e.value)


def test_dotenv_is_looked_for_upwards_and_can_be_switched_off(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    Path(".env").write_text("PUFF_ASGI=from:dotenv\n")
    (tmp_path / "a" / "b").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "a" / "b")
    assert config.load().app() == ("asgi", "from:dotenv")
    assert load("dotenv = false").app() is None
    with pytest.raises(ConfigError, match=r"nowhere/.env: No such file"):
        load('dotenv_path = "nowhere/.env"')


def test_activate_fills_the_environment_and_sys_path(monkeypatch: pytest.MonkeyPatch) -> None:
    import os
    import sys

    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setenv("ALREADY", "environment")
    monkeypatch.setenv("FRESH", "to be restored")
    monkeypatch.delenv("FRESH")
    Path(".env").write_text("ALREADY=dotenv\nFRESH=dotenv\n")
    loaded = load("")
    assert "FRESH" not in os.environ
    loaded.activate()
    assert (os.environ["ALREADY"], os.environ["FRESH"]) == ("environment", "dotenv")
    assert sys.path[0] == str(Path.cwd())


# ---- one default, one place ---------------------------------------------------------------------


def c_fields(header: str, struct: str) -> set[str]:
    text = (ROOT / "include" / "puff" / header).read_text()
    body = re.search(rf"typedef struct {struct} \{{(.*?)\n\}} {struct};", text, re.DOTALL)
    assert body, f"{struct} is not in {header}"
    code = re.sub(r"/\*.*?\*/", "", body[1], flags=re.DOTALL)
    found: set[str] = set()
    for statement in code.split(";"):
        if "(*" in statement:
            continue
        found |= set(re.findall(r"\b(\w+)\s*(?=,|$)", statement.strip()))
    return found - {"size"}


@pytest.mark.parametrize(
    ("header", "struct", "table", "renamed", "not_settings"),
    [
        (
            "http.h",
            "puff_http_options",
            set(schema.Server.__struct_fields__) - config.NOT_HTTP,
            {},
            set(),
        ),
        (
            "postgres.h",
            "puff_pg_pool_options",
            set(schema.Postgres.__struct_fields__) - {"name", "enable", "url", "pool_size"},
            {"n_lanes_min": "min_size", "n_lanes_max": "max_size"},
            {"dsn"},
        ),
        (
            "redis.h",
            "puff_redis_options",
            set(schema.Redis.__struct_fields__) - {"name", "enable", "url", "pool_size"},
            {"n_connections": "connections"},
            {"url", "builder"},
        ),
    ],
)
def test_the_keys_are_the_fields_of_the_c_structs(
    header: str, struct: str, table: set[str], renamed: dict[str, str], not_settings: set[str]
) -> None:
    fields = {renamed.get(f, f) for f in c_fields(header, struct)} - not_settings
    assert table == fields


@pytest.mark.parametrize(
    ("binding", "table"),
    [
        ("http.pyx", set(schema.Server.__struct_fields__) - config.NOT_HTTP),
        ("postgres.pyx", set(schema.Postgres.__struct_fields__) - {"name", "enable", "pool_size"}),
        ("redis.pyx", set(schema.Redis.__struct_fields__) - {"name", "enable", "pool_size"}),
    ],
)
def test_no_setting_is_dropped_on_its_way_to_c(binding: str, table: set[str]) -> None:
    code = (ROOT / "puffloop" / "puff" / "_bind" / binding).read_text()
    assert {key for key in table - {"url"} if f'"{key}"' not in code} == set()


@pytest.mark.parametrize("table", ["server", "postgres", "redis", "commands", ""])
def test_every_key_has_its_row_in_the_docs(table: str) -> None:
    text = (ROOT / "docs" / "config.md").read_text()
    rows = set(re.findall(r"^\| `([a-z_0-9]+)` ", text, re.MULTILINE))
    assert set(toml.TABLES[table].__struct_fields__) - schema.LATER <= rows


def test_every_server_key_has_a_help_text() -> None:
    assert set(schema.HELP) == set(schema.Server.__struct_fields__)


def test_the_example_is_valid_with_and_without_its_comments() -> None:
    assert load(example.TEXT).notes == []
    everything = re.sub(r"^# (?=[a-z_]+ = |\[)", "", example.TEXT, flags=re.MULTILINE)
    loaded = load(everything.replace('dotenv_path = "secrets/.env"', ""))
    assert loaded.app() == ("asgi", "app:app")
    assert set(loaded.pools("postgres")) == {"default", "audit"}
    assert [c.command_name for c in loaded.file.commands] == ["greet"]
