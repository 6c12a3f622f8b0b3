"""A Django site whose view makes three queries by the ORM; settings, model and view in one module.

BENCH_DATABASE is libpq's URL of a Postgres. KEEP is CONN_MAX_AGE, 0 by default; POOL, if set, the
size of Django's pool of psycopg connections.
"""

from __future__ import annotations

import os
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

SECRET_KEY = "of a benchmark"
ALLOWED_HOSTS = ["*"]
ROOT_URLCONF = __name__
INSTALLED_APPS = ["django.contrib.contenttypes", "django.contrib.auth"]
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
LOGGING_CONFIG = None

_url = urlsplit(os.environ["BENCH_DATABASE"])
_query = parse_qs(_url.query)
DATABASES = {
    "default": {
        "ENGINE": "django.db.backends.postgresql",
        "NAME": _url.path.lstrip("/"),
        "USER": unquote(_url.username or ""),
        "PASSWORD": unquote(_url.password or ""),
        "HOST": _query.get("host", [_url.hostname or ""])[0],
        "PORT": str(_url.port or _query.get("port", [""])[0]),
        "CONN_MAX_AGE": int(os.environ.get("KEEP", "0")),
        "OPTIONS": {"pool": {"max_size": int(os.environ["POOL"])}} if "POOL" in os.environ else {},
    }
}


def three_queries(request: Any) -> Any:
    from django.contrib.auth.models import Group
    from django.http import JsonResponse

    n = int(request.GET["n"])
    first = Group.objects.get(pk=n)
    second = Group.objects.filter(name=f"group {n + 1}").values_list("pk", flat=True)[0]
    n_groups = Group.objects.count()
    return JsonResponse({"name": first.name, "next": second, "n": n_groups})


def __getattr__(name: str) -> Any:
    """Made late: Django looks into this module for its settings first."""
    if name == "urlpatterns":
        from django.urls import path

        return [path("three/", three_queries)]
    if name == "application":
        os.environ["DJANGO_SETTINGS_MODULE"] = __name__
        from django.core.wsgi import get_wsgi_application

        return get_wsgi_application()
    raise AttributeError(name)
