"""A Flask view that answers JSON."""

from __future__ import annotations

from typing import Any

import flask

app = flask.Flask("bench")


@app.route("/json")
def json() -> dict[str, Any]:
    return {"hello": "world", "n": 1}
