"""Whether an answer that broke off may be gone on with. Pure."""

from reanimate.gateway.llm.call import Call
from reanimate.gateway.llm.endpoints import Shape
from reanimate.gateway.llm.failures import Failure, Help
from reanimate.gateway.llm.wire.events import Facts

__all__ = ["why_not"]

_KEPT_THERE = ("previous_response_id", "conversation", "background", "prompt")
_THOUGHTS = ("thinking", "redacted_thinking")


def why_not(call: Call, told: Facts, failure: Failure) -> str | None:
    """Return why not, None if it may.

    A tool call that was begun is never completed by another model; nor can one go on behind a complete call, whose
    result nobody has, and whether more calls were to follow is not known.
    """
    settings = call.route.settings
    if not settings.continue_streams:
        return f"route {call.route.name!r} does not allow it"
    if failure.help is Help.NONE:
        return "the provider says that the request is at fault"
    if told.finish is not None:
        return "its provider said an end with each piece of it"
    if told.tools:
        whole = all(tool.is_whole for tool in told.tools)
        return "tool calls are not completed by another model" if whole else "it broke off within a tool call"
    if told.several:
        return "there is more than one choice"
    if told.welded is not None:
        return f"the answer has {told.welded}"
    if told.open_block in _THOUGHTS:
        return "it broke off within its thinking"
    if call.prompt.endpoint.shape is Shape.RESPONSES:
        if any(call.prompt.fields.get(name) for name in _KEPT_THERE):
            return "it builds on what only its provider keeps"
        in_message = told.open_block == "message" or (told.closing and told.item and told.item[1] + 1 == told.blocks)
        if not in_message or not told.text:
            return "it broke off between two parts of its output"
    if len(call.attempts) >= settings.attempts:
        return f"all {settings.attempts} attempts of route {call.route.name!r} were made"
    return None
