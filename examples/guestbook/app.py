"""A guestbook: FastAPI, entries in Postgres, a visit counter in Redis, one HTML page.

puff serve --asgi app:app          # in this folder; with no URLs set, Puff starts both servers
itself
"""

from __future__ import annotations

import html
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

from fastapi import FastAPI, HTTPException, Request
from fastapi.responses import HTMLResponse, RedirectResponse
from pydantic import BaseModel, Field

from puff.postgres import global_postgres as pg
from puff.redis import global_redis as redis

PAGE = (Path(__file__).parent / "page.html").read_text()
NEWEST = "select id, name, message, written_at from entries order by id desc limit $1"
ADD = "insert into entries (name, message) values ($1, $2) returning id, name, message, written_at"


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    await pg.execute(
        "create table if not exists entries (id bigint generated always as identity primary key, "
        "name text not null, message text not null, written_at timestamptz not null default now())"
    )
    yield


app = FastAPI(title="Guestbook", lifespan=lifespan)


class NewEntry(BaseModel):
    name: str = Field(min_length=1, max_length=80)
    message: str = Field(min_length=1, max_length=2000)


@app.get("/api/entries")
async def entries(limit: int = 20) -> list[dict[str, Any]]:
    return [dict(row) for row in await pg.fetch(NEWEST, max(1, min(limit, 100)))]


@app.post("/api/entries", status_code=201)
async def add(entry: NewEntry) -> dict[str, Any]:
    return dict(await pg.fetchrow(ADD, entry.name, entry.message) or {})


@app.get("/api/visits")
async def visits() -> dict[str, int]:
    return {"visits": int(await redis.get("guestbook:visits") or 0)}


def _item(row: Any) -> str:
    name, message = html.escape(row["name"]), html.escape(row["message"])
    return f"<li><b>{name}</b> <time>{row['written_at']:%Y-%m-%d %H:%M}</time><p>{message}</p></li>"


@app.get("/", response_class=HTMLResponse)
async def page() -> str:
    count = await redis.incr("guestbook:visits")
    rows = await pg.fetch(NEWEST, 20)
    items = "\n".join(map(_item, rows)) or "<li>Nobody has written yet.</li>"
    return PAGE.replace("{{visits}}", str(count)).replace("{{entries}}", items)


@app.post("/", response_class=RedirectResponse, status_code=303)
async def sign(request: Request) -> str:
    """The page's form, which works without JavaScript."""
    form = parse_qs((await request.body()).decode())
    try:
        entry = NewEntry(name=form["name"][0], message=form["message"][0])
    except (KeyError, ValueError) as exc:
        raise HTTPException(
            422, "a name (1 to 80 characters) and a message (1 to 2000), please"
        ) from exc
    await pg.execute(ADD, entry.name, entry.message)
    return "/"
