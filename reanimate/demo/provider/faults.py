"""What can be wrong with a provider. Faults are data: set in process or by `POST /_faults` with a JSON list.

| kind          | uses                 | what a caller sees                                                  |
|---------------|----------------------|---------------------------------------------------------------------|
| `status`      | error, status,       | an error: `error` names one of `errors.py` with its real body,      |
|               | headers, body        | the others override what it says                                    |
| `delay`       | ms                   | the answer's head comes later                                       |
| `late_body`   | ms                   | the head comes at once, the first byte of the body later            |
| `slow_tokens` | ms                   | so much time between two tokens                                     |
| `hang`        |                      | the request is read, nothing ever comes                             |
| `reset`       | ms                   | RST instead of an answer                                            |
| `close`       | ms                   | FIN instead of an answer                                            |
| `stall`       | after, ms            | silence after token N, for `ms`, or for ever (0)                    |
| `cut`         | after, how, rest     | after token N: `rst` (when how is not given), `fin` (the body is    |
|               |                      | not ended), or `end` (a clean end of the body without a finish);    |
|               |                      | after the last one, behind `rest` events of the ending              |
| `malformed`   | after                | after token N an event that is no JSON; the rest follows            |
| `error_event` | after, error         | after token N an event that reports an error, then a clean end      |
| `no_finish`   |                      | all tokens, no finish reason, the end marker                        |
| `no_end`      | how                  | all but `[DONE]` or `message_stop`, then `end` (when how is not     |
|               |                      | given), `fin`, `rst`, or `stall`                                    |
| `garbage`     | garbage, body        | status 200 with `html`, `empty`, `truncated`, `schema` or `error`   |
| `refuse`      |                      | connections are refused, open ones are reset                        |
| `unaccepted`  |                      | connections are never accepted, open ones are reset                 |

An answer that is not streamed is cut or stalled in the middle of its body. Delays add up; of the others the first one
in the list that is due decides. `refuse` and `unaccepted` hold for all as long as they are in the list; the
administration still answers at its own address. Which calls are hit: `match` (path, model and key by equality,
`stream`), `skip` the first n of them, only the next `times`, with `probability` from `seed`, and by the clock: `good_s`
seconds well, then `bad_s` seconds bad. With `running`, a `hang`, `reset` or `close` hits the answers underway as well.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from random import Random
from typing import Any, Literal, get_args

from reanimate.demo.provider.errors import ERRORS
from reanimate.errors import InputInvalid

__all__ = ["Armed", "Fault", "Garbage", "How", "Kind", "Match"]

Kind = Literal[
    "status", "delay", "late_body", "slow_tokens", "hang", "reset", "close", "stall", "cut", "malformed",
    "error_event", "no_finish", "no_end", "garbage", "refuse", "unaccepted",
]  # fmt: skip
How = Literal["rst", "fin", "end", "stall"]
Garbage = Literal["html", "empty", "truncated", "schema", "error"]


@dataclass(frozen=True, slots=True)
class Match:
    """Which calls are meant; None means any."""

    path: str | None = None
    model: str | None = None
    key: str | None = None
    stream: bool | None = None

    def fits(self, path: str, model: str, key: str, stream: bool) -> bool:
        return (
            (self.path is None or self.path == path)
            and (self.model is None or self.model == model)
            and (self.key is None or self.key == key)
            and (self.stream is None or self.stream == stream)
        )


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing that is wrong."""

    kind: Kind
    match: Match = Match()
    times: int | None = None
    skip: int = 0
    probability: float = 1.0
    seed: int = 0
    good_s: float = 0.0
    bad_s: float = 0.0
    running: bool = False
    """The answers that are underway when it is set are hit at once: `hang`, `reset` and `close`."""
    ms: float = 0.0
    after: int = 0
    rest: int = 0
    how: How | None = None
    error: str = ""
    status: int = 0
    headers: Mapping[str, str] = field(default_factory=dict)
    body: str | None = None
    garbage: Garbage = "html"

    def __post_init__(self) -> None:
        for name, allowed in (("kind", Kind), ("how", How), ("garbage", Garbage)):
            if getattr(self, name) not in (*get_args(allowed), *((None,) if name == "how" else ())):
                raise InputInvalid(
                    f"fault: {name} {getattr(self, name)!r} is unknown", hint=f"one of {', '.join(get_args(allowed))}"
                )
        if self.error and self.error not in ERRORS:
            raise InputInvalid(f"fault: error {self.error!r} is unknown", hint=f"one of {', '.join(ERRORS)}")
        if self.running and self.kind not in ("hang", "reset", "close"):
            raise InputInvalid(f"fault: running does not go with {self.kind}", hint="only with hang, reset and close")
        if bool(self.good_s) != bool(self.bad_s):
            raise InputInvalid("fault: good_s and bad_s go together")

    @classmethod
    def from_json(cls, given: Mapping[str, Any]) -> "Fault":
        """Return the fault that `given` describes.

        Raises:
            InputInvalid: a name is unknown, or there is no such kind.
        """
        match = given.get("match", {})
        unknown = set(given) - {item.name for item in fields(cls)}
        unknown |= set(match) - {item.name for item in fields(Match)}
        if unknown or "kind" not in given:
            raise InputInvalid(f"fault: unknown: {', '.join(sorted(unknown))}" if unknown else "fault: it has no kind")
        return cls(**{**given, "match": Match(**match)})

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


class Armed:
    """A fault that is set, with what it has counted so far."""

    __slots__ = ("_random", "_since", "fault", "hits", "seen")

    def __init__(self, fault: Fault, now: float) -> None:
        self.fault = fault
        self.seen = 0
        self.hits = 0
        self._since = now
        self._random = Random(fault.seed)

    def due(self, path: str, model: str, key: str, stream: bool, now: float) -> bool:
        """Return whether this call is hit, and count it."""
        fault = self.fault
        if not fault.match.fits(path, model, key, stream):
            return False
        if fault.bad_s and (now - self._since) % (fault.good_s + fault.bad_s) < fault.good_s:
            return False
        self.seen += 1
        if self.seen <= fault.skip or (fault.times is not None and self.hits >= fault.times):
            return False
        if fault.probability < 1 and self._random.random() >= fault.probability:
            return False
        self.hits += 1
        return True
