"""What a provider answers: a text that follows from the prompt alone, tool calls, or JSON of the shape asked for.

A prompt can ask for more: `[[tokens=N]]` for a text of N tokens, `[[tools=N]]` for N calls of the tools it brought,
`[[refuse]]` for a refusal, `[[filter]]` for an answer that a content filter ends after half, `[[text=...]]` for exactly
that text. Tokens hold characters of one to four bytes, quotes, line ends, and words that repeat: all that makes
putting two halves of a text together go wrong.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import blake2b
from random import Random
from typing import Any, Literal

import orjson

from reanimate.demo.provider.asking import Ask
from reanimate.demo.provider.behaviour import Behaviour, Continues

__all__ = ["REFUSAL", "Answer", "ToolCall", "answer_for", "answer_text"]

Finish = Literal["stop", "length", "tool_calls", "content_filter", "refusal", "stop_sequence"]

REFUSAL = "I'm sorry, but I can't help with that."
_WORDS = (
    " the", " the", " a", " restore", " replica", " snapshot", " gateway", " is", " is", " ready", " not", " lost",
    " agent", " of", " of", " and", " shard", " naïve", " café", " 東京", " 🙂", " \"quoted\"", " back\\slash", "\n",
    "\n\n", " 42", " 3.14", ",", ";", " ha", " ha", " ha", " {", "}", " <b>", " data: ", " [DONE]", " Zürich", "-",
    " incident", " quota", " token", " stream", " whole", " again", " again",
)  # fmt: skip
_PIECE = 7
"""How many characters of JSON make a token."""


@dataclass(frozen=True, slots=True)
class ToolCall:
    """One call of a tool; its arguments come in pieces."""

    name: str
    arguments: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Answer:
    """One answer, as tokens."""

    tokens: tuple[str, ...]
    calls: tuple[ToolCall, ...]
    finish: Finish
    prompt_tokens: int
    stop: str = ""
    """The stop sequence that ended it."""

    @property
    def text(self) -> str:
        return "".join(self.tokens)

    @property
    def completion_tokens(self) -> int:
        return len(self.tokens) + sum(len(call.arguments) for call in self.calls)


def answer_text(prompt: str, tokens: int = 24, *, voice: str = "") -> str:
    """Return the whole text that every provider with this voice answers to a prompt."""
    return "".join(_text_tokens(prompt, tokens, voice))


def answer_for(ask: Ask, behaviour: Behaviour) -> Answer:
    """Return the answer to a question."""
    wishes = dict(re.findall(r"\[\[(\w+)(?:=([^\]]*))?\]\]", ask.prompt))
    if "refuse" in wishes:
        return Answer(tuple(_pieces(REFUSAL)), (), "refusal", ask.prompt_tokens)
    if calls := _tool_calls(ask, wishes):
        return Answer((), calls, "tool_calls", ask.prompt_tokens)
    if ask.schema is not None:
        random = _random(ask.prompt, behaviour.voice)
        tokens = _pieces(orjson.dumps(_example(ask.schema, random, ask.schema)).decode())
    else:
        tokens = _text_tokens(ask.prompt, behaviour.tokens, behaviour.voice)
    if ask.is_continuation:
        tokens = _continued(ask, tokens, behaviour.continues)
    elif ask.prefix and behaviour.prefill == "continue":
        tokens = _after(tokens, ask.prefix)
    return _ended(ask, tokens, "filter" in wishes)


def _ended(ask: Ask, tokens: list[str], filtered: bool) -> Answer:
    """End the tokens where the request or the filter says."""
    finish: Finish = "stop"
    if filtered:
        tokens, finish = tokens[: len(tokens) // 2], "content_filter"
    text = "".join(tokens)
    found = [(text.find(stop), stop) for stop in ask.stops if stop in text]
    stop = ""
    if found:
        at, stop = min(found)
        tokens, finish = _first(tokens, at), "stop_sequence"
    if ask.limit is not None and ask.limit < len(tokens):
        tokens, finish, stop = tokens[: ask.limit], "length", ""
    return Answer(tuple(tokens), (), finish, ask.prompt_tokens, stop)


def _random(prompt: str, voice: str) -> Random:
    return Random(int.from_bytes(blake2b(f"{voice}\0{prompt}".encode(), digest_size=8).digest()))


def _text_tokens(prompt: str, count: int, voice: str) -> list[str]:
    if said := re.search(r"\[\[text=([^\]]*)\]\]", prompt):
        return re.findall(r"\s*\S+|\s+", said[1])
    if wish := re.search(r"\[\[tokens=(\d+)\]\]", prompt):
        count = int(wish[1])
    random = _random(prompt, voice)
    tokens = random.choices(_WORDS, k=count)
    if count:
        tokens[0] = random.choice(("Sure", "Yes", "No", "Well", "Ça"))
    if count > 1:
        tokens[-1] = "."
    return tokens


def _first(tokens: list[str], characters: int) -> list[str]:
    """Return the tokens up to a character, the last one cut."""
    kept: list[str] = []
    for token in tokens:
        if characters <= 0:
            break
        kept.append(token[:characters])
        characters -= len(token)
    return kept


def _after(tokens: list[str], prefix: str) -> list[str]:
    """Return what follows a prefix: to the character when it is ours, else the tokens from the same place on."""
    if not "".join(tokens).startswith(prefix):
        return tokens[len(re.findall(r"\s*\S+|\s+", prefix)) :]
    left = len(prefix)
    for at, token in enumerate(tokens):
        if left < len(token):
            return [token[left:], *tokens[at + 1 :]] if left else tokens[at:]
        left -= len(token)
    return []


def _continued(ask: Ask, tokens: list[str], how: Continues) -> list[str]:
    """Return the answer to somebody who asks to go on."""
    rest = _after(tokens, ask.prefix)
    match how:
        case "words":
            return [*re.findall(r"\s*\S+|\s+", ask.last_words), *rest]
        case "direct":
            return rest
        case "trimmed":
            return [rest[0].lstrip(), *rest[1:]] if rest else []
        case "restart":
            return tokens
        case "overlap":
            return [ask.prefix[-9:], *rest]
        case "chatty":
            return ["Sure,", " here", " is", " the", " rest:", "\n\n", *rest]
        case "wordy":
            return [ask.last_words, " and", " so", " on", " in", " words", " of", " its", " own."]
        case "other":
            return ["Something", " else", " entirely,", " at", " some", " length,", " and", " no", " continuation."]
    return _pieces(REFUSAL)


def _pieces(text: str) -> list[str]:
    return [text[at : at + _PIECE] for at in range(0, len(text), _PIECE)]


def _tool_calls(ask: Ask, wishes: Mapping[str, str]) -> tuple[ToolCall, ...]:
    """Return the calls that the prompt or the request wants; none once tools have brought something."""
    if not ask.tools or ask.after_tools:
        return ()
    count = int(wishes.get("tools") or 0) or (1 if ask.must_call or "tools" in wishes else 0)
    tools = [tool for tool in ask.tools if ask.must_call in ("", "*", tool.name)]
    if ask.one_call:
        count = min(count, 1)
    made = []
    for number in range(count):
        tool = tools[number % len(tools)]
        arguments = _example(tool.schema, _random(f"{ask.prompt}\0{number}", ""), tool.schema)
        made.append(ToolCall(tool.name, tuple(_pieces(orjson.dumps(arguments).decode()))))
    return tuple(made)


def _example(schema: Mapping[str, Any], random: Random, root: Mapping[str, Any]) -> Any:
    """Return a value that a JSON schema allows."""
    if "$ref" in schema:
        found: Any = root
        for name in schema["$ref"].removeprefix("#/").split("/"):
            found = found[name]
        return _example(found, random, root)
    if "const" in schema:
        return schema["const"]
    if "enum" in schema:
        return random.choice(schema["enum"])
    for several in ("anyOf", "oneOf", "allOf"):
        if several in schema:
            return _example(schema[several][0], random, root)
    kind = schema.get("type", "object")
    match kind[0] if isinstance(kind, list) else kind:
        case "object":
            return {name: _example(item, random, root) for name, item in schema.get("properties", {}).items()}
        case "array":
            return [_example(schema.get("items", {"type": "string"}), random, root) for _ in range(2)]
        case "string":
            return " ".join(random.choices(("Zürich", "東京", "db7", 'say "hi"', "restore", "a\\b"), k=3))
        case "integer":
            return random.randint(1, 99)
        case "number":
            return random.randint(1, 999) / 10
        case "boolean":
            return random.random() < 0.5
    return None
