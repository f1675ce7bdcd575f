"""A gateway as a real process in front of LLM providers, and the settings that it reads."""

import json
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
from gateway_process import Gateway

__all__ = ["LlmGateway", "llm_gateway_for", "provider_toml", "route_toml", "write_settings"]

NOBODY = "http://127.0.0.1:9"


def _toml(value: Any) -> str:
    """Write a value as TOML: JSON is TOML for strings, numbers, booleans and arrays of them."""
    if isinstance(value, Mapping):
        return "{ " + ", ".join(f"{json.dumps(key)} = {_toml(item)}" for key, item in value.items()) + " }"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(_toml(item) for item in value) + "]"
    return json.dumps(value)


def _table(header: str, fields: Mapping[str, Any]) -> str:
    return "\n".join([header, *(f"{key} = {_toml(value)}" for key, value in fields.items())]) + "\n"


def provider_toml(
    name: str,
    url: str,
    wire: str = "openai",
    models: Sequence[str | Mapping[str, Any]] = ("model",),
    keys: Sequence[str] | None = None,
    **fields: Any,
) -> str:
    """Return one provider. `url` is the provider's origin; OpenAI's base URL ends in /v1. A model may be a table."""
    base = f"{url}/v1" if wire == "openai" else url
    keys = (f"key-of-{name}",) if keys is None else keys
    text = _table("[[llm.providers]]", {"name": name, "wire": wire, "url": base, "keys": list(keys), **fields})
    for model in models:
        text += _table("[[llm.providers.models]]", {"name": model} if isinstance(model, str) else model)
    return text


def route_toml(name: str = "chat", targets: Sequence[Any] = (), **fields: Any) -> str:
    return _table("[[llm.routes]]", {"name": name, "targets": list(targets), **fields})


def write_settings(home: Path, *parts: str, **sections: Mapping[str, Any]) -> None:
    """Write `home/reanimate.toml`: sections (`llm={"currency": "EUR"}`) first, then the parts."""
    home.mkdir(parents=True, exist_ok=True)
    tables = "".join(_table(f"[{name}]", fields) for name, fields in sections.items())
    (home / "reanimate.toml").write_text("[vector]\noffline = false\n" + tables + "".join(parts))


class LlmGateway(Gateway):
    """One gateway process with an LLM plane."""

    @property
    def openai_url(self) -> str:
        """The base URL for OpenAI's SDK; Anthropic's takes `url`."""
        return f"{self.url}/v1"

    async def chat(self, text: str = "Hello", model: str = "chat", **fields: Any) -> tuple[int, Any, dict[str, str]]:
        """Ask without an SDK; return status, JSON and headers in lower case."""
        headers = fields.pop("headers", {})
        body = {"model": model, "messages": [{"role": "user", "content": text}], **fields}
        return await self.ask("POST", "/v1/chat/completions", json=body, headers=headers)


@asynccontextmanager
async def llm_gateway_for(home: Path, *, control: str = NOBODY, **environment: str) -> AsyncIterator[LlmGateway]:
    """Run a gateway with the settings that `write_settings` wrote into `home`."""
    gateway = LlmGateway(home, {"primary": NOBODY, "replica": NOBODY}, control, environment)
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as http:
        gateway.http = http
        await gateway.start()
        try:
            yield gateway
        finally:
            code = await gateway.stop()
            assert code in (0, -9), gateway.log
            assert "Traceback" not in gateway.log, gateway.log
