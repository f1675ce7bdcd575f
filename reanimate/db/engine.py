"""Connections to the record: SQLAlchemy 2 over psycopg 3, async."""

from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, async_sessionmaker, create_async_engine

__all__ = ["engine_for", "sessions_of"]


def engine_for(url: str, *, pool_size: int = 10) -> AsyncEngine:
    """Return an engine for `url` (postgresql://… or postgresql+psycopg://…).

    Every connection speaks UTC, commits durably, notices a dead server within seconds, and waits for no lock for ever.
    """
    if url.startswith(("postgres://", "postgresql://")):
        url = "postgresql+psycopg://" + url.split("://", 1)[1]
    return create_async_engine(
        url,
        pool_size=pool_size,
        max_overflow=10,
        pool_pre_ping=True,
        pool_timeout=5,
        connect_args={
            "connect_timeout": 3,
            "keepalives_idle": 5,
            "keepalives_interval": 2,
            "keepalives_count": 3,
            "options": "-c timezone=UTC -c synchronous_commit=on -c lock_timeout=15s"
            " -c idle_in_transaction_session_timeout=60s",
            "application_name": "reanimate",
        },
    )


def sessions_of(engine: AsyncEngine) -> async_sessionmaker[AsyncSession]:
    """Return the session factory; objects stay readable after commit."""
    return async_sessionmaker(engine, expire_on_commit=False)
