"""Starting flow runs, and writing them down, over Prefect's REST API: a few calls, each within a time budget."""

import asyncio
import os
from base64 import b64encode
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, NoReturn

import httpx

from reanimate.errors import NotFound, Refused, ServerFailed, Unreachable

__all__ = ["BUDGET_S", "RESPOND", "Launcher", "Run", "RunState", "RunType"]

BUDGET_S = 2.0
"""How long Prefect may take for one order; after that the work is done without it."""

RESPOND = "respond/incident"
"""The deployment (flow/deployment) that answers an incident."""


class RunType(StrEnum):
    """Prefect's own state types, those that matter here."""

    SCHEDULED = "SCHEDULED"
    PENDING = "PENDING"
    RUNNING = "RUNNING"
    COMPLETED = "COMPLETED"
    FAILED = "FAILED"
    CANCELLED = "CANCELLED"
    CRASHED = "CRASHED"


@dataclass(frozen=True)
class RunState:
    """A state to give to a run. The name is what people see in the UI."""

    type: RunType
    name: str
    message: str = ""

    def as_json(self) -> dict[str, Any]:
        return {"type": str(self.type), "name": self.name, "message": self.message}


@dataclass(frozen=True)
class Run:
    """A flow run, as Prefect answered."""

    id: str
    name: str
    state_type: str
    state_name: str

    @property
    def is_over(self) -> bool:
        return self.state_type in (RunType.COMPLETED, RunType.FAILED, RunType.CANCELLED, RunType.CRASHED)

    @property
    def is_claimed(self) -> bool:
        """Whether somebody has it, or had it when they died."""
        return self.state_type in (RunType.PENDING, RunType.RUNNING)

    @classmethod
    def of(cls, answer: Mapping[str, Any]) -> "Run":
        return cls(answer["id"], answer["name"], answer.get("state_type") or "", answer.get("state_name") or "")


class Launcher:
    """Prefect's REST API. Each method makes its calls within `budget_s` seconds or raises Unreachable."""

    def __init__(self, http: httpx.AsyncClient, api_url: str, *, budget_s: float = BUDGET_S) -> None:
        self._http = http
        self._api = api_url.rstrip("/")
        self._budget_s = budget_s
        self._headers = _credentials()
        self._deployments: dict[str, str] = {}

    async def create_run(
        self,
        deployment: str,
        *,
        key: str,
        parameters: Mapping[str, str | int | float | bool],
        state: RunState | None = None,
    ) -> Run:
        """Create a run of `deployment` (flow/deployment), or return the one that `key` already made.

        Parameters are scalars, never a document that a sender wrote: Prefect renders templates in those. Without a
        state the run is scheduled to be claimed now; with a final one it is only written down.

        Raises:
            Unreachable: no answer within the budget.
            ServerFailed: Prefect failed, for example because its database is away.
            NotFound: the deployment is not there; `python -m deployments.provision` makes it.
            Refused: Prefect does not take the parameters.
        """
        order = {
            "parameters": dict(parameters),
            "idempotency_key": key,
            "name": f"{deployment.partition('/')[0]}-{key}",
            **({"state": state.as_json()} if state else {}),
        }
        async with _within(self._budget_s, f"creating a run of {deployment}"):
            try:
                answer = await self._create(deployment, order)
            except NotFound:  # deployed anew since we looked
                if self._deployments.pop(deployment, None) is None:
                    raise
                answer = await self._create(deployment, order)
        return Run.of(answer)

    async def _create(self, deployment: str, order: dict[str, Any]) -> dict[str, Any]:
        if deployment not in self._deployments:
            self._deployments[deployment] = await self._deployment_id(deployment)
        return await self._ask("POST", f"/deployments/{self._deployments[deployment]}/create_flow_run", order)

    async def _deployment_id(self, deployment: str) -> str:
        return str((await self._ask("GET", f"/deployments/name/{deployment}"))["id"])

    async def has_deployment(self, deployment: str) -> bool:
        """Say whether `deployment` (flow/deployment) is on the server.

        Raises:
            Unreachable, ServerFailed: it cannot be known now.
        """
        async with _within(self._budget_s, f"looking for the deployment {deployment}"):
            try:
                await self._deployment_id(deployment)
            except NotFound:
                return False
            return True

    async def active_schedules(self, deployment: str) -> set[str]:
        """Return the slugs of the schedules of `deployment` (flow/deployment) that nobody has switched off.

        Raises:
            NotFound: the deployment is not there.
            Unreachable, ServerFailed: it cannot be known now.
        """
        return {str(each["slug"]) for each in await self._active_schedules(deployment)}

    async def active_crons(self, deployment: str) -> list[tuple[str, str, str]]:
        """Return slug, cron line and time zone of the schedules of `deployment` that nobody has switched off.

        Raises:
            NotFound, Unreachable, ServerFailed: as `active_schedules`.
        """
        return [
            (str(each["slug"]), each["schedule"]["cron"], each["schedule"].get("timezone") or "UTC")
            for each in await self._active_schedules(deployment)
            if "cron" in each["schedule"]
        ]

    async def _active_schedules(self, deployment: str) -> list[dict[str, Any]]:
        async with _within(self._budget_s, f"looking for the schedules of {deployment}"):
            found = await self._ask("GET", f"/deployments/name/{deployment}")
        if found.get("paused"):
            return []
        return [each for each in found.get("schedules") or () if each.get("active")]

    async def read_run(self, run_id: str) -> Run:
        """Return a run as it stands.

        Raises:
            NotFound: there is none of that id.
            Unreachable, ServerFailed: it cannot be known now.
        """
        async with _within(self._budget_s, f"reading the run {run_id}"):
            return Run.of(await self._ask("GET", f"/flow_runs/{run_id}"))

    async def set_state(self, run_id: str, state: RunState) -> None:
        """Put a run into `state`, whatever it is in now.

        Raises:
            NotFound: there is none of that id.
            Unreachable, ServerFailed, Refused: it was not done.
        """
        async with _within(self._budget_s, f"setting the run {run_id} to {state.name}"):
            await self._ask("POST", f"/flow_runs/{run_id}/set_state", {"state": state.as_json(), "force": True})

    async def write_artifact(self, run_id: str, *, key: str, markdown: str, description: str) -> None:
        """Attach a Markdown document to a run; `key` is lowercase letters, digits and dashes.

        Raises:
            Unreachable, ServerFailed, Refused: it was not written.
        """
        document = {
            "key": key,
            "type": "markdown",
            "data": markdown,
            "description": description,
            "flow_run_id": run_id,
        }
        async with _within(self._budget_s, f"writing the artifact {key}"):
            await self._ask("POST", "/artifacts/", document)

    async def ensure_pool(self, name: str, template: Mapping[str, Any]) -> None:
        """Make the process work pool `name` with this base job template, or bring the one that is there up to it.

        Raises:
            Unreachable, ServerFailed, Refused: it was not done.
        """
        pool = {"name": name, "type": "process", "base_job_template": dict(template)}
        async with _within(self._budget_s, f"making the work pool {name}"):
            try:
                await self._ask("GET", f"/work_pools/{name}")
            except NotFound:
                await self._ask("POST", "/work_pools/", pool)
            else:
                await self._ask("PATCH", f"/work_pools/{name}", {"base_job_template": dict(template)})

    async def _ask(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Make one call; every foreign error is turned into one of ours here."""
        try:
            answer = await self._http.request(
                method, f"{self._api}{path}", json=body, headers=self._headers, timeout=self._budget_s
            )
        except httpx.TransportError as error:
            raise Unreachable(f"Prefect at {self._api} did not answer: {error or type(error).__name__}") from error
        if answer.is_error:
            _refuse(answer, f"{method} {path}")
        if not answer.content:
            return {}
        try:
            read: dict[str, Any] = answer.json()
        except ValueError as error:
            raise ServerFailed(f"Prefect answered {method} {path} with something that is not JSON") from error
        return read


@asynccontextmanager
async def _within(seconds: float, doing: str) -> AsyncIterator[None]:
    """Let the body take so long, and no longer.

    Raises:
        Unreachable: the time was up.
    """
    try:
        async with asyncio.timeout(seconds):
            yield
    except TimeoutError:
        raise Unreachable(f"{doing}: Prefect did not answer within {seconds:g} s") from None


def _credentials() -> dict[str, str]:
    """Return the header that Prefect's own variables ask for; a server of ours needs none."""
    if key := os.environ.get("PREFECT_API_KEY"):
        return {"Authorization": f"Bearer {key}"}
    if login := os.environ.get("PREFECT_API_AUTH_STRING"):
        return {"Authorization": f"Basic {b64encode(login.encode()).decode()}"}
    return {}


def _refuse(answer: httpx.Response, call: str) -> NoReturn:
    said = f"Prefect answered {call} with {answer.status_code}: {answer.text[:300]}"
    if answer.status_code == 404:
        raise NotFound(said, hint="`python -m deployments.provision` makes pool and deployments")
    if answer.status_code >= 500 or answer.status_code in (408, 429):
        raise ServerFailed(said)
    raise Refused(said)
