"""How many tokens an answer is taken to have when its provider does not say it."""

import pytest

from reanimate.gateway.llm.call import Usage
from reanimate.gateway.llm.counting import estimated_usage
from reanimate.gateway.llm.endpoints import ENDPOINTS
from reanimate.gateway.llm.prompt import read_prompt

NEEDS = read_prompt(ENDPOINTS["/v1/chat/completions"], b'{"model":"m","max_tokens":5000,"messages":[]}').needs


@pytest.mark.parametrize(
    ("known", "said", "pieces", "output"),
    [
        (None, ["word", " and", " longer", " ones"], 4, 4),
        (None, ["four" * 50], 1, 50),
        (None, ["four" * 50], 0, 50),
        (None, ["é" * 40], 0, 20),
        (None, [], 0, 0),
        (Usage(7, 30), ["one", "two"], 2, 30),
        (Usage(7, 1), ["one", "two"], 2, 2),
    ],
)
def test_estimated_usage__by_pieces_that_may_be_tokens_else_by_length(
    known: Usage | None, said: list[str], pieces: int, output: int
) -> None:
    """What the provider did say is not undercut, and never is the bound of the caller taken for what was used."""
    usage = estimated_usage(NEEDS, known, said, pieces)
    assert usage == Usage(known.input_tokens if known else NEEDS.input_tokens, output, estimated=True)


def test_usage__is_estimated_as_soon_as_a_part_is() -> None:
    assert (Usage(1, 2) + Usage(3, 4, estimated=True)) == Usage(4, 6, estimated=True)
    assert not (Usage(1, 2) + Usage(3, 4)).estimated
