"""Every fault of a provider before its answer begins: the caller has a right answer, the others' calls are counted."""

import pytest
from failover_rig import rig_for

from reanimate.demo.provider import Fault, Provider, answer_text

FAULTS = {
    "500": (Fault("status", error="server_error"), 2, "http_500"),
    "overloaded": (Fault("status", error="overloaded"), 1, "overloaded"),
    "429": (Fault("status", error="rate_limit", headers={"retry-after": "30"}), 1, "rate_limited"),
    "quota": (Fault("status", error="insufficient_quota"), 1, "quota"),
    "key": (Fault("status", error="invalid_key"), 1, "unauthorized"),
    "model": (Fault("status", error="model_not_found"), 1, "not_found"),
    "reset": (Fault("reset"), 2, "reset"),
    "close": (Fault("close"), 2, "reset"),
    "refuse": (Fault("refuse"), 0, "refused"),
    "html": (Fault("garbage", garbage="html"), 1, "garbage"),
    "empty": (Fault("garbage", garbage="empty"), 1, "garbage"),
    "truncated": (Fault("garbage", garbage="truncated"), 1, "garbage"),
    "schema": (Fault("garbage", garbage="schema"), 1, "garbage"),
}
"""What is wrong, how often the provider is asked for one call, and what the failure is called."""


CASES = [(name, stream) for name in FAULTS for stream in (False, True) if (name, stream) != ("truncated", True)]
"""A stream is truncated within its answer: another story."""


@pytest.mark.parametrize(("name", "stream"), CASES)
async def test_course__the_next_provider_answers(name: str, stream: bool, providers: tuple[Provider, Provider]) -> None:
    """A lone 5xx or reset is tried once more; everything else, and the second time, is the next provider's."""
    main, backup = providers
    fault, asked, kind = FAULTS[name]
    async with rig_for(main, backup, hedge=False, probes=False) as rig:
        main.fail(fault)
        call, text = await rig.ask(stream=stream)
        assert text == answer_text("Hello")
        assert len(main.calls) == asked
        assert len(backup.calls) == 1
        assert call.answered_by is not None
        assert call.answered_by.name == "backup/model"
        failures = [attempt.failure for attempt in call.attempts]
        assert failures[-1] is None
        kinds = {failure.kind for failure in failures[:-1] if failure}
        assert kinds == {kind} or (stream and kind == "garbage" and kinds <= {"malformed_event", "no_finish"})
        assert call.degraded == [f"main/model: {kinds.pop()}"]
