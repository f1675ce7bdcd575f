"""How a provider is when it is well: how long and how fast it answers, and what it does with a prefill."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Literal, get_args

from reanimate.errors import InputInvalid

__all__ = ["Behaviour", "Continues", "Prefill"]

Prefill = Literal["continue", "restart", "refuse"]
Continues = Literal["words", "direct", "trimmed", "restart", "overlap", "chatty", "wordy", "other", "refuse"]


@dataclass(frozen=True, slots=True)
class Behaviour:
    """What holds for every call; a prompt can ask for something else (`answers.py` says how)."""

    tokens: int = 24
    """How many tokens a text has when the prompt does not say `[[tokens=N]]`."""
    token_ms: float = 0.0
    """Time between two tokens of a stream; 0 sends the whole stream in one write."""
    think_ms: float = 0.0
    """Time before the answer begins."""
    voice: str = ""
    """Providers with the same voice give the same answers; another voice gives other words."""
    prefill: Prefill = "continue"
    """What happens when the last message is the assistant's: it is gone on with, ignored, or refused with a 400."""
    continuation: str = r"(?is)\bcontinue\b.*\bexactly\b"
    """A last message of the user's that matches this is no question: the answer before it is gone on with. A group
    called `text` holds the text so far; without one it is the last message of the assistant's."""
    continues: Continues = "words"
    """How: it repeats the words in `<last_words>` first, if there are any; it goes on directly, or without the space
    that belongs there; it begins anew; it repeats nine characters; it says that it goes on; it repeats the words and
    goes on with some of its own; it says something else, or that it cannot."""
    models: tuple[str, ...] = ()
    """The models it has; empty: every model that is asked for."""
    keys: tuple[str, ...] = ()
    """The keys it accepts; empty: any, and none at all."""

    @classmethod
    def from_json(cls, given: Mapping[str, Any]) -> "Behaviour":
        """Return the behaviour that `given` describes; what it does not name is as by default.

        Raises:
            InputInvalid: a name is unknown or a value cannot be used.
        """
        if unknown := set(given) - {field.name for field in fields(cls)}:
            raise InputInvalid(f"behaviour: unknown: {', '.join(sorted(unknown))}")
        if given.get("prefill", "continue") not in get_args(Prefill):
            raise InputInvalid(f"behaviour: prefill is one of {', '.join(get_args(Prefill))}")
        if given.get("continues", "words") not in get_args(Continues):
            raise InputInvalid(f"behaviour: continues is one of {', '.join(get_args(Continues))}")
        try:
            re.compile(given.get("continuation", ""))
        except (re.error, TypeError) as error:
            raise InputInvalid(f"behaviour: continuation is no regular expression: {error}") from error
        lists = {name: tuple(given[name]) for name in ("models", "keys") if name in given}
        return cls(**{**given, **lists})
