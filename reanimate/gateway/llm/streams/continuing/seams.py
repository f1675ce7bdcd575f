"""Which seam fits which shape."""

from reanimate.gateway.llm.call import Call, Usage
from reanimate.gateway.llm.endpoints import Shape
from reanimate.gateway.llm.streams.continuing.chat import ChatSeam
from reanimate.gateway.llm.streams.continuing.messages import MessagesSeam
from reanimate.gateway.llm.streams.continuing.responses import ResponsesSeam
from reanimate.gateway.llm.streams.continuing.seam import Seam, SeamState
from reanimate.gateway.llm.streams.continuing.stitch import Stitch
from reanimate.gateway.llm.wire.events import Facts

__all__ = ["seam_for"]


def seam_for(call: Call, told: Facts, said: Facts, stitch: Stitch, before: Usage, *, shows_usage: bool) -> Seam:
    """Return what fits the events of who goes on to the answer that the caller knows as `told`."""
    state = SeamState(call, told, said, stitch, before)
    if call.prompt.endpoint.shape is Shape.MESSAGES:
        return MessagesSeam(state)
    if call.prompt.endpoint.shape is Shape.RESPONSES:
        return ResponsesSeam(state)
    return ChatSeam(state, shows_usage=shows_usage)
