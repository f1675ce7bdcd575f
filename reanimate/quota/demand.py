"""What a gateway and the control plane say to each other about leases: demands, and what is lent. Pure.

All amounts are totals of one gateway since the window began, never differences: a message that is lost, late or said
twice changes nothing that the next one does not put right.
"""

from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any, Literal, NamedTuple

import orjson

from reanimate.errors import InputInvalid

__all__ = ["NANO", "AccountKey", "Ask", "Demand", "Lent", "Meter", "Pot", "Reply"]

NANO = 1_000_000_000
"""Money is counted in whole billionths of the currency, so that nothing is lost by adding up."""

Pot = Literal["normal", "reserve"]


class Meter(StrEnum):
    """What is counted."""

    TOKENS = "tokens"
    REQUESTS = "requests"
    MONEY = "money"


class AccountKey(NamedTuple):
    """One meter of one quota in one window. `tenant` is empty where tenants share."""

    quota: str
    tenant: str
    meter: str
    pot: str
    starts: int


@dataclass(frozen=True, slots=True)
class Demand:
    """What one gateway says of one account, and what it would like."""

    key: AccountKey
    ends: int
    limit: int
    lease: int
    """How much a gateway holds at most without need."""
    lease_s: float
    spent: int
    """What its calls have used, all together."""
    drawn: int
    """`spent`, and what is reserved by calls underway."""
    hold: int
    """`drawn`, and what it keeps for calls to come: at least this much stays lent to it."""
    need: int = 0
    """More than `hold`: without that much, a call that waits has to be refused."""
    want: int = 0
    """More than `hold` that would be welcome."""
    terms: str = "{}"
    """How the quota is set, for people and alerts: JSON."""
    reserve: int = 0
    """How much there is in the reserve of this account."""
    incident: str = ""
    """Of the reserve: the P0 incident whose recovery asks."""


@dataclass(frozen=True, slots=True)
class Lent:
    """What the control plane answers to a demand."""

    granted: int
    """The total that this gateway may use in this window."""
    spent: int
    """What all gateways together have used, as far as they have told."""
    left: int
    """What nobody uses or holds."""
    limit: int
    """With what was granted on top."""
    refused: bool = False
    """There was less left than `need`."""
    held: int = 0
    """What other gateways hold and have not used: it may come back."""
    open_until: float = 0.0
    """Until when the glass is broken: ordinary calls may use the reserve."""


@dataclass(frozen=True, slots=True)
class Ask:
    """One request of one gateway. `book` is where it writes down what it uses, `seq` counts its requests."""

    gateway: str
    book: str
    seq: int
    demands: tuple[Demand, ...]

    def encode(self) -> bytes:
        return orjson.dumps(
            {
                "gateway": self.gateway,
                "book": self.book,
                "seq": self.seq,
                "demands": [{**asdict(demand), "key": list(demand.key)} for demand in self.demands],
            }
        )

    @classmethod
    def decode(cls, body: bytes) -> "Ask":
        """Read a request.

        Raises:
            InputInvalid: it is not one.
        """
        try:
            raw = orjson.loads(body)
            asked = cls(
                _text(raw["gateway"]),
                _text(raw["book"]),
                _count(raw["seq"]),
                tuple(_demand(item) for item in raw["demands"]),
            )
        except (ValueError, KeyError, TypeError) as error:
            raise InputInvalid(f"not a request for leases: {error!r}") from error
        return asked


@dataclass(frozen=True, slots=True)
class Reply:
    """The answer to an `Ask`, in the order of its demands."""

    lent: tuple[Lent, ...]

    def encode(self) -> bytes:
        return orjson.dumps({"lent": [asdict(item) for item in self.lent]})

    @classmethod
    def decode(cls, body: bytes) -> "Reply":
        """Read an answer.

        Raises:
            InputInvalid: it is not one.
        """
        try:
            return cls(tuple(Lent(**item) for item in orjson.loads(body)["lent"]))
        except (ValueError, KeyError, TypeError) as error:
            raise InputInvalid(f"not an answer about leases: {error!r}") from error


def _demand(raw: dict[str, Any]) -> Demand:
    quota, tenant, meter, pot, starts = raw.pop("key")
    key = AccountKey(_text(quota), _text(tenant, empty=True), Meter(meter).value, _pot(pot), _count(starts))
    for name in ("ends", "limit", "lease", "spent", "drawn", "hold", "need", "want", "reserve"):
        _count(raw[name])
    if not 0 < float(raw["lease_s"]) <= 3600:
        raise ValueError(f"lease_s {raw['lease_s']!r} is not between 0 and 3600")
    orjson.loads(raw["terms"])
    demand = Demand(key=key, **raw)
    if demand.ends <= key.starts:
        raise ValueError("a window ends before it starts")
    if not demand.spent <= demand.drawn <= demand.hold:
        raise ValueError("less is drawn than spent, or less held than drawn")
    return demand


def _count(value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < 2**62:
        raise ValueError(f"{value!r} is not a count")
    return value


def _pot(value: Any) -> str:
    if value not in ("normal", "reserve"):
        raise ValueError(f"{value!r} is not a pot")
    return str(value)


def _text(value: Any, *, empty: bool = False) -> str:
    if not isinstance(value, str) or not (value or empty) or len(value) > 200 or "\x00" in value:
        raise ValueError(f"{value!r:.60} is not a name")
    return value
