"""Every assertion of wsgiref.validate: what Puff answers to an app that breaks it, and that Puff
breaks none itself.
"""

from __future__ import annotations

import ast
import asyncio
import inspect
import logging
import traceback
import warnings
import wsgiref.validate
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple
from wsgiref.util import setup_testing_defaults
from wsgiref.validate import WSGIWarning, validator

import pytest
from rawhttp import WAIT_S, on_puff, serving_wsgi, until

TEXT = [("Content-Type", "text/plain")]
both = pytest.mark.parametrize("threads", [0, 2], ids=["greenlet", "thread"])

App = Callable[[dict[str, Any], Any], Any]


# ---- apps that break a rule ----------------------------------------------------------------------


def starts(*args: Any, **kwargs: Any) -> App:
    def app(environ: Any, start_response: Any) -> Any:
        start_response(*args, **kwargs)
        return [b"body"]

    return app


def status(value: Any) -> App:
    return starts(value, list(TEXT))


def headers(value: Any) -> App:
    return starts("200 OK", value)


def field(name: Any, value: Any = "x") -> App:
    return headers([*TEXT, (name, value)])


def returns(result: Any) -> App:
    def app(environ: Any, start_response: Any) -> Any:
        start_response("200 OK", list(TEXT))
        return result

    return app


def writes(data: Any) -> App:
    def app(environ: Any, start_response: Any) -> Any:
        start_response("200 OK", list(TEXT))(data)
        return [b"body"]

    return app


def uses(use: Callable[[dict[str, Any]], object]) -> App:
    def app(environ: Any, start_response: Any) -> Any:
        use(environ)
        start_response("200 OK", list(TEXT))
        return [b"body"]

    return app


def begins_without_start(environ: Any, start_response: Any) -> Any:
    return [b"body"]


def starts_too_late(environ: Any, start_response: Any) -> Iterator[bytes]:
    yield b"body"
    start_response("200 OK", list(TEXT))


class List(list):  # type: ignore[type-arg]
    pass


class Pair(NamedTuple):
    name: str
    value: str


class Rule(NamedTuple):
    """`answer`: the type of the exception that the log has, with a 500; or the status with which
    the response passes, because HTTP and PEP 3333 itself, or others' servers, have no harm in it.
    """

    says: str
    app: App
    answer: type[Exception] | int


RULES = [
    Rule("start_response has two or three arguments", starts("200 OK"), TypeError),
    Rule("start_response has at most three", starts("200 OK", TEXT, None, 1), TypeError),
    Rule("without keywords", starts("200 OK", TEXT, exc_info=None), TypeError),
    Rule("no keyword for headers", starts("200 OK", headers=TEXT), TypeError),
    Rule("the app returns an iterable, not None", returns(None), TypeError),
    Rule("the app returns an iterable, not False", returns(False), TypeError),
    Rule("the result is no str", returns("text"), TypeError),
    Rule("the result is no bytes", returns(b"text"), TypeError),
    Rule("a piece is no str", returns(["text"]), TypeError),
    Rule("a piece is no empty str", returns(["", b"body"]), TypeError),
    Rule("a piece is not None", returns([None, b"body"]), TypeError),
    Rule("a piece is no bytearray", returns([bytearray(b"x")]), TypeError),
    Rule("start_response comes before the first piece", begins_without_start, RuntimeError),
    Rule("not after it", starts_too_late, RuntimeError),
    Rule("a status is a str", status(200), TypeError),
    Rule("a status is no bytes", status(b"200 OK"), TypeError),
    Rule("a code has three digits", status("20 OK"), ValueError),
    Rule("a code has no more", status("2000 OK"), ValueError),
    Rule("a code is a number", status("abc OK"), ValueError),
    Rule("a code is at least 100", status("099 Low"), ValueError),
    Rule("a space follows the code", status("200"), ValueError),
    Rule("headers are a list", headers(tuple(TEXT)), TypeError),
    Rule("headers are no dict", headers(dict(TEXT)), TypeError),
    Rule("headers are no iterator", headers(map(tuple, TEXT)), TypeError),
    Rule("headers are not of a subclass of list", headers(List(TEXT)), 200),
    Rule("a header is a tuple", headers([list(TEXT[0])]), TypeError),
    Rule("a header is not of a subclass of tuple", headers([Pair(*TEXT[0])]), 200),
    Rule("a header is a pair", headers([("a",)]), TypeError),
    Rule("a header is no triple", headers([("a", "b", "c")]), TypeError),
    Rule("a name is a str", field(b"name"), TypeError),
    Rule("a value is a str", field("name", 1), TypeError),
    Rule("a value is not None", field("name", None), TypeError),
    Rule("no header is called Status", field("Status", "200 OK"), 200),
    Rule("a name has no newline", field("a\nb"), ValueError),
    Rule("a name has no colon", field("name:"), ValueError),
    Rule("a name has no space", field("a b"), ValueError),
    Rule("a name is not empty", field(""), ValueError),
    Rule("a name begins with a letter", field("1st"), 200),
    Rule("a name does not end in -", field("name-"), 200),
    Rule("a name does not end in _", field("name_"), 200),
    Rule("a value has no newline", field("name", "a\r\nb: c"), ValueError),
    Rule("a value has no newline at its end", field("name", "a\n"), ValueError),
    Rule("a value has no NUL", field("name", "a\0b"), ValueError),
    Rule("a value has no escape", field("name", "a\x1bb"), ValueError),
    Rule("a value has no tab", field("name", "a\tb"), 200),
    Rule("content has a type", starts("200 OK", []), 200),
    Rule("no content has none", starts("204 No Content", list(TEXT)), 204),
    Rule("exc_info is a tuple", starts("200 OK", list(TEXT), 1), TypeError),
    Rule("write() takes bytes", writes("text"), TypeError),
    Rule("write() takes no empty str", writes(""), TypeError),
    Rule("read() has a size", uses(lambda e: e["wsgi.input"].read()), 200),
    Rule("read() has one size", uses(lambda e: e["wsgi.input"].read(1, 2)), TypeError),
    Rule("readline() has one size", uses(lambda e: e["wsgi.input"].readline(1, 2)), TypeError),
    Rule("readlines() has one hint", uses(lambda e: e["wsgi.input"].readlines(1, 2)), TypeError),
    Rule("input is not closed", uses(lambda e: e["wsgi.input"].close()), AttributeError),
    Rule("errors take str", uses(lambda e: e["wsgi.errors"].write(b"text")), TypeError),
]  # fmt: skip


@both
@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.says.replace(" ", "-"))
@on_puff
async def test_an_app_that_breaks_a_rule(threads: int, rule: Rule, caplog: Any) -> None:
    async with serving_wsgi(rule.app, threads=threads) as s:
        c = await s.connect()
        r = await c.get()
        if isinstance(rule.answer, int):
            assert r.status == rule.answer
            assert not caplog.records
        else:
            assert (r.status, r.body) == (500, b"Internal Server Error")
            await until(lambda: caplog.records)
            (record,) = [x for x in caplog.records if x.levelno >= logging.ERROR]
            assert record.getMessage() == "GET /: the WSGI app raised an exception"
            assert isinstance(record.exc_info[1], rule.answer) and str(record.exc_info[1])


# ---- the list is whole ---------------------------------------------------------------------------

# What a server may break: the tests below have the validator look at ours. wsgi.errors is
# sys.stderr, as with others: an app that closes it has closed it.
SERVERS = {
    "check_environ": None, "check_input": None, "check_errors": None, "__del__": None,
    "lint_app": ("len(args) == 2", "not kw"),
    "read": ("type(v) is bytes",),
    "readline": ("type(v) is bytes",),
    "readlines": ("type(lines) is list", "type(line) is bytes"),
    "__next__": ("not self.closed",),
    "close": ("errors.close()",),
}  # fmt: skip


def sites() -> dict[int, tuple[str, str]]:
    """{line: (function, text)} of each place where the validator may complain."""
    source = inspect.getsource(wsgiref.validate)
    found: dict[int, tuple[str, str]] = {}

    def visit(node: ast.AST, function: str) -> None:
        if isinstance(node, ast.FunctionDef):
            function = node.name
        complains = isinstance(node, ast.Raise)
        if isinstance(node, ast.Call):
            complains = ast.unparse(node.func) in ("assert_", "warnings.warn")
        if complains and function != "assert_":
            found[node.lineno] = function, ast.unparse(node)
        for child in ast.iter_child_nodes(node):
            visit(child, function)

    visit(ast.parse(source), "")
    return found


def complaint(app: App) -> int | None:
    """The line on which the validator complains of the app, under a server that is right."""
    environ: dict[str, Any] = {}
    setup_testing_defaults(environ)
    environ["QUERY_STRING"] = ""
    result: Any = None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", WSGIWarning)
            result = validator(app)(
                environ, lambda status, headers, exc_info=None: lambda data: None
            )
            list(result)
    except (AssertionError, WSGIWarning) as exc:
        frames = traceback.extract_tb(exc.__traceback__)
        lines = [f for f in frames if f.filename == wsgiref.validate.__file__]
        return next(f.lineno for f in reversed(lines) if f.name != "assert_")
    except (TypeError, ValueError):  # it trips over the value before it can complain
        return None
    finally:
        if result is not None:
            result.close()
    return None


def test_every_assertion_is_broken_by_an_app_or_is_the_servers() -> None:
    known = sites()
    broken = {line for rule in RULES if (line := complaint(rule.app)) is not None}
    assert len(known) > 40
    left = [
        (function, text)
        for line, (function, text) in known.items()
        if line not in broken and not _is_servers(function, text)
    ]
    assert left == []


def _is_servers(function: str, text: str) -> bool:
    parts = SERVERS.get(function, ())
    return parts is None or any(part in text for part in parts)


# ---- Puff breaks none ----------------------------------------------------------------------------


def listed(environ: Any, start_response: Any) -> Any:
    environ["wsgi.errors"].write("")
    environ["wsgi.errors"].writelines([""])
    environ["wsgi.errors"].flush()
    start_response("200 OK", list(TEXT))
    return [environ["wsgi.input"].read(3), environ["wsgi.input"].readline()]


def yielded(environ: Any, start_response: Any) -> Iterator[bytes]:
    start_response("200 OK", list(TEXT))
    yield b""
    yield from environ["wsgi.input"]
    yield b"end"


def written(environ: Any, start_response: Any) -> Any:
    write = start_response("200 OK", list(TEXT))
    for line in environ["wsgi.input"].readlines():
        write(line)
    return ()


def anew(environ: Any, start_response: Any) -> Any:
    start_response("200 OK", list(TEXT))
    start_response("503 Sorry", list(TEXT), (LookupError, LookupError(), None))
    return iter([*environ["wsgi.input"].readlines(1), b"end"])


def empty(environ: Any, start_response: Any) -> Any:
    start_response("304 Not Modified", [])
    return []


H = "HTTP/1.1\r\nhost: x\r\n"
REQUESTS = {
    "get": f"GET /a%20b/?x=1&y {H}x-y: 1\r\nx-y: 2\r\n\r\n",
    "head": f"HEAD / {H}\r\n",
    "post": f"POST / {H}content-length: 8\r\ncontent-type: a/b\r\n\r\none\ntwo\n",
    "no length": f"POST / {H}content-length: 0\r\n\r\n",
    "chunked": f"PUT / {H}transfer-encoding: chunked\r\n\r\n4\r\none\n\r\n0\r\n\r\n",
    "old": "GET / HTTP/1.0\r\n\r\n",
    "absolute": f"GET http://x/abs {H}\r\n",
    "absolute without a path": f"GET http://x?q {H}\r\n",
    "asterisk": f"OPTIONS * {H}\r\n",
    "below": f"GET /app/x {H}\r\n",
    "the root": f"GET /app {H}\r\n",
}


@both
@pytest.mark.parametrize("root", ["", "/app", "/"])
@pytest.mark.parametrize("app", [listed, yielded, written, anew, empty])
@on_puff
async def test_the_validator_is_content_with_puff(
    threads: int, app: App, root: str, caplog: Any, capfd: Any
) -> None:
    async with serving_wsgi(validator(app), threads=threads, root_path=root) as s:
        with warnings.catch_warnings():
            warnings.simplefilter("error", WSGIWarning)
            for request in REQUESTS.values():
                c = await s.connect()
                c.send(request)
                line = await asyncio.wait_for(c.reader.readline(), WAIT_S)
                assert line.split()[1] in (b"200", b"503", b"304"), (request, caplog.text)
                await until(lambda: s.server.statistics()["in_flight"] == 0)
    assert not caplog.records
    assert "Iterator" not in capfd.readouterr().err
