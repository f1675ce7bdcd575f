"""Two parts of a text become one: nothing lost, nothing repeated, or it is refused."""

import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from reanimate.demo.provider import answer_text
from reanimate.gateway.llm.streams.continuing.stitch import Stitch, Unstitchable, last_words

WORDS = [
    " the", " the", " ha", " ha", " ha", " again", " again", ",", ";", "\n", "\n\n", "  ", "\t", " {", "}", " 東京",
    " 🙂", "-", "data: ", "def f():\n    return 1", "Zürich", " 42", '"', "...",
]  # fmt: skip

texts = st.one_of(
    st.text(max_size=200),
    st.lists(st.sampled_from(WORDS), max_size=60).map("".join),
    st.integers(0, 10_000).map(lambda seed: answer_text(str(seed), 40)),
)


@st.composite
def cuts(draw: st.DrawFn) -> tuple[str, str, list[int]]:
    """Return what was shown, what comes after it, and where the model's tokens end."""
    text = draw(texts)
    at = draw(st.integers(0, len(text)))
    return text[:at], text[at:], draw(st.lists(st.integers(1, 12), max_size=60))


def stitched(shown: str, said: str, sizes: list[int], *, prefilled: bool) -> str:
    """Return the whole text, as a caller has it in the end."""
    stitch = Stitch(shown, prefilled=prefilled)
    whole = shown
    for size in sizes:
        whole += stitch.feed(said[:size])
        said = said[size:]
    if said:
        whole += stitch.feed(said)
    return whole + stitch.end()


def right_or_refused(shown: str, said: str, sizes: list[int], right: str, *, prefilled: bool) -> bool:
    """Check the one rule, and return whether the text was joined."""
    try:
        assert stitched(shown, said, sizes, prefilled=prefilled) == right
    except Unstitchable:
        return False
    return True


@settings(max_examples=500)
@given(cuts())
def test_a_model_that_repeats_the_last_words_as_asked_is_joined_without_a_flaw(
    case: tuple[str, str, list[int]],
) -> None:
    shown, rest, sizes = case
    try:
        words = last_words(shown)
    except Unstitchable:
        return
    said = words.asked + words.space + rest if words.body else shown + rest
    assert stitched(shown, said, sizes, prefilled=False) == shown + rest


@settings(max_examples=500)
@given(cuts(), st.integers(0, 300))
def test_whatever_a_model_repeats_the_text_is_right_or_refused(case: tuple[str, str, list[int]], overlap: int) -> None:
    shown, rest, sizes = case
    repeated = shown[-overlap:] if overlap else ""
    # A model that was asked to repeat and did not, in a text that repeats itself right there, cannot be told from one
    # that did.
    doubled = any(rest.lstrip().startswith(shown.rstrip()[-n:].lstrip()) for n in range(1, len(shown) + 1))
    assume(len(repeated.strip()) >= 16 or not doubled)
    right_or_refused(shown, repeated + rest, sizes, shown + rest, prefilled=False)


@settings(max_examples=500)
@given(cuts(), st.sampled_from(["", " ", "\n", "…", '"']))
def test_a_model_that_begins_anew_is_joined_or_refused(case: tuple[str, str, list[int]], opening: str) -> None:
    shown, rest, sizes = case
    assume(shown.strip())
    said = opening + (shown + rest).lstrip()
    right_or_refused(shown, said, sizes, shown + rest, prefilled=False)
    if not opening.strip():
        right_or_refused(shown, said, sizes, shown + rest, prefilled=True)


@settings(max_examples=1000)
@given(cuts())
@example(("Ha", " ha ha", []))
@example(("1", "1", []))
@example(("00000000", "00000000", []))
@example(("the ha the ha the ha the ha ", "the ha the ha the ha the ha and", [3, 3]))
@example(("Well the the", " the the the.", [4]))
def test_a_prefilled_model_that_simply_goes_on_is_joined_or_refused(case: tuple[str, str, list[int]]) -> None:
    shown, rest, sizes = case
    space = shown[len(shown.rstrip()) :]
    right_or_refused(shown, space + rest, sizes, shown + rest, prefilled=True)


def test_nearly_every_cut_of_a_usual_text_is_joined() -> None:
    """Refusing is safe, but it must be rare."""
    joined = total = 0
    for seed in range(60):
        text = answer_text(str(seed), 24)
        for at in range(1, len(text), 7):
            shown, rest = text[:at], text[at:]
            words = last_words(shown)
            asked = words.asked + words.space + rest
            space = words.space
            for said, prefilled in ((asked, False), (space + rest, True), (text, False), (text, True)):
                total += 1
                joined += right_or_refused(shown, said, [3] * 200, text, prefilled=prefilled)
    assert joined / total > 0.92


@pytest.mark.parametrize(
    ("shown", "said"),
    [
        ("The service was restored at noon", "I'm sorry, but I can't help with that."),
        ("The service was restored at noon", "Sure! Here is the rest: and all was well."),
        ("The service was restored at noon", ""),
        ("The service was restored at noon", "and all was well."),
        ("The service was restored at noon", "noon and all was well."),
        ("The service was restored at noon", "The service was brought back at noon, and all was well."),
        ("The service was restored at noon", "restored at noon"[:9]),
        ("x = [\n        ", "x = [\n    1]"),
    ],
)
def test_what_does_not_prove_to_go_on_there_is_refused(shown: str, said: str) -> None:
    with pytest.raises(Unstitchable):
        stitched(shown, said, [5] * 20, prefilled=False)


@pytest.mark.parametrize(
    ("shown", "said"),
    [
        ("The service was restored at noon", "The service was restored by hand at noon."),
        ("The service was restored at noon", "was restored at noon and all was well."),
        ("1", "10"),
        ("foo ", "bar"),
    ],
)
def test_a_prefilled_model_that_starts_over_or_repeats_is_refused(shown: str, said: str) -> None:
    with pytest.raises(Unstitchable):
        stitched(shown, said, [5] * 20, prefilled=True)


@pytest.mark.parametrize(
    ("shown", "said", "whole"),
    [
        ("restored at noon, and ", "…restored at noon, and all was well", "restored at noon, and all was well"),
        ("restored at noon, and", '"restored at noon, and all was well', "restored at noon, and all was well"),
        ("restored at noon, and the repl", "restored at noon, and the replica", "restored at noon, and the replica"),
        ("restored at noon:\n\n", "restored at noon:\n- one", "restored at noon:\n\n- one"),
        ("restored at noon:\n", "restored at noon:\n    - one", "restored at noon:\n    - one"),
        ("restored at noon. ", "restored at noon.\n\nThen", "restored at noon. \n\nThen"),
        ("restored at noon.", "restored at noon.", "restored at noon."),
    ],
)
def test_small_liberties_of_models_are_put_right(shown: str, said: str, whole: str) -> None:
    for sizes in ([], [1] * 100, [7] * 10):
        assert stitched(shown, said, sizes, prefilled=False) == whole


def test_text_that_repeats_itself_without_end_has_no_last_words() -> None:
    with pytest.raises(Unstitchable):
        last_words("ha " * 1000)
    assert last_words("ha " * 20 + "and then something else").needle == "n something else"
