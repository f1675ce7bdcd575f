"""The postmortem, drafted from the timeline."""

import re
from typing import Any

import pytest
from incident_story import ATTACK, BACKUP_ID, escalated, story, view_of
from markdown_it import MarkdownIt

from reanimate.incidents.chart import mermaid_timeline
from reanimate.incidents.facts import Fact, gather
from reanimate.incidents.judgement import RULES, judge
from reanimate.incidents.markdown import escape
from reanimate.incidents.postmortem import render, steps_table


def _section(document: str, heading: str) -> str:
    return document.split(f"## {heading}\n")[1].split("\n## ")[0]


@pytest.fixture(scope="module")
def document() -> str:
    return render(view_of(story()))


def test_render__has_every_section(document: str) -> None:
    """Summary, impact, times, timeline, cause, well, badly, data, actions and what no record covers are all there."""
    headings = re.findall(r"^## (.+)$", document, re.MULTILINE)
    assert headings == [
        "Summary",
        "Impact",
        "Times against the recovery time objective",
        "Timeline",
        "Cause, with its evidence",
        "What went well",
        "What went badly",
        "Data",
        "Actions",
        "What no record covers",
    ]


def test_render__pointers_lead_to_entries(document: str) -> None:
    """Every pointer names an entry of the timeline."""
    numbers = {int(number) for number in re.findall(r"\[#(\d+)\]", document)}
    assert numbers == set(range(1, len(story().entries) + 1))


def test_render__summary_says_what_and_how_long(document: str) -> None:
    """The summary holds the fault, the times and the gateway's counts."""
    summary = _section(document, "Summary")
    for said in ("vector database down", "1.13 s", "36.8 s", "1 h (P1) was met", "759 reads", "0 failed", "512 were"):
        assert said in summary


def test_render__impact_is_the_gateways_own_count(document: str) -> None:
    """The counts of the newest figures entry are shown as they are."""
    assert "| gateway | 759 | 759 | 512 | 0 | 1.04 s | 14 | 3 | 11 | 0 |" in document


def test_render__impact_without_figures() -> None:
    """Without a gateway's figures it says so, instead of showing zeros."""
    view = view_of(story())
    view["timeline"] = [entry for entry in view["timeline"] if entry["kind"] != "figures"]
    document = render(view)
    assert _section(document, "Impact").strip().startswith("No record covers this")
    assert "No read that went through the gateway failed" not in document
    assert "What the agent's traffic met" in _section(document, "What no record covers")


def test_render__unreachable_gateway_is_a_gap() -> None:
    """A gateway that did not give its newest counts is named among what no record covers."""
    view = view_of(story())
    for entry in view["timeline"]:
        if entry["kind"] == "figures":
            entry["data"]["gateways"]["second"] = {"error": "ConnectError"}
    document = render(view)
    assert "The newest counts of gateway second" in _section(document, "What no record covers")
    assert "| gateway | 759 |" in document


def test_render__counts_that_begin_late_are_said() -> None:
    """Counts that begin after the fault do not pass for the whole of it."""
    view = view_of(story())
    for entry in view["timeline"]:
        if entry["kind"] == "figures":
            entry["data"]["gateways"]["gateway"]["since"] = "2026-11-22T03:12:14.120+00:00"
    assert "The first 10.0 s of the fault at gateway gateway" in _section(render(view), "What no record covers")


def test_render__data_names_the_backup(document: str) -> None:
    """Which backup, how old it was, and what it lacks."""
    data = _section(document, "Data")
    assert f"`{BACKUP_ID}`" in data
    assert "1 h 12 min before the fault" in data
    assert "not in it: 4 writes" in data
    assert "Verification passed" in data


def test_render__uncounted_writes_are_a_gap() -> None:
    """When nobody counted the writes since the backup, that is said, not taken for none."""
    view = view_of(story())
    for entry in view["timeline"]:
        if entry["kind"] == "step.done":
            for item in entry["data"]["evidence"].get("restores", ()):
                item["writes_since"] = None
    document = render(view)
    assert "no record covers how many" in _section(document, "Data")
    assert "nobody counted them" in _section(document, "What no record covers")


def test_render__a_restore_that_was_undone_restored_nothing() -> None:
    """What was taken back is not shown as restored; the failure is."""
    document = render(view_of(escalated()))
    assert "No data was restored" in document
    assert "A person had to be called" in _section(document, "What went badly")
    assert "found 17 of 20" in _section(document, "Summary")
    assert "not recovered" in _section(document, "Times against the recovery time objective")
    assert "2 holds are still in force" in _section(document, "What went badly")


def test_render__actions_follow_from_figures(document: str) -> None:
    """Actions come from rules over figures, and from the review of the monitoring."""
    actions = _section(document, "Actions")
    assert "Take backups more often: the newest was 1 h 12 min old." in actions
    assert "connect it or add a rule for this fault" in actions


def test_render__any_moment_of_an_incident() -> None:
    """A draft can be made at any moment: nothing that is missing breaks it."""
    for moment in (0.5, 1.12, 1.13, 1.2, 1.65, 2.0, 9.0, 26.0, 30.0, 38.0, 38.35):
        view = view_of(story(until_s=moment))
        assert render(view).startswith("# Postmortem: ")
        assert mermaid_timeline(view).endswith("```")


def test_render__what_a_sender_wrote_stays_text() -> None:
    """Markup in an alert formats nothing: no HTML, no link, no broken table."""
    document = render(view_of(story(hostile=True)))
    html = MarkdownIt("commonmark", {"html": True}).enable("table").render(document)
    assert "<script" not in html
    assert "evil.example)" in html
    assert "<a " not in html
    assert "<strong>bold" not in html
    rows = [line for line in document.splitlines() if line.startswith("| [#1] ")]
    assert len(re.findall(r"(?<!\\)\|", rows[0])) == 7


@pytest.mark.parametrize(
    "text", [ATTACK, "# heading", "1. list", "- item", "a\n\n# b", "_x_ snake_case", "| a | b |", "![i](u)", "~~x~~"]
)
def test_escape__reads_as_it_was_written(text: str) -> None:
    """Escaped text renders as one paragraph with the very same characters."""
    html = MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"]).render(escape(text))
    shown = re.fullmatch(r"<p>(.*)</p>\n", html)
    assert shown
    assert not re.search(r"<\w", shown[1])


def test_steps_table__has_each_action(document: str) -> None:
    """Start, seconds and outcome of every action."""
    table = steps_table(view_of(story()))
    assert table in document
    assert "| recovery | recover | restore collections | 03:12:14.020 | 16.500 | done, 2 attempts |" in table
    assert steps_table(view_of(story(until_s=1.2))) == "No step has begun."


def test_mermaid__is_a_chart_without_foreign_syntax() -> None:
    """The chart has a section for each phase that began, and text of senders cannot leave its line."""
    chart = mermaid_timeline(view_of(story(hostile=True)))
    assert re.findall(r"section (\w+)", chart) == ["detection", "containment", "recovery", "postmortem"]
    bars = [line for line in chart.splitlines() if " :done, " in line]
    assert len(bars) == 15
    assert all(line.count(":done") == 1 for line in bars)
    assert "<" not in chart


def test_gather__every_rule_has_its_figure() -> None:
    """No rule of the table waits for a figure that nothing makes."""
    made: set[str] = set()
    for told in (story(), escalated()):
        made |= set(gather(view_of(told)))
    made |= (
        set(gather(_without_replica()))
        | set(gather(_without_receivers()))
        | set(gather(_of_llm_calls()))
        | set(gather(_of_llm_calls(static=1)))
    )
    assert {rule.figure for rule in RULES} <= made


def _without_replica() -> dict[str, Any]:
    view = view_of(story())
    for entry in view["timeline"]:
        if entry["kind"] == "figures":
            entry["data"]["gateways"]["gateway"]["reads"] |= {"degraded": 0, "failed": 7}
    return view


def _without_receivers() -> dict[str, Any]:
    view = view_of(escalated())
    view["timeline"] = [entry for entry in view["timeline"] if entry["kind"] != "notice.sent"]
    return view


def test_render__nobody_was_told() -> None:
    """An incident of which nobody heard says so, and what to do about it."""
    document = render(_without_receivers())
    assert "Nobody was told: no receiver is configured." in _section(document, "What went badly")
    assert "Configure `notify.urls`" in _section(document, "Actions")


@pytest.mark.parametrize(
    ("figure", "value", "verdict"),
    [
        ("detect_s", 2.0, "well"),
        ("detect_s", 10.0, None),
        ("detect_s", 30.1, "badly"),
        ("rto_share", 0.5, "well"),
        ("rto_share", 0.7, None),
        ("rto_share", 0.9, "badly"),
        ("rto_share", 1.01, "badly"),
        ("reads_failed", 0, "well"),
        ("reads_failed", 1, "badly"),
        ("backup_age_s", 3600, "well"),
        ("backup_age_s", 3601, "badly"),
        ("resumed", 0, None),
        ("resumed", 1, "badly"),
    ],
)
def test_judge__by_thresholds(figure: str, value: float, verdict: str | None) -> None:
    """A figure is judged once at most, by the thresholds of the table."""
    said = judge({figure: Fact(value, str(value), (3,))})
    assert [item.verdict for item in said] == ([verdict] if verdict else [])
    assert all(item.refs == (3,) for item in said)
    assert all(item.action for item in said if item.verdict == "badly")


def _of_llm_calls(failed: int = 0, reads: int = 0, static: int = 0, rejected: int = 0) -> dict[str, Any]:
    """Return the view of an incident in whose time the agent called language models."""
    view = view_of(story())
    for entry in view["timeline"]:
        for gateway in entry["data"].get("gateways", {}).values():
            answered = 320 - failed - rejected - 35
            gateway["llm"] = {
                "calls": {"asked": 320, "answered": answered, "degraded": 35, "failed": failed, "rejected": rejected},
                "cache_results": {"off": 320 - static, "static": static},
                "targets": {
                    "main/a": {
                        "attempts": {"answered": answered, "http_503": 7},
                        "failed": 7,
                        "cost": 0.5,
                        "tokens": {"input": 4000, "output": 1000, "cached": 9},
                    },
                    "spare/b": {
                        "attempts": {"answered": 35 - static},
                        "failed": 0,
                        "cost": 0.25,
                        "tokens": {"input": 70},
                    },
                    "never/c": {"attempts": {}, "failed": 0, "cost": 0.0, "tokens": {}},
                },
                "currency": "EUR",
                "first_token_p99_ms": 64.0,
                "p99_ms": 512.0,
            }
            gateway["reads"] = {**gateway["reads"], "asked": reads}
            gateway["writes"] = {**gateway["writes"], "asked": 0}
    return view


def test_render__llm_calls_are_told() -> None:
    """Their counts are in the summary and the impact; of reads nothing is said when there were none."""
    document = render(_of_llm_calls())
    assert "Of 320 LLM calls through the gateway 0 ended without an answer and 35 were answered" in document
    impact = _section(document, "Impact")
    assert "| gateway | 320 | 285 | 35 | 0 | 0 | 0 | 0 | 64 ms | 512 ms |" in impact
    assert "| main/a | 292 | 285 | 7 | 5,000 | 0.5000 |" in impact
    assert "| spare/b | 35 | 35 | 0 | 70 | 0.2500 |" in impact
    assert "never/c" not in impact
    assert "Answers of models: 285 by main/a, 35 by spare/b; they cost 0.7500 EUR" in document
    assert "No LLM call that went through the gateway was left without an answer" in document
    assert "99 of 100 streamed answers began within 64 ms" in document
    assert "Reads" not in _section(document, "Impact")
    assert "read that went" not in _section(document, "What went well")


def test_render__static_answers_are_no_answers_of_models() -> None:
    """Whoever got the static answer, or was turned away, is told, and nobody says that all went well."""
    document = render(_of_llm_calls(static=20, rejected=3))
    assert (
        "Of 320 LLM calls through the gateway 0 ended without an answer, 3 were turned away and 35 were answered "
        "otherwise than usual, 20 of them by a route's static answer"
    ) in document
    assert "| gateway | 320 | 282 | 35 | 20 | 0 | 3 | 0 | 64 ms | 512 ms |" in _section(document, "Impact")
    assert "20 LLM calls got no more than a route's static answer" in _section(document, "What went badly")
    assert "left without an answer" not in _section(document, "What went well")


def test_render__llm_calls_and_reads_are_both_told() -> None:
    document = render(_of_llm_calls(failed=4, reads=12))
    assert "Of 320 LLM calls through the gateway 4 ended without an answer" in document
    assert "Of 12 reads through the gateway" in document
    assert "4 LLM calls through the gateway ended without an answer" in _section(document, "What went badly")
    assert "| Gateway | Reads |" in _section(document, "Impact")
