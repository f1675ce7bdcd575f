"""An answer of OpenAI's Responses API as its stream of events, which are of many kinds."""

from collections.abc import Iterator
from typing import Any

import orjson

__all__ = ["replay_response"]

_TEXTS = {"output_text": ("text", "output_text"), "refusal": ("refusal", "refusal")}
"""By the type of a part of a message: the field that grows, and the name of its events."""
_ARGUMENTS = {
    "function_call": ("arguments", "function_call_arguments"),
    "custom_tool_call": ("input", "custom_tool_call_input"),
    "mcp_call": ("arguments", "mcp_call_arguments"),
}


def replay_response(answer: dict[str, Any], piece: int) -> Iterator[bytes]:
    """Yield the events of `answer`, with `piece` characters of text in each."""
    begun = {**answer, "status": "in_progress", "output": [], "usage": None, "completed_at": None}
    events = [("created", {"response": begun}), ("in_progress", {"response": begun})]
    for place, item in enumerate(answer["output"]):
        events += _item(item, {"output_index": place, "item_id": item.get("id", "")}, piece)
    events.append(("completed", {"response": answer}))
    for number, (kind, fields) in enumerate(events):
        body = {"type": f"response.{kind}", "sequence_number": number, **fields}
        yield b"event: response.%b\ndata: %b\n\n" % (kind.encode(), orjson.dumps(body))


def _item(item: dict[str, Any], at: dict[str, Any], piece: int) -> list[tuple[str, dict[str, Any]]]:
    kind = item["type"]
    where = {"output_index": at["output_index"]}
    begun = {**item, "status": "in_progress"} if "status" in item else dict(item)
    events: list[tuple[str, dict[str, Any]]] = []
    if kind == "message":
        begun["content"] = []
        for number, part in enumerate(item["content"]):
            events += _part(part, {**at, "content_index": number}, piece)
    elif kind in _ARGUMENTS:
        field, name = _ARGUMENTS[kind]
        begun[field] = ""
        events += [(f"{name}.delta", {**at, "delta": text}) for text in _cut(item[field], piece)]
        named = {"name": item["name"]} if kind == "function_call" else {}
        events.append((f"{name}.done", {**at, field: item[field], **named}))
    elif kind == "reasoning":
        begun["summary"] = []
        for number, part in enumerate(item.get("summary") or ()):
            there = {**at, "summary_index": number}
            events.append(("reasoning_summary_part.added", {**there, "part": {**part, "text": ""}}))
            events += [("reasoning_summary_text.delta", {**there, "delta": text}) for text in _cut(part["text"], piece)]
            events.append(("reasoning_summary_text.done", {**there, "text": part["text"]}))
            events.append(("reasoning_summary_part.done", {**there, "part": part}))
    added = ("output_item.added", {**where, "item": begun})
    return [added, *events, ("output_item.done", {**where, "item": item})]


def _part(part: dict[str, Any], at: dict[str, Any], piece: int) -> list[tuple[str, dict[str, Any]]]:
    if part["type"] not in _TEXTS:
        return [("content_part.added", {**at, "part": part}), ("content_part.done", {**at, "part": part})]
    field, name = _TEXTS[part["type"]]
    text = part[field]
    more: dict[str, Any] = {"logprobs": []} if name == "output_text" else {}
    begun = {**part, field: ""} | ({"annotations": []} if "annotations" in part else {})
    return [
        ("content_part.added", {**at, "part": begun}),
        *((f"{name}.delta", {**at, "delta": said, **more}) for said in _cut(text, piece)),
        *(
            ("output_text.annotation.added", {**at, "annotation_index": number, "annotation": annotation})
            for number, annotation in enumerate(part.get("annotations") or ())
        ),
        (f"{name}.done", {**at, field: text, **more}),
        ("content_part.done", {**at, "part": part}),
    ]


def _cut(text: str, size: int) -> list[str]:
    return [text[at : at + size] for at in range(0, len(text), size)]
