"""How calls are answered while switches say so: by whom first, from the cache, by a cheaper model, by nobody."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Literal

from reanimate.gateway.llm.call import Call
from reanimate.gateway.llm.catalogue import Choice
from reanimate.switches.document import Claim

__all__ = ["Level", "Mode", "Modes"]

_MODES_KEPT = 10_000
_CAREFUL = {"normal": 0, "first": 1, "only": 2}


class Level(StrEnum):
    """How far from a good day."""

    NORMAL = "normal"
    DEGRADED = "degraded"
    """Answers still come from models, but from others, or fewer at a time, or from the cache where it has one."""
    MINIMAL = "minimal"
    """No model is asked: what is kept, or the static answer, is all there is."""


@dataclass(frozen=True, slots=True)
class Mode:
    """What holds for one call."""

    cache: Literal["normal", "first", "only"] = "normal"
    tier: Literal["normal", "cheaper"] = "normal"
    static: bool = False
    """Nobody is asked for this call: what is kept is given, else the static answer."""
    concurrency: int | None = None
    """The bound of the narrowest queue that the call goes through; kept by the gate."""
    level: Level = Level.NORMAL
    reasons: tuple[str, ...] = ()
    """In words, for `X-Reanimate-Degraded`."""


_NORMAL = Mode()


class _Turns:
    """Says yes to a share of the calls, evenly spread: of 10 %, every tenth."""

    __slots__ = ("_owed", "share")

    def __init__(self, share: int) -> None:
        self.share = share
        self._owed = 0

    def next(self) -> bool:
        self._owed += self.share
        if self._owed >= 100:
            self._owed -= 100
            return True
        return False


@dataclass(frozen=True, slots=True)
class _Plan:
    """What holds for all calls of a route and tenant; `static` says which of them nobody is asked for."""

    asked: Mode
    static: Mode
    turns: _Turns | None


_AS_ALWAYS = _Plan(_NORMAL, _NORMAL, None)


class Modes:
    """Asked on every call, so plans are worked out once for each route, tenant and change of the switches."""

    def __init__(self) -> None:
        self._values: dict[str, dict[str, Any]] = {}
        self._plans: dict[tuple[str, str], _Plan] = {}
        self._shares: dict[str, _Turns] = {}
        self._avoided: dict[str, str] = {}
        self._preferred: dict[str, str] = {}
        self._orders = False
        """Whether anything says in which order targets are asked."""

    def obey(self, claims: Iterable[Claim]) -> None:
        """Take over what holds from now on; one claim for each switch and scope."""
        values: dict[str, dict[str, Any]] = {}
        for claim in claims:
            values.setdefault(claim.switch, {})[claim.scope] = claim.value
        self._plans = {}
        self._avoided = values.get("llm_avoid", {})
        self._preferred = values.get("llm_prefer", {})
        known = self._shares
        self._shares = {
            scope: known[scope] if scope in known and known[scope].share == share else _Turns(share)
            for scope, share in values.get("llm_share", {}).items()
        }
        self._values = values
        self._orders = bool(self._avoided or self._preferred or self._shares or values.get("llm_tier"))

    def of(self, call: Call) -> Mode:
        """Return what holds for a call. Asked once for each: shares are counted by it."""
        if not self._values:
            return _NORMAL
        plan = self._plan(call)
        if plan.turns is not None and plan.turns.next():
            return plan.static
        return plan.asked

    def order(self, call: Call, choices: Sequence[Choice]) -> list[Choice]:
        """Return who is asked for a call, first to last; those that are held away come last, or not at all."""
        if not self._orders:
            return list(choices)
        found = list(choices)
        if self._plan(call).asked.tier == "cheaper" and call.route.cheaper:
            cheaper = {choice.target.name for choice in call.route.cheaper}
            found = [*call.route.cheaper, *(choice for choice in found if choice.target.name not in cheaper)]
        preferred = self._preferred.get(call.route.name) or self._preferred.get("*")
        if preferred is not None:
            found.sort(key=lambda choice: choice.target.provider.name != preferred)
        return self._without_avoided(found)

    def _without_avoided(self, choices: list[Choice]) -> list[Choice]:
        if not (self._avoided or self._shares):
            return choices
        wanted, last = [], []
        turns: dict[str, bool] = {}
        for choice in choices:
            scopes = (choice.target.provider.name, choice.target.name)
            held = {self._avoided[scope] for scope in scopes if scope in self._avoided}
            if "never" in held:
                continue
            if held or not all(self._has_turn(scope, turns) for scope in scopes):
                last.append(choice)
            else:
                wanted.append(choice)
        return wanted + last

    def _has_turn(self, scope: str, turns: dict[str, bool]) -> bool:
        """Say whether a target with a bounded share is in its place for this call; the same for all its models."""
        share = self._shares.get(scope)
        if share is None:
            return True
        if scope not in turns:
            turns[scope] = share.next()
        return turns[scope]

    def _plan(self, call: Call) -> _Plan:
        key = (call.route.name, call.tenant.name)
        plan = self._plans.get(key)
        if plan is None:
            plan = self._plan_of(*key)
            if len(self._plans) < _MODES_KEPT:
                self._plans[key] = plan
        return plan

    def _plan_of(self, route: str, tenant: str) -> _Plan:
        scopes = ("*", route, f"tenant:{tenant}")

        def most(switch: str, default: Any, choose: Callable[..., Any] = max, **how: Any) -> Any:
            said = self._values.get(switch, {})
            return choose((said[scope] for scope in scopes if scope in said), default=default, **how)

        cache = most("llm_cache", "normal", key=_CAREFUL.__getitem__)
        tier = most("llm_tier", "normal", key=lambda value: value == "cheaper")
        share = most("llm_static", 0)
        concurrency = most("llm_concurrency", None, min)
        reasons = []
        if tier == "cheaper":
            reasons.append("cheaper model")
        if cache != "normal":
            reasons.append(f"cache {cache}")
        if concurrency is not None:
            reasons.append(f"concurrency {concurrency}")
        level = Level.MINIMAL if cache == "only" else Level.DEGRADED if reasons else Level.NORMAL
        asked = Mode(cache, tier, False, concurrency, level, tuple(reasons))
        if not share:
            return _Plan(asked, asked, None) if reasons else _AS_ALWAYS
        static = Mode(cache, tier, True, concurrency, Level.MINIMAL, (*reasons, "static"))
        return _Plan(asked, static, _Turns(share))

    @property
    def level(self) -> Level:
        """How far from a good day the whole plane is: the worst of what is held for anybody."""
        found = Level.NORMAL
        for switch, said in self._values.items():
            for value in said.values():
                if (switch == "llm_static" and value == 100) or (switch, value) == ("llm_cache", "only"):
                    return Level.MINIMAL
                if _is_degrading(switch, value):
                    found = Level.DEGRADED
        return found


def _is_degrading(switch: str, value: Any) -> bool:
    """Say whether a claim takes something from callers; a preference does not."""
    if switch == "llm_share":
        return bool(value < 100)
    return switch.startswith("llm_") and switch != "llm_prefer" and value != "normal"
