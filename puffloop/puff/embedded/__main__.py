"""`python -m puff.embedded env [--postgres] [--redis] [--dir FOLDER] -- CMD ...`

Runs CMD with private servers and tells it where they are, in PUFF_TEST_POSTGRES and PUFF_TEST_REDIS
(what Puff's own tests read) and PUFF_DEFAULT_POSTGRES_URL and PUFF_DEFAULT_REDIS_URL (what a pool
reads). Without --dir they are temporary and not durable. The exit status is that of CMD.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import subprocess
import sys

from puff import embedded
from puff.errors import EmbeddedError


def main(argv: list[str]) -> int:
    options = _parse(argv)
    try:
        with contextlib.ExitStack() as stack:
            folder = options.dir or stack.enter_context(embedded.temporary())
            environ = os.environ | _variables(options, folder)
            return _run(options.command, environ)
    except EmbeddedError as e:
        print(f"puff.embedded: {e}", file=sys.stderr)
        return 1


def _parse(argv: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m puff.embedded", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="env")
    env = commands.add_parser("env", help="run a command beside private servers")
    env.add_argument("--postgres", action="store_true", help="only Postgres, unless --redis too")
    env.add_argument("--redis", action="store_true", help="only Redis, unless --postgres too")
    env.add_argument("--dir", help="keep data below this folder (default: temporary)")
    env.add_argument("command", nargs="+", metavar="CMD", help="after --")
    options = parser.parse_args(argv)
    if not options.postgres and not options.redis:
        options.postgres = options.redis = True
    return options


def _variables(options: argparse.Namespace, folder: str) -> dict[str, str]:
    durable = bool(options.dir)
    made: dict[str, str] = {}
    if options.postgres:
        url = embedded.postgres_url(folder, durable=durable)
        made |= {"PUFF_TEST_POSTGRES": url, "PUFF_DEFAULT_POSTGRES_URL": url}
    if options.redis:
        url = embedded.redis_url(folder, durable=durable)
        made |= {"PUFF_TEST_REDIS": url, "PUFF_DEFAULT_REDIS_URL": url}
    return made


def _run(command: list[str], environ: dict[str, str]) -> int:
    """SIGTERM is passed on; a terminal's Ctrl-C reaches the command by itself."""
    try:
        child = subprocess.Popen(command, env=environ)
    except OSError as e:
        raise EmbeddedError(f"cannot run {command[0]}: {e.strerror}") from None
    signal.signal(signal.SIGTERM, lambda *_: child.terminate())
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    status = child.wait()
    return status if status >= 0 else 128 - status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
