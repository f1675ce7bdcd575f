"""The peer of alert-accept: Alertmanager's webhook taken by a plain FastAPI handler that inserts synchronously.

    uvicorn benchmarks.peers.plain_intake:app        DATABASE_URL, INTAKE_TOKEN

As a careful person would write it in an afternoon: a bearer token, a connection pool, one INSERT, committed before
the answer. It folds nothing, opens nothing and starts nothing, so it has less to do than we have.
"""

import hmac
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated, Any

from fastapi import FastAPI, Header, HTTPException
from psycopg.types.json import Jsonb
from psycopg_pool import ConnectionPool

__all__ = ["app"]

TOKEN = os.environ["INTAKE_TOKEN"]
pool = ConnectionPool(os.environ["DATABASE_URL"], min_size=4, max_size=20, open=False)


@asynccontextmanager
async def lifespan(_: FastAPI) -> AsyncIterator[None]:
    pool.open(wait=True)
    with pool.connection() as connection:
        connection.execute(
            "CREATE TABLE IF NOT EXISTS plain_alerts "
            "(id bigserial PRIMARY KEY, received_at timestamptz NOT NULL DEFAULT now(), body jsonb NOT NULL)"
        )
    yield
    pool.close()


app = FastAPI(lifespan=lifespan)


@app.get("/healthz")
def healthz() -> dict[str, str]:
    return {"status": "ok"}


@app.post("/alerts/alertmanager", status_code=202)
def take(body: dict[str, Any], authorization: Annotated[str, Header()] = "") -> dict[str, str]:
    """Store one notification."""
    if not hmac.compare_digest(authorization, f"Bearer {TOKEN}"):
        raise HTTPException(401)
    with pool.connection() as connection:
        connection.execute("INSERT INTO plain_alerts (body) VALUES (%s)", [Jsonb(body)])
    return {"status": "stored"}
