"""What policies must know of a request: images are found wherever they stand."""

from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from reanimate.gateway.llm.endpoints import ENDPOINTS
from reanimate.gateway.llm.prompt import read_prompt

CHAT, RESPONSES = ENDPOINTS["/v1/chat/completions"], ENDPOINTS["/v1/responses"]
URL = "data:image/png;base64," + "A" * 4000
TEXT = {"type": "text", "text": "what is this image of?"}


def images_in(item: Any) -> int:
    """Count by looking everywhere."""
    if isinstance(item, list):
        return sum(map(images_in, item))
    if isinstance(item, dict):
        if item.get("type") in ("image_url", "image", "input_image"):
            return 1
        return sum(images_in(value) for value in item.values())
    return 0


IMAGES = st.sampled_from(
    [
        {"type": "image_url", "image_url": {"url": URL}},
        {"type": "image", "source": {"type": "base64", "data": URL}},
        {"type": "input_image", "image_url": URL},
    ]
)
TEXTS = st.sampled_from(["", "text", "an image", '"image"', "input_image"])
VALUES = st.recursive(
    TEXTS | st.none() | st.integers(0, 9) | IMAGES,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["role", "content", "type", "extra"]), inner, max_size=3)
    ),
    max_leaves=12,
)


@given(VALUES, VALUES)
def test_every_image_is_found(messages: Any, given_input: Any) -> None:
    fields = {"model": "m", "messages": messages, "input": given_input}
    found = read_prompt(CHAT, orjson.dumps(fields)).needs.vision
    assert found == (images_in(messages) + images_in(given_input) > 0)


@pytest.mark.parametrize(
    ("messages", "sees"),
    [
        ([{"role": "user", "content": "an image"}], False),
        ([{"role": "user", "content": [TEXT]}], False),
        ([{"role": "user", "content": [TEXT, {"type": "image_url", "image_url": {"url": URL}}]}], True),
        ([{"role": "user", "content": "plain"}, {"role": "user", "content": [{"type": "image", "source": {}}]}], True),
        ([{"role": "tool", "content": None, "tool_calls": [{"type": "function"}]}], False),
    ],
)
def test_an_image_needs_a_model_that_sees(messages: list[Any], sees: bool) -> None:
    assert read_prompt(CHAT, orjson.dumps({"model": "m", "messages": messages})).needs.vision is sees


def test_an_image_that_is_an_input_by_itself() -> None:
    asked = {"model": "m", "input": ["text", {"type": "input_image", "image_url": URL}]}
    needs = read_prompt(RESPONSES, orjson.dumps(asked)).needs
    assert needs.vision
    assert needs.input_tokens < 1_100, "the picture's bytes are no tokens"
