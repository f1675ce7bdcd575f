"""How an incident went, by a table of rules over its figures: a rule never speaks without a figure. Pure."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

from reanimate.incidents.facts import Fact

__all__ = ["RULES", "Judgement", "Rule", "judge"]


@dataclass(frozen=True)
class Rule:
    """When the figure called `figure` passes `when`, that went well or badly. `{shown}` stands for the figure."""

    figure: str
    when: Callable[[float], bool]
    verdict: Literal["well", "badly"]
    says: str
    action: str = ""
    """What to do about it, so that it goes better next time."""


@dataclass(frozen=True)
class Judgement:
    """What a rule said about a fact."""

    verdict: Literal["well", "badly"]
    sentence: str
    action: str
    refs: tuple[int, ...]


def _none(value: float) -> bool:
    return value == 0


def _some(value: float) -> bool:
    return value > 0


def _at_most(limit: float) -> Callable[[float], bool]:
    return lambda value: value <= limit


def _above(limit: float, most: float = float("inf")) -> Callable[[float], bool]:
    return lambda value: limit < value <= most


RULES: tuple[Rule, ...] = (
    Rule("detect_s", _at_most(2), "well", "The fault was noticed after {shown} (good: at most 2 s)."),
    Rule(
        "detect_s",
        _above(30),
        "badly",
        "The fault was noticed only after {shown} (bad: more than 30 s).",
        "Let the watch probe this dependency, or shorten `for` and `group_wait` of the alert that reported it.",
    ),
    Rule("contain_s", _at_most(5), "well", "It was contained {shown} after the incident opened (good: at most 5 s)."),
    Rule(
        "contain_s",
        _above(60),
        "badly",
        "It was contained only {shown} after the incident opened (bad: more than 60 s).",
        "Look at the slowest containment step in the table, and give its runbook a safe switch to place at once.",
    ),
    Rule("rto_share", _at_most(0.5), "well", "{shown} of the recovery time objective was spent (good: at most half)."),
    Rule(
        "rto_share",
        _above(0.8, 1),
        "badly",
        "The recovery time objective was met, but {shown} of it was spent (bad: more than 80 %).",
        "Rehearse the slowest recovery step of the table; the next incident of this kind may miss the objective.",
    ),
    Rule(
        "rto_share",
        _above(1),
        "badly",
        "The recovery time objective was missed: {shown} of it was spent.",
        "Shorten the slowest step of the table, or agree on a longer objective for this severity.",
    ),
    Rule("llm_unserved", _none, "well", "No LLM call that went through the gateway was left without an answer."),
    Rule(
        "llm_failed",
        _some,
        "badly",
        "{shown} through the gateway ended without an answer, or with half of one and an error.",
        "Give the route another provider, or a `static_answer`.",
    ),
    Rule(
        "llm_static",
        _some,
        "badly",
        "{shown} got no more than a route's static answer: no model and no kept answer was there for them.",
        "Give the route a provider that does not fail together with the others.",
    ),
    Rule(
        "first_token_ms",
        _at_most(1000),
        "well",
        "99 of 100 streamed answers began within {shown} (good: at most 1 s).",
    ),
    Rule(
        "first_token_ms",
        _above(5000),
        "badly",
        "One of 100 streamed answers began only after {shown} (bad: more than 5 s).",
        "Lower `hedge_max_s` or `first_token_s` of the route, if the users cannot wait that long.",
    ),
    Rule("reads_failed", _none, "well", "No read that went through the gateway failed."),
    Rule(
        "reads_failed",
        _some,
        "badly",
        "{shown} through the gateway failed.",
        "Find out from the gateway's log which target those reads went to, and why no other one took them.",
    ),
    Rule(
        "reads_without_fallback",
        _some,
        "badly",
        "{shown} failed and not one was answered by another target: there was no fallback.",
        "Add a replica, so that reads have somewhere to go.",
    ),
    Rule("slowest_ms", _at_most(1500), "well", "The slowest read took {shown} (good: at most 1.5 s)."),
    Rule(
        "slowest_ms",
        _above(1500),
        "badly",
        "The slowest read took {shown} (bad: more than 1.5 s).",
        "Lower `gateway.hang_limit_s`, if the agent cannot wait that long.",
    ),
    Rule(
        "writes_refused",
        _some,
        "badly",
        "{shown} refused with 503 and Retry-After while the primary was out; none was lost in silence.",
        "Check that the agent repeats refused writes.",
    ),
    Rule(
        "writes_failed",
        _some,
        "badly",
        "{shown} without a clear answer; whether they took effect is not known.",
        "Have the agent repeat those writes: an upsert by id is safe to repeat.",
    ),
    Rule(
        "retried",
        _some,
        "badly",
        "{shown} needed more than one attempt.",
        "Read the failed attempts in the timeline; a step that needs luck will run out of it.",
    ),
    Rule(
        "resumed",
        _some,
        "badly",
        "{shown} cut off and taken up again where the record said it was.",
        "Find out what ended the responder in the middle of the incident.",
    ),
    Rule(
        "failed_steps",
        _some,
        "badly",
        "{shown} failed.",
        "Mend what made the step fail; `reanimate respond` takes the incident up where it stopped.",
    ),
    Rule(
        "undone",
        _some,
        "badly",
        "{shown} undone, so that nothing half-done was left behind.",
        "Find out why the recovery had to be taken back before it is tried on the next incident.",
    ),
    Rule("checks_failed", _none, "well", "{shown} of the verification held."),
    Rule(
        "checks_failed",
        _some,
        "badly",
        "{shown} of the verification did not hold.",
        "Compare expected and found of those checks; take another backup for the restore if the bytes are to blame.",
    ),
    Rule(
        "backup_age_s", _at_most(3600), "well", "The backup was {shown} old when the fault began (good: at most 1 h)."
    ),
    Rule(
        "backup_age_s",
        _above(3600),
        "badly",
        "The backup was {shown} old when the fault began: that much could be lost (bad: more than 1 h).",
        "Take backups more often: the newest was {shown} old.",
    ),
    Rule("writes_since", _none, "well", "No acknowledged write was missing from the backup."),
    Rule(
        "writes_since",
        _some,
        "badly",
        "{shown} acknowledged since the backup are not in what was restored.",
        "Write those again from their source, and take backups more often.",
    ),
    Rule("told", _some, "well", "{shown} sent."),
    Rule(
        "untold",
        _some,
        "badly",
        "Nobody was told: {shown}.",
        "Configure `notify.urls`, and send a test notice.",
    ),
    Rule(
        "called",
        _some,
        "badly",
        "A person had to be called.",
        "Turn what that person did into a step of the runbook.",
    ),
    Rule("lifted_all", _some, "well", "Every switch that was held for this incident was let go again ({shown})."),
    Rule(
        "holds_left",
        _some,
        "badly",
        "{shown} still in force.",
        "Lift them when it is safe: containment outlives the incident until somebody does.",
    ),
)


def judge(facts: Mapping[str, Fact], rules: Iterable[Rule] = RULES) -> list[Judgement]:
    """Return what the rules say about the facts, in the order of the table; a rule without its fact is silent."""
    return [
        Judgement(rule.verdict, rule.says.format(shown=fact.shown), rule.action.format(shown=fact.shown), fact.refs)
        for rule in rules
        if (fact := facts.get(rule.figure)) is not None and rule.when(fact.value)
    ]
