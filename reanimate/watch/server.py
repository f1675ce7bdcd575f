"""The watch's own small HTTP server: observations from gateways, and what it shows of itself."""

import hmac
from typing import Any, Literal

import orjson
from aiohttp import web
from prometheus_client import generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from reanimate.watch.status import figures, status
from reanimate.watch.watch import Watch

__all__ = ["create_app"]

LARGEST_OBSERVATION = 64 * 1024
_VECTOR_KINDS = ("refused", "timeout", "http", "missing")


class ObservationBody(BaseModel):
    """What a gateway posts when a target fails."""

    model_config = ConfigDict(extra="ignore")

    plane: Literal["vector", "llm"] = "vector"
    target: str = Field(max_length=200)
    kind: str = Field(max_length=80)
    collection: str | None = Field(default=None, max_length=255)
    standing: str | None = Field(default=None, max_length=20)
    """Of an LLM provider: what the gateway makes of it."""
    detail: str = ""

    @model_validator(mode="after")
    def _is_of_its_plane(self) -> "ObservationBody":
        if self.plane == "vector" and self.kind not in _VECTOR_KINDS:
            raise ValueError(f"a vector target fails by one of {', '.join(_VECTOR_KINDS)}, not {self.kind!r}")
        return self


def create_app(watch: Watch, control_key: str) -> web.Application:
    """Build the app. Only `/observations` needs the control key; the rest shows nothing that is secret."""
    app = web.Application(client_max_size=LARGEST_OBSERVATION)
    registry = figures(watch)

    async def observations(request: web.Request) -> web.Response:
        given = request.headers.get("Authorization", "").removeprefix("Bearer ")
        if not hmac.compare_digest(given.encode(), control_key.encode()):
            return as_json({"error": "the control key of this installation is needed as a bearer token"}, status=401)
        try:
            body = ObservationBody.model_validate_json(await request.read())
        except ValidationError as error:
            return as_json({"error": f"not an observation: {error.errors()[0]['msg']}"}, status=422)
        if body.plane == "llm":
            if not watch.observe_llm(body.target, body.kind, body.detail[:500], body.standing):
                return as_json({"error": "no LLM provider is in the settings of this watch"}, status=404)
            return as_json({"status": "looking"}, status=202)
        if not watch.observe(body.target, body.kind, body.collection, body.detail[:500]):
            return as_json({"error": f"no vector target is called {body.target!r}"}, status=404)
        return as_json({"status": "looking"}, status=202)

    async def show_status(_: web.Request) -> web.Response:
        return as_json(status(watch))

    async def healthz(_: web.Request) -> web.Response:
        return web.Response(text="ok\n")

    async def metrics(_: web.Request) -> web.Response:
        return web.Response(body=generate_latest(registry), headers={"Content-Type": CONTENT_TYPE_LATEST})

    app.router.add_post("/observations", observations)
    app.router.add_get("/status", show_status)
    app.router.add_get("/healthz", healthz)
    app.router.add_get("/metrics", metrics)
    return app


def as_json(body: Any, status: int = 200) -> web.Response:
    return web.Response(body=orjson.dumps(body), status=status, content_type="application/json")
