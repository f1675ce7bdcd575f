"""Whether the answers of a model have become worse, by how they end and how long they are. Pure.

A model is accused when, of twenty or more answers in five minutes, a fifth is refused, a tenth is empty or two fifths
are cut by length, and that is more than usual; or when they are four times as long or short as usual. Usual is the
last hour. It is believed after half a minute. Only who gave bad answers in the last minute too is accused: an alarm
that went on for as long as five minutes remember would hide the next drop, since what fires already is not told again.
What a tenant who attacks by prompts is refused says nothing about the model.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from reanimate.incidents.faults import Fault
from reanimate.watch.llm_judge import Accusation, Figures, attackers

__all__ = ["accuse_quality"]

_LEAST_ANSWERS = 20
_CUT = ("length", "max_tokens", "incomplete", "max_output_tokens")
_REFUSED = ("refusal", "content_filter")


@dataclass(frozen=True)
class _Quality:
    """How the answers of a model have been."""

    answers: int
    refused: float
    empty: float
    cut: float
    tokens: float
    """Of an answer, on average."""

    @classmethod
    def of(cls, llm: Figures, target: str) -> "_Quality":
        counted: Figures = (llm.get("targets") or {}).get(target) or {}
        finishes: Mapping[str, int] = counted.get("finishes") or {}
        refused = sum(finishes.get(name, 0) for name in _REFUSED)
        provoked = min(refused, sum(count for _, count in attackers(llm).values()))
        answers = sum(finishes.values()) - provoked
        if not answers:
            return cls(0, 0.0, 0.0, 0.0, 0.0)
        return cls(
            answers,
            (refused - provoked) / answers,
            finishes.get("empty", 0) / answers,
            sum(finishes.get(name, 0) for name in _CUT) / answers,
            float((counted.get("tokens") or {}).get("output", 0)) / answers,
        )


def accuse_quality(lately: Figures, usually: Figures, just_now: Figures) -> dict[str, Accusation]:
    """Return the models whose answers of the last minutes, and of the last one, are worse than usual (for an hour)."""
    accusations = {}
    for name in lately.get("targets") or {}:
        now, usual, newest = (_Quality.of(figures, name) for figures in (lately, usually, just_now))
        if now.answers < _LEAST_ANSWERS or not newest.answers or not (wrong := _worse(now, usual, newest)):
            continue
        provider, _, model = name.partition("/")
        accusation = Accusation(
            fingerprint=f"watch:llm:{name}:quality",
            subject=f"llm:{name}",
            fault=Fault.OUTPUT_QUALITY_DROP,
            summary=f"answers of {name}: {'; '.join(wrong)} ({now.answers} answers)",
            labels={"provider": provider, "model": model},
            found={"lately": vars(now), "usually": vars(usual)},
            after_s=30.0,
            over_s=60.0,
        )
        accusations[accusation.fingerprint] = accusation
    return accusations


def _worse(now: _Quality, usual: _Quality, newest: _Quality) -> list[str]:
    wrong = []
    for what, share, before, last, bound in (
        ("refused", now.refused, usual.refused, newest.refused, 0.2),
        ("empty", now.empty, usual.empty, newest.empty, 0.1),
        ("cut by length", now.cut, usual.cut, newest.cut, 0.4),
    ):
        if last <= bound:
            continue
        # The hour holds the last minutes too: what is bad for long enough becomes the usual, and was told by then.
        if share > bound and share > 1.5 * before:
            wrong.append(f"{share:.0%} {what}, usually {before:.0%}")
        elif share > bound and usual.answers <= now.answers:
            wrong.append(f"{share:.0%} {what}")
    if usual.answers >= 5 * now.answers and _is_of_another_length(now, usual) and _is_of_another_length(newest, usual):
        wrong.append(f"{now.tokens:.0f} tokens long on average, usually {usual.tokens:.0f}")
    return wrong


def _is_of_another_length(now: _Quality, usual: _Quality) -> bool:
    return bool(usual.tokens) and not usual.tokens / 4 <= now.tokens <= usual.tokens * 4
