from __future__ import annotations

from fastapi import FastAPI

app = FastAPI()


@app.get("/json")
async def answer() -> dict[str, str]:
    return {"message": "Hello, world"}
