"""What the stand-in provider answers follows from the prompt alone; continuations join without a seam."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reanimate.demo.provider import Behaviour, Fault, Match, answer_text
from reanimate.demo.provider.answers import answer_for
from reanimate.demo.provider.asking import Wire, read_ask
from reanimate.demo.provider.faults import Armed
from reanimate.errors import InputInvalid

WELL = Behaviour()


def _said(body: dict[str, Any], behaviour: Behaviour = WELL, wire: Wire = "chat") -> str:
    return answer_for(read_ask(wire, {"model": "m", **body}, behaviour), behaviour).text


def _user(text: str) -> dict[str, Any]:
    return {"role": "user", "content": text}


def _assistant(text: str) -> dict[str, Any]:
    return {"role": "assistant", "content": text}


@given(st.text(min_size=1), st.integers(1, 80), st.data())
def test_prefill__any_cut_is_gone_on_with_to_the_character(prompt: str, tokens: int, data: st.DataObject) -> None:
    """Prefix and continuation are the whole answer, wherever the prefix ends."""
    whole = answer_text(prompt, tokens)
    cut = data.draw(st.integers(1, len(whole)))
    rest = _said({"messages": [_user(prompt), _assistant(whole[:cut])]}, Behaviour(tokens=tokens))
    assert whole[:cut] + rest == whole


def test_prefill__same_on_both_wires_and_by_instruction() -> None:
    whole = answer_text("why?")
    asked = [_user("why?"), _assistant(whole[:31])]
    told = [*asked, _user("Continue exactly where you stopped.")]
    for wire in ("chat", "messages"):
        assert _said({"messages": asked}, wire=wire) == whole[31:]
        assert _said({"messages": told}, wire=wire) == whole[31:]
    assert _said({"input": told}, wire="responses") == whole[31:]


def test_instruction__a_group_of_the_pattern_holds_the_text() -> None:
    behaviour = Behaviour(continuation=r"(?s)^GO ON AFTER: (?P<text>.*)$")
    whole = answer_text("why?")
    assert _said({"messages": [_user("why?"), _user(f"GO ON AFTER: {whole[:9]}")]}, behaviour) == whole[9:]


def test_prefill__restart_says_everything_again() -> None:
    asked = {"messages": [_user("why?"), _assistant(answer_text("why?")[:20])]}
    assert _said(asked, Behaviour(prefill="restart")) == answer_text("why?")


def test_prefill__foreign_words_are_followed_by_the_later_tokens() -> None:
    """A model goes on after words that it would not have said."""
    rest = _said({"messages": [_user("why?"), _assistant("Nobody ever says this")]})
    assert answer_text("why?").endswith(rest)
    assert 0 < len(rest) < len(answer_text("why?"))


def test_voice__another_voice_says_something_else() -> None:
    assert answer_text("why?") != answer_text("why?", voice="bass")
    assert _said({"messages": [_user("why?")]}, Behaviour(voice="bass")) == answer_text("why?", voice="bass")


@pytest.mark.parametrize(("wish", "text"), [("[[text=exactly this]]", "exactly this"), ("[[tokens=1]]", None)])
def test_wishes__in_the_prompt(wish: str, text: str | None) -> None:
    said = _said({"messages": [_user(f"please {wish}")]})
    assert said == (text or answer_text(f"please {wish}"))


def test_ends__length_stop_and_filter() -> None:
    whole = answer_text("why?")
    ask = {"model": "m", "messages": [_user("why?")]}
    cut = answer_for(read_ask("chat", {**ask, "max_tokens": 5}, WELL), WELL)
    assert (cut.finish, cut.completion_tokens) == ("length", 5)
    assert whole.startswith(cut.text)
    stopped = answer_for(read_ask("chat", {**ask, "stop": whole[11:14]}, WELL), WELL)
    assert (stopped.finish, stopped.text) == ("stop_sequence", whole[: whole.index(whole[11:14])])
    filtered = answer_for(read_ask("chat", {**ask, "messages": [_user("why? [[filter]]")]}, WELL), WELL)
    assert filtered.finish == "content_filter"
    assert answer_text("why? [[filter]]").startswith(filtered.text)


def test_tools__called_once_then_their_results_are_part_of_the_prompt() -> None:
    tool = {"type": "function", "function": {"name": "look", "parameters": {"properties": {"n": {"type": "integer"}}}}}
    asked: dict[str, Any] = {"model": "m", "tools": [tool], "messages": [_user("go [[tools=2]]")]}
    answer = answer_for(read_ask("chat", asked, WELL), WELL)
    assert [call.name for call in answer.calls] == ["look", "look"]
    assert answer.finish == "tool_calls"
    asked["messages"] += [
        {"role": "assistant", "tool_calls": []},
        {"role": "tool", "tool_call_id": "1", "content": "7"},
    ]
    assert answer_for(read_ask("chat", asked, WELL), WELL).text == answer_text("go [[tools=2]]\n7")
    result = {"type": "tool_result", "tool_use_id": "1", "content": [{"type": "text", "text": "7"}]}
    messages = [_user("go [[tools=2]]"), {"role": "user", "content": [result]}]
    assert _said({"messages": messages, "tools": [{"name": "look"}]}, wire="messages") == answer_text(
        "go [[tools=2]]\n7"
    )


@pytest.mark.parametrize(
    "given",
    [
        {},
        {"kind": "explode"},
        {"kind": "cut", "how": "softly"},
        {"kind": "garbage", "garbage": "noise"},
        {"kind": "status", "error": "unheard_of"},
        {"kind": "cut", "afterwards": 3},
        {"kind": "cut", "match": {"colour": "red"}},
        {"kind": "hang", "good_s": 1},
        {"kind": "cut", "running": True},
    ],
)
def test_fault__that_means_nothing_is_refused(given: dict[str, Any]) -> None:
    with pytest.raises(InputInvalid, match="fault"):
        Fault.from_json(given)


def test_fault__survives_the_way_through_json() -> None:
    fault = Fault("cut", match=Match(path="/v1/messages", stream=True), times=2, after=3, how="fin")
    assert Fault.from_json(fault.to_json()) == fault


@pytest.mark.parametrize("given", [{"colour": "red"}, {"prefill": "guess"}, {"continuation": "("}])
def test_behaviour__that_means_nothing_is_refused(given: dict[str, Any]) -> None:
    with pytest.raises(InputInvalid, match="behaviour"):
        Behaviour.from_json(given)


def _hits(fault: Fault, calls: list[tuple[str, str, str, bool, float]]) -> list[bool]:
    armed = Armed(fault, 0.0)
    return [armed.due(*call) for call in calls]


def test_due__skip_times_match_and_clock() -> None:
    call = ("/v1/chat/completions", "m", "k", True)
    assert _hits(Fault("hang", skip=1, times=2), [(*call, 0.0)] * 5) == [False, True, True, False, False]
    assert _hits(Fault("hang", match=Match(model="n")), [(*call, 0.0)]) == [False]
    assert _hits(Fault("hang", match=Match(key="k", stream=True)), [(*call, 0.0)]) == [True]
    flapping = Fault("hang", good_s=2, bad_s=1)
    times = [0.0, 1.9, 2.0, 2.9, 3.0, 5.1]
    assert _hits(flapping, [(*call, at) for at in times]) == [False, False, True, True, False, True]


def test_due__probability_follows_from_the_seed() -> None:
    call = ("/v1/chat/completions", "m", "k", True, 0.0)
    first, same, other = (_hits(Fault("hang", probability=0.3, seed=seed), [call] * 400) for seed in (1, 1, 2))
    assert first == same != other
    assert 80 < sum(first) < 160
