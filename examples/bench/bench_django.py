"""A Django view with three ORM queries, 64 clients: Puff on greenlets, gunicorn on threads."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from functools import partial
from pathlib import Path

from bench_http import HERE, load_argv
from harness import Sample, compare, save

import puff.embedded

BIN = Path(sys.executable).parent
APP = "app_django:application"
GREENLETS = ["--monkey", "--wsgi-greenlets", "16"]
FLAGS: dict[str, list[str]] = {
    "puff, 16 greenlets": GREENLETS,
    "puff, any number, Django's pool": ["--monkey"],
    "puff, 8 threads": ["--wsgi-threads", "8"],
    "gunicorn, 8 threads": ["-k", "gthread", "--threads", "8"],
    "gunicorn, 64 threads": ["-k", "gthread", "--threads", "64"],
}
GROUPS = """
from django.contrib.auth.models import Group
Group.objects.bulk_create(Group(name=f"group {n}") for n in range(1, 1001))
"""


def argv_of(name: str, port: int) -> list[str]:
    """Each with the connections that suit it best: kept, or Django's pool."""
    here = f"127.0.0.1:{port}"
    settings = ["POOL=16"] if "pool" in name else ["KEEP=600"]
    if name.startswith("puff"):
        command = [str(BIN / "puff"), "serve", "--wsgi", APP, "--bind", here, *FLAGS[name]]
    else:
        command = [str(BIN / "gunicorn"), *FLAGS[name], "-w", "1", "-b", here, APP]
    return ["env", *settings, *command]


def load(name: str) -> Sample:
    return load_argv(partial(argv_of, name), "/three/?n=500", "")


def prepare() -> None:
    env = os.environ | {"DJANGO_SETTINGS_MODULE": "app_django", "PYTHONPATH": str(HERE)}
    django = [sys.executable, "-m", "django"]
    subprocess.run([*django, "migrate", "-v", "0"], env=env, check=True)
    subprocess.run([*django, "shell", "-c", GROUPS], env=env, check=True)


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        os.environ["BENCH_DATABASE"] = puff.embedded.postgres_url(folder)
        prepare()
        contenders = {name: partial(load, name) for name in FLAGS}
        cases = {title: compare(title, contenders) for title in ["Django, three queries"]}
    save("django", cases, ["django", "gunicorn", "psycopg"])


if __name__ == "__main__":
    main()
