"""The pages over a real record, served on a free port, for tests that look at them from outside."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import uvicorn
from fastapi import FastAPI

from reanimate.addresses import Addresses
from reanimate.bootstrap import Services, open_services
from reanimate.config import DatabaseSettings, Settings
from reanimate.web.pages import router

__all__ = ["open_record", "served"]


@asynccontextmanager
async def open_record(home: Path, database_url: str) -> AsyncIterator[Services]:
    """Open services in `home` on the record at `database_url`, as every process of the product does."""
    Addresses(
        web="http://127.0.0.1:8700",
        prefect_api="http://127.0.0.1:8704/api",
        prefect_ui="http://127.0.0.1:8704",
        gateway="http://127.0.0.1:8710",
        gateway_control="http://127.0.0.1:8711",
        watch="http://127.0.0.1:8712",
        database="postgresql://127.0.0.1/reanimate",
    ).save(home)
    settings = Settings(home=home, database=DatabaseSettings.model_validate({"url": database_url}))
    async with open_services(settings) as services:
        yield services


def pages_of(services: Services) -> FastAPI:
    """Return an application that has the pages and nothing else."""
    app = FastAPI()
    app.state.services = services
    app.include_router(router)
    return app


@asynccontextmanager
async def served(services: Services, port: int) -> AsyncIterator[str]:
    """Serve the pages on `port` of this machine and yield their base URL."""
    config = uvicorn.Config(pages_of(services), host="127.0.0.1", port=port, log_level="warning", access_log=False)
    server = uvicorn.Server(config)
    task = asyncio.create_task(server.serve())
    while not server.started:  # noqa: ASYNC110 - uvicorn has no event for it
        await asyncio.sleep(0.02)
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        server.should_exit = True
        await task
