"""A Django site for tests: sqlite or Postgres behind it, views that stream, send files and fail.

Settings stand in this module (DJANGO_SETTINGS_MODULE=django_site); it is imported by name, from a
process of its own or by test_django.py.
"""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

SECRET_KEY = "not secret"
ALLOWED_HOSTS = ["*"]
ROOT_URLCONF = __name__
INSTALLED_APPS = [
    "django.contrib.contenttypes",
    "django.contrib.auth",
    "django.contrib.sessions",
]
MIDDLEWARE = [
    "django.middleware.common.CommonMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    f"{__name__}.stamp",
]
USE_TZ = True
LOGGING_CONFIG = None
FILE_UPLOAD_MAX_MEMORY_SIZE = 100_000
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"


def _database(url: str | None) -> dict[str, Any]:
    if url is None:
        name = os.environ.get("SITE_SQLITE", ":memory:")
        return {"ENGINE": "django.db.backends.sqlite3", "NAME": name}
    parts = urlsplit(url)
    query = parse_qs(parts.query)
    return {
        "ENGINE": "django.db.backends.postgresql",
        "NAME": parts.path.lstrip("/"),
        "USER": unquote(parts.username or ""),
        "PASSWORD": unquote(parts.password or ""),
        "HOST": query.get("host", [parts.hostname or ""])[0],
        "PORT": str(parts.port or query.get("port", [""])[0]),
        "CONN_MAX_AGE": int(os.environ.get("SITE_CONN_MAX_AGE", "0")),
        "OPTIONS": json.loads(os.environ.get("SITE_OPTIONS", "{}")),
    }


DATABASES = {"default": _database(os.environ.get("SITE_POSTGRES"))}


def stamp(get_response: Callable[[Any], Any]) -> Callable[[Any], Any]:
    def middleware(request: Any) -> Any:
        response = get_response(request)
        response["x-stamp"] = request.path.encode("ascii", "replace").decode()
        return response

    return middleware


# ---- views: Django is imported late, for its settings are this module ----------------------------


def hello(request: Any, name: str) -> Any:
    from django.http import HttpResponse

    return HttpResponse(f"hello {name} {request.GET.get('q', '')}")


def visits(request: Any) -> Any:
    from django.http import JsonResponse

    request.session["n"] = request.session.get("n", 0) + 1
    return JsonResponse({"n": request.session["n"]})


def upload(request: Any) -> Any:
    from django.http import JsonResponse

    file = request.FILES["file"]
    size = sum(len(chunk) for chunk in file.chunks())
    return JsonResponse({"size": size, "name": file.name, "field": request.POST["field"]})


def stream(request: Any) -> Any:
    from django.http import StreamingHttpResponse

    import puff

    def generate() -> Iterator[str]:
        for n in range(5):
            puff.sleep_ms(1)
            yield f"{n}{request.GET['x']} "

    return StreamingHttpResponse(generate())


def file(request: Any) -> Any:
    from django.http import FileResponse

    return FileResponse(open(os.environ["SITE_FILE"], "rb"))


async def later(request: Any) -> Any:
    from django.http import HttpResponse

    await asyncio.sleep(0.001)
    return HttpResponse(request.GET["x"])


def fail(request: Any) -> Any:
    raise LookupError("a mistake of the view")


def orm(request: Any) -> Any:
    """Three queries: writes this caller's nonce, reads it twice in two ways."""
    from django.contrib.auth.models import Group
    from django.db import connection, transaction
    from django.http import JsonResponse

    nonce = request.GET["nonce"]
    with transaction.atomic():
        made = Group.objects.create(name=nonce)
        found = Group.objects.get(pk=made.pk)
    with connection.cursor() as cursor:
        held = float(request.GET.get("hold", 0))  # seconds that this takes
        query = "select name from auth_group, pg_sleep(%s) where id = %s"
        if connection.vendor == "sqlite":
            query = "select name from auth_group where %s < 1 and id = %s"
        cursor.execute(query, [held, made.pk])
        (raw,) = cursor.fetchone()
    return JsonResponse({"orm": found.name, "sql": raw})


def rolled_back(request: Any) -> Any:
    from django.contrib.auth.models import Group
    from django.db import transaction
    from django.http import HttpResponse

    name = request.GET["nonce"]
    try:
        with transaction.atomic():
            Group.objects.create(name=name)
            raise LookupError
    except LookupError:
        return HttpResponse(str(Group.objects.filter(name=name).exists()))


def _urls() -> Iterator[Any]:
    from django.urls import path

    yield path("hello/<name>/", hello)
    for view in (visits, upload, stream, file, later, fail, orm, rolled_back):
        yield path(f"{view.__name__}/", view)


def __getattr__(name: str) -> Any:
    """The URLs and the WSGI app: made when Django, or a server, asks for them."""
    if name == "urlpatterns":
        return list(_urls())
    if name == "application":
        os.environ.setdefault("DJANGO_SETTINGS_MODULE", __name__)
        from django.core.wsgi import get_wsgi_application

        return get_wsgi_application()
    raise AttributeError(name)
