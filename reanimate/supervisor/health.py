"""Ask a part whether it is ready, by the URL that its entry in the table gives."""

import asyncio
from urllib.parse import urlsplit

import httpx
import psycopg

from reanimate.errors import ConfigInvalid

__all__ = ["healthy"]


async def healthy(url: str, timeout_s: float = 1.0) -> bool:
    """Say whether what listens at `url` (http, https, tcp or postgresql) answers as it should within `timeout_s`.

    Raises:
        ConfigInvalid: it is a Postgres that refuses our password, which waiting does not mend.
    """
    scheme = urlsplit(url).scheme
    if scheme in ("http", "https"):
        return await _http(url, timeout_s)
    if scheme == "tcp":
        return await _tcp(url, timeout_s)
    return await _postgres(url, timeout_s)


async def _http(url: str, timeout_s: float) -> bool:
    try:
        async with httpx.AsyncClient(timeout=timeout_s, trust_env=False, verify=url.startswith("https:")) as client:
            return (await client.get(url)).status_code < 400
    except httpx.HTTPError:
        return False


async def _tcp(url: str, timeout_s: float) -> bool:
    parts = urlsplit(url)
    try:
        async with asyncio.timeout(timeout_s):
            _, writer = await asyncio.open_connection(parts.hostname, parts.port)
    except (OSError, TimeoutError):
        return False
    writer.close()
    return True


async def _postgres(url: str, timeout_s: float) -> bool:
    try:
        async with asyncio.timeout(timeout_s):
            plain = url.replace("postgresql+psycopg://", "postgresql://", 1)
            async with await psycopg.AsyncConnection.connect(plain) as connection:
                await connection.execute("SELECT 1")
    except (psycopg.Error, OSError, TimeoutError) as error:
        if "password authentication failed" in str(error):
            raise ConfigInvalid(
                f"the Postgres at {urlsplit(url).hostname}:{urlsplit(url).port} refuses our password",
                hint="restore the secrets.json that belongs to this data, or mend DATABASE_URL",
            ) from None
        return False
    return True
