"""A stand-in for a provider of language models, which does on demand whatever a real one does on its bad days.

The demo runs two of them as its local providers (`python -m reanimate.demo.provider --port 0 --name main`); in a test
it runs inside the loop: `async with Provider("main") as provider: ...`. Answers are deterministic: `answer_text` says
what the complete right answer to a prompt is, whoever gives it.
"""

from reanimate.demo.provider.answers import answer_text
from reanimate.demo.provider.behaviour import Behaviour
from reanimate.demo.provider.calls import Call
from reanimate.demo.provider.faults import Fault, Match
from reanimate.demo.provider.server import Provider

__all__ = ["Behaviour", "Call", "Fault", "Match", "Provider", "answer_text"]
