"""The administration over HTTP: what a test or the demo in another process says to a provider."""

from collections.abc import Callable
from dataclasses import asdict
from typing import Any

import orjson

from reanimate.demo.provider.behaviour import Behaviour
from reanimate.demo.provider.faults import Fault
from reanimate.demo.provider.plan import head
from reanimate.errors import InputInvalid

__all__ = ["administer"]

_Answer = Callable[[Any, Any], Any]


def _set_faults(provider: Any, body: Any) -> Any:
    if not isinstance(body, list):
        raise InputInvalid("faults: a list is needed")
    provider.fail(*(Fault.from_json(item) for item in body))
    return _faults(provider, None)


def _faults(provider: Any, _: Any) -> Any:
    return [fault.to_json() for fault in provider.faults]


def _heal(provider: Any, _: Any) -> Any:
    provider.heal()
    return []


def _calls(provider: Any, _: Any) -> Any:
    return [call.to_json() for call in provider.calls]


def _forget(provider: Any, _: Any) -> Any:
    provider.calls.clear()
    return []


def _behaviour(provider: Any, _: Any) -> Any:
    return asdict(provider.behaviour)


def _behave(provider: Any, body: Any) -> Any:
    provider.behaviour = Behaviour.from_json(body)
    return _behaviour(provider, None)


def _reset(provider: Any, _: Any) -> Any:
    provider.reset()
    return {}


def _health(provider: Any, _: Any) -> Any:
    return {"name": provider.name, "url": provider.url, "admin": provider.admin_url}


_ANSWERS: dict[tuple[str, str], _Answer] = {
    ("GET", "/_faults"): _faults,
    ("POST", "/_faults"): _set_faults,
    ("DELETE", "/_faults"): _heal,
    ("GET", "/_calls"): _calls,
    ("DELETE", "/_calls"): _forget,
    ("GET", "/_behaviour"): _behaviour,
    ("PUT", "/_behaviour"): _behave,
    ("POST", "/_reset"): _reset,
    ("GET", "/_health"): _health,
}


def administer(provider: Any, method: str, path: str, raw: bytes) -> bytes:
    """Return the whole answer to a request of the administration."""
    status = 200
    answer = _ANSWERS.get((method, path))
    try:
        if answer is None:
            status, said = 404, {"error": f"there is no {method} {path}"}
        else:
            said = answer(provider, orjson.loads(raw) if raw else None)
    except (InputInvalid, TypeError, ValueError, KeyError, AttributeError) as error:
        status, said = 422, {"error": str(error)}
    body = orjson.dumps(said)
    return head(status, b"application/json", len(body)) + body
