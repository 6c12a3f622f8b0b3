"""The `puff` command. Each command is one function; flags of `serve` come from `config.schema`.

Exit status: 0 fine, 1 something failed, 2 a flag or a setting is wrong, 3 the app cannot be
imported. An error is one sentence on stderr; a traceback is shown only when user code raised it.
"""

from __future__ import annotations

import inspect
import runpy
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import click
import msgspec

from puff import config, doctor, example
from puff.config import schema
from puff.errors import AppImportError, ConfigError, PuffError
from puff.imports import import_path, traceback_of

__all__ = ["main"]

EPILOG = (
    "Settings: a flag, else the environment, else .env, else puff.toml. See `puff example_config`."
)
CONFIG_FLAG = click.Option(
    ["--config", "config_path"], metavar="FILE", help="Settings (default: PUFF_CONFIG, puff.toml)."
)


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command line and returns the exit status."""
    args = list(sys.argv[1:] if argv is None else argv)
    try:
        status = _group(_Settings(args)).main(args or ["--help"], "puff", standalone_mode=False)
        return status if isinstance(status, int) else 0
    except click.exceptions.Exit as e:
        return e.exit_code
    except click.ClickException as e:
        e.show()
        return e.exit_code
    except click.Abort:
        return 130
    except AppImportError as e:
        _complain(traceback_of(e), e)
        return 3
    except PuffError as e:
        _complain("", e)
        return 2 if isinstance(e, ConfigError) else 1


class _Settings:
    """puff.toml, read before the flags are known, for its pools and commands add to them.

    A file with a mistake must not break `puff --help`: the error waits until a command needs it.
    """

    def __init__(self, args: list[str]) -> None:
        self.config: config.Config | None = None
        self.error: ConfigError | None = None
        try:
            self.config = config.load(_peek_config(args))
        except ConfigError as e:
            self.error = e

    def refuse(self, reason: str) -> None:
        assert self.config is not None
        self.error = ConfigError(f"{self.config.path}: {reason}")
        self.config = None

    def pools(self) -> list[tuple[str, str]]:
        if self.config is None:
            return []
        return [(kind, name) for kind in config.KINDS for name in self.config.pools(kind)]

    def commands(self) -> list[schema.Command]:
        return self.config.file.commands if self.config else []

    def apply(self, flags: dict[str, Any]) -> config.Config:
        """Makes them the process's settings, and says what puff.toml has in vain."""
        if self.config is None:
            assert self.error is not None
            raise self.error
        self.config.overrides = {k: v for k, v in flags.items() if v is not None}
        for note in self.config.notes:
            click.echo(f"puff: {note}", err=True)
        self.config.activate()
        config.use(self.config)
        return self.config


def _group(settings: _Settings) -> click.Group:
    group = click.Group(
        "puff",
        help="Puff: an event loop, an HTTP server, Postgres, Redis and greenlets in one runtime.",
        epilog="Start with: puff serve --asgi module:app",
    )
    group.params.append(_version_flag())
    for make in (_serve, _run, _doctor, _example_config, _build_flags):
        group.add_command(make(settings))
    for command in settings.commands():
        if command.command_name in group.commands:
            settings.refuse(f"[[commands]]: {command.command_name} is a command of puff itself")
            break
        group.add_command(_own_command(settings, command))
    return group


def _serve(settings: _Settings) -> click.Command:
    def run(**flags: Any) -> int:
        chosen = settings.apply(_pool_names(settings, flags)).server()
        from puff.serve import serve  # the native core, which the other commands do without

        return int(serve(chosen))

    params: list[click.Parameter] = [
        click.Option(["--asgi"], metavar="MODULE:APP", help="The ASGI app to serve. [PUFF_ASGI]"),
        click.Option(["--wsgi"], metavar="MODULE:APP", help="The WSGI app to serve. [PUFF_WSGI]"),
        *map(_server_option, schema.Server.__struct_fields__),
        *_pool_options(settings),
        CONFIG_FLAG,
    ]
    text = "Serve an app over HTTP. Stop it with Ctrl-C or SIGTERM: requests in flight finish."
    return click.Command("serve", callback=run, params=params, help=text, epilog=EPILOG)


def _run(settings: _Settings) -> click.Command:
    def run(target: str, arguments: tuple[str, ...], **flags: Any) -> int:
        settings.apply(_pool_names(settings, flags))
        if target.endswith(".py"):
            return _run_script(target, arguments)
        return _call(import_path(target), arguments)

    params: list[click.Parameter] = [
        click.Argument(["target"]),
        click.Argument(["arguments"], nargs=-1, type=click.UNPROCESSED),
        *_pool_options(settings),
        CONFIG_FLAG,
    ]
    text = "Run SCRIPT.py, or call MODULE:FUNCTION.\n\nA coroutine function runs on Puff's loop."
    context = {"ignore_unknown_options": True, "allow_interspersed_args": False}
    return click.Command("run", context, run, params, help=text, epilog=EPILOG)


def _doctor(settings: _Settings) -> click.Command:
    def run(as_json: bool, **flags: Any) -> int:
        report = doctor.examine(settings.apply(_pool_names(settings, flags)))
        click.echo(doctor.as_json(report) if as_json else doctor.as_text(report))
        return 0 if all(check.fine for check in report) else 1

    as_json = click.Option(["--json", "as_json"], is_flag=True, help="For programs.")
    params = [as_json, *_pool_options(settings), CONFIG_FLAG]
    text = "Say what is configured, reachable and missing."
    return click.Command("doctor", callback=run, params=params, help=text)


def _example_config(settings: _Settings) -> click.Command:
    text = "Print an example: puff example_config > puff.toml"
    return click.Command(
        "example_config", callback=lambda: click.echo(example.TEXT, nl=False), help=text
    )


def _build_flags(settings: _Settings) -> click.Command:
    def run(cflags: bool, libs: bool) -> int:
        if not cflags and not libs:
            raise click.UsageError("say what you want: --cflags, --libs or both")
        package = Path(__file__).parent
        include = next(
            (p for p in (package / "include", package.parents[1] / "include") if p.is_dir()), None
        )
        if include is None:
            raise PuffError("the headers are not installed here; install puffloop from its wheel")
        lib = package / "_lib"
        words = [f"-I{include}"] if cflags else []
        words += [f"-L{lib}", "-lpuff", f"-Wl,-rpath,{lib}"] if libs else []
        click.echo(" ".join(words))
        return 0

    params: list[click.Parameter] = [
        click.Option(["--cflags"], is_flag=True, help="For the compiler."),
        click.Option(["--libs"], is_flag=True, help="For the linker."),
    ]
    text = "Print compiler flags for C: cc x.c $(puff config --cflags --libs)"
    return click.Command("config", callback=run, params=params, help=text)


def _own_command(settings: _Settings, command: schema.Command) -> click.Command:
    def run() -> int:
        settings.apply({})
        return _call(import_path(command.function), ())

    return click.Command(command.command_name, callback=run, help=f"Call {command.function}.")


def _call(function: Callable[..., Any], arguments: Sequence[str]) -> int:
    """Its result is the status if it is an int, as for sys.exit."""
    if not callable(function):
        raise ConfigError(f"{function!r} cannot be called")
    result = function(*arguments)
    if inspect.iscoroutine(result):
        import puff

        result = puff.run(result)
    return result if isinstance(result, int) and not isinstance(result, bool) else 0


def _run_script(path: str, arguments: Sequence[str]) -> int:
    """As `python SCRIPT ARGS`, but asyncio.run and kin use Puff's loop."""
    if not Path(path).is_file():
        raise ConfigError(f"there is no script {path}")
    import puff

    puff.install()
    sys.argv = [path, *arguments]
    runpy.run_path(path, run_name="__main__")
    return 0


def _server_option(name: str) -> click.Option:
    flag = "--" + name.replace("_", "-")
    text = f"{schema.HELP[name]} [PUFF_{name.upper()}]"
    field = next(f for f in msgspec.structs.fields(schema.Server) if f.name == name)
    if "bool" in str(field.type):
        return click.Option([f"{flag}/--no-{flag[2:]}", name], default=None, help=text)
    return click.Option([flag, name], type=int if "int" in str(field.type) else str, help=text)


def _pool_options(settings: _Settings) -> list[click.Parameter]:
    return [
        click.Option(
            [f"--{config.flag_of(kind, name)}", _parameter(kind, name)],
            metavar="URL",
            help=f"The {kind} of pool {name!r}. [{config.variable_of(kind, name)}]",
        )
        for kind, name in settings.pools()
    ]


def _pool_names(settings: _Settings, flags: dict[str, Any]) -> dict[str, Any]:
    """click's parameter names back to the names that config knows overrides by."""
    flags.pop("config_path", None)
    for kind, name in settings.pools():
        flags[config.flag_of(kind, name)] = flags.pop(_parameter(kind, name), None)
    return flags


def _parameter(kind: str, name: str) -> str:
    return f"pool_{kind}_{name}".replace("-", "_").lower()


def _peek_config(args: list[str]) -> str | None:
    flags = iter(args)
    for arg in flags:
        if arg.startswith("--config="):
            return arg.partition("=")[2]
        if arg == "--config":
            return next(flags, None)
        if args[0] == "run" and arg != "run":
            if not arg.startswith("--"):
                return None  # the target: what follows is its own
            if "=" not in arg:
                next(flags, None)
    return None


def _version_flag() -> click.Option:
    def show(ctx: click.Context, param: click.Parameter, value: bool) -> None:
        if value:
            click.echo(f"puff {doctor.version()}")
            ctx.exit()

    return click.Option(
        ["--version"],
        is_flag=True,
        expose_value=False,
        is_eager=True,
        callback=show,
        help="Show the version and exit.",
    )


def _complain(trace: str, error: PuffError) -> None:
    click.echo(f"{trace}puff: {error}", err=True)
