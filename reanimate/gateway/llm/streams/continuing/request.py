"""What another provider is asked, so that it goes on with an answer that broke off."""

from dataclasses import replace
from typing import Any

import orjson

from reanimate.gateway.llm.call import Call
from reanimate.gateway.llm.catalogue import Key, Target
from reanimate.gateway.llm.endpoints import Shape
from reanimate.gateway.llm.prompt import Prompt, read_prompt
from reanimate.gateway.llm.streams.continuing.stitch import LastWords, Stitch, last_words
from reanimate.gateway.llm.wire.outgoing import Outgoing, Refusal, outgoing

__all__ = ["Continuation"]

_ASK = (
    "Your last message broke off in the middle. Continue it from exactly where it stopped, so that both parts read as "
    "one. Do not greet, explain, sum up, or format anything in another way."
)
_ASK_JSON = (
    "\nBoth parts together must be one JSON document and nothing else, valid against this schema:\n"
    "<json_schema>{schema}</json_schema>"
)
_ASK_WORDS = (
    "\nBegin your reply by repeating the last words of that message, character by character, and write on from there "
    "without a break. They are:\n<last_words>{words}</last_words>"
)
_LIMITS = ("max_tokens", "max_completion_tokens", "max_output_tokens")
_CHARACTERS_PER_TOKEN = 3
_SPARE_TOKENS = 16


class Continuation:
    """How each target is asked to go on after `shown`; `tokens` is about how many tokens that took."""

    def __init__(self, call: Call, shown: str, tokens: int) -> None:
        """Raises: Unstitchable: there is no telling where `shown` ends, or its place cannot be named."""
        self._call = call
        self._shown = shown
        self._tokens = tokens
        self._words: LastWords = last_words(shown)
        self._made: dict[bool, Call] = {}

    def is_prefill(self, target: Target) -> bool:
        """Whether `target` gets the text as the beginning of its own answer.

        Not for structured output: what holds a model to a schema holds it to the schema's beginning.
        """
        needs = self._call.prompt.needs
        return target.can.prefill and not needs.structured_output and self._call.prompt.endpoint.shape in _PREFILLED

    def stitch(self, target: Target) -> Stitch:
        """Return what joins the answer of `target` to the text."""
        return Stitch(self._shown, prefilled=self.is_prefill(target))

    def build(self, call: Call, target: Target, key: Key | None) -> Outgoing | Refusal:
        """Return what to send to `target`. Where nothing was shown yet, that is what the caller asked."""
        if not self._words.body:
            return outgoing(call, target, key)
        prefill = self.is_prefill(target)
        made = self._made.get(prefill)
        if made is None:
            made = self._made[prefill] = replace(self._call, prompt=self._prompt(prefill=prefill))
        return outgoing(made, target, key)

    def _prompt(self, *, prefill: bool) -> Prompt:
        asked = self._call.prompt
        fields = dict(asked.fields)
        schema = _take_schema(fields)
        fields.pop("thinking", None)
        for name in _LIMITS:
            if isinstance(limit := fields.get(name), int):
                left = limit - self._tokens
                if not prefill:
                    left += len(self._words.asked) // _CHARACTERS_PER_TOKEN + _SPARE_TOKENS
                fields[name] = max(left, 1)
        name = "input" if asked.endpoint.shape is Shape.RESPONSES else "messages"
        talk = _with_answer(fields.get(name), self._shown.rstrip())
        if not prefill:
            wish = _ASK + (_ASK_JSON.format(schema=schema) if schema is not None else "")
            talk.append({"role": "user", "content": wish + _ASK_WORDS.format(words=self._words.asked)})
        fields[name] = talk
        return read_prompt(asked.endpoint, orjson.dumps(fields))


_PREFILLED = (Shape.CHAT, Shape.MESSAGES)


def _with_answer(given: Any, text: str) -> list[Any]:
    """Return the conversation with the answer so far; where the caller had begun it, that goes on."""
    talk = [{"role": "user", "content": given}] if isinstance(given, str) else list(given or ())
    last = talk[-1] if talk else None
    if not isinstance(last, dict) or last.get("role") != "assistant" or last.get("tool_calls"):
        return [*talk, {"role": "assistant", "content": text}]
    content = last.get("content")
    begun = content + text if isinstance(content, str) else [*(content or ()), {"type": "text", "text": text}]
    return [*talk[:-1], {**last, "content": begun}]


def _take_schema(fields: dict[str, Any]) -> str | None:
    """Take what is asked for in structured output out of the request; return the schema, {} for any JSON."""
    found = None
    for holder, name in ((None, "response_format"), ("text", "format"), ("output_config", "format")):
        home = fields if holder is None else fields.get(holder)
        if isinstance(home, dict) and isinstance(wish := home.get(name), dict) and wish.get("type") != "text":
            found = (wish.get("json_schema") or wish).get("schema") or {}
            rest = {key: value for key, value in home.items() if key != name}
            if holder is None:
                del fields[name]
            elif rest:
                fields[holder] = rest
            else:
                del fields[holder]
    return orjson.dumps(found).decode() if found is not None else None
