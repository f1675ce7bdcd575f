"""Bring the record's schema up to date, however many processes ask for it at once."""

import asyncio
from pathlib import Path

from alembic import command
from alembic.config import Config
from sqlalchemy import create_engine, text

__all__ = ["alembic_config", "migrate"]

_LOCK = 0x7265616E  # any constant that only migrations take


def alembic_config(url: str) -> Config:
    """Return Alembic's configuration for the record at `url`; no ini file is needed."""
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    config.attributes["url"] = url
    return config


def _upgrade(url: str) -> None:
    if url.startswith(("postgres://", "postgresql://")):
        url = "postgresql+psycopg://" + url.split("://", 1)[1]
    engine = create_engine(url, connect_args={"connect_timeout": 5})
    try:
        with engine.begin() as connection:
            connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _LOCK})
            config = alembic_config(url)
            config.attributes["connection"] = connection
            command.upgrade(config, "head")
    finally:
        engine.dispose()


async def migrate(url: str) -> None:
    """Upgrade the schema at `url` to the newest revision ; a second caller waits, then finds it done."""
    await asyncio.to_thread(_upgrade, url)
