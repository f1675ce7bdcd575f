"""Who may be asked for a call, and in which order."""

import random
from collections import Counter
from collections.abc import Sequence
from typing import Any

from llm_calls import call_of

from reanimate.gateway.llm.call import Call
from reanimate.gateway.llm.catalogue import Catalogue, Choice
from reanimate.gateway.llm.failover.breaker import Standing
from reanimate.gateway.llm.failover.candidates import Candidates, by_weight
from reanimate.gateway.llm.failover.health import Health
from reanimate.gateway.llm.failures import Failure, Help
from reanimate.llm_settings import LlmSettings

SERVER_ERROR = Failure("http_500", Help.RETRY, "answered 500", 500)
LIMITED = Failure("rate_limited", Help.KEY, "answered 429", 429, retry_after_s=5.0, counts=False)


class _Reversed:
    def order(self, call: Call, choices: Sequence[Choice]) -> list[Choice]:
        return list(reversed(choices))


class Story:
    """Three providers with one model each, unless `models` says more; time stands still unless told."""

    def __init__(self, models: dict[str, dict[str, Any]] | None = None, keys: int = 1, **route: Any) -> None:
        models = models or {"a": {}, "b": {}, "c": {}}
        self.catalogue = Catalogue(
            LlmSettings.model_validate(
                {
                    "providers": [
                        {
                            "name": name,
                            "url": f"http://{name}",
                            "keys": [f"{name}-{n}" for n in range(keys)],
                            "models": [{"name": "m", **can}],
                        }
                        for name, can in models.items()
                    ],
                    "routes": [{"name": "chat", "targets": [f"{name}/m" for name in models], **route}],
                }
            )
        )
        self.now = 100.0
        self.health = Health(lambda: self.now)
        self.health.use(self.catalogue)

    def candidates(
        self, body: dict[str, Any] | None = None, path: str = "/v1/chat/completions", **how: Any
    ) -> Candidates:
        fields = {"model": "chat", "messages": [{"role": "user", "content": "Hi"}], **(body or {})}
        call = call_of(fields, path, self.catalogue)
        return Candidates(call, self.health, how.get("order"), how.get("bars"), how.get("exclude", frozenset()))

    def fail(self, name: str, times: int, failure: Failure = SERVER_ERROR, key: int = 0) -> None:
        for _ in range(times):
            self.health.failed(self.line(name, key), failure, self.now, self.now)

    def line(self, name: str, key: int = 0) -> Any:
        return self.health.of(self.catalogue.targets[f"{name}/m"]).lines[key]

    def order(self, candidates: Candidates) -> list[str]:
        """Ask one after the other, and return their names."""
        names = []
        while (line := candidates.next(self.now)) is not None:
            names.append(line.target.provider.name)
            candidates.is_asked(line)
        return names


def test_candidates__are_asked_in_the_order_of_the_route_or_of_the_switches() -> None:
    """Each once."""
    story = Story()
    assert story.order(story.candidates()) == ["a", "b", "c"]
    assert story.order(story.candidates(order=_Reversed())) == ["c", "b", "a"]
    assert story.order(story.candidates(exclude=frozenset({"a/m"}))) == ["b", "c"]


def test_candidates__open_ones_are_not_asked_and_suspects_come_last() -> None:
    """Three failures in a row, and two."""
    story = Story()
    story.fail("a", 3)
    story.fail("b", 2)
    assert story.order(story.candidates()) == ["c", "b"]
    assert [line.target.provider.name for line in story.candidates().open_lines()] == ["a"]


def test_candidates__who_is_coming_back_gets_its_share_and_all_when_nobody_else_is_left() -> None:
    """One of twenty calls at first; the others ask it only after everybody who is well."""
    story = Story()
    story.fail("a", 3)
    story.health.probed_well(story.line("a"), story.now)
    assert story.line("a").breaker.standing is Standing.RAMPING
    firsts = Counter(story.order(story.candidates())[0] for _ in range(100))
    assert 4 <= firsts["a"] <= 6
    assert firsts["b"] == 100 - firsts["a"]
    candidates = story.candidates()
    assert story.order(candidates)[-1] == "a" or firsts["a"]


def test_candidates__a_limited_key_gives_way_to_the_next_key() -> None:
    """The same provider, before the next one."""
    story = Story(keys=2)
    story.fail("a", 1, LIMITED, key=0)
    candidates = story.candidates()
    first = candidates.next(story.now)
    assert first is story.line("a", 1)
    story.fail("a", 1, LIMITED, key=1)
    assert story.order(story.candidates()) == ["b", "b", "c", "c"]


def test_candidates__a_server_that_fails_fails_with_every_key() -> None:
    """What is not the key's fault opens its sisters too; nobody there: every model of the provider."""
    story = Story(keys=3)
    story.fail("a", 3, key=1)
    assert all(story.line("a", key).breaker.standing is Standing.OPEN for key in range(3))


def test_candidates__what_a_model_cannot_do_is_not_asked_of_it() -> None:
    """Tools, images, structured output; and each is told why it was passed over."""
    story = Story({"a": {"tools": False}, "b": {"vision": False}, "c": {"structured_output": False, "vision": True}})
    tools = story.candidates({"tools": [{"type": "function", "function": {"name": "f"}}]})
    assert story.order(tools) == ["b", "c"]
    assert tools.unfit == {"a/m": "cannot use tools"}
    picture = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}
    seen = story.candidates({"messages": [{"role": "user", "content": [picture]}]})
    assert story.order(seen) == ["c"]
    assert story.order(story.candidates({"response_format": {"type": "json_object"}})) == ["a", "b"]


def test_candidates__embeddings_go_to_embedding_models_only() -> None:
    """And chats never."""
    story = Story({"a": {"kind": "embedding"}, "b": {}})
    assert story.order(story.candidates()) == ["b"]
    assert story.order(story.candidates({"input": "x"}, "/v1/embeddings")) == ["a"]


def test_candidates__going_on_with_a_message_is_left_to_those_who_can_where_there_are_any() -> None:
    """Where nobody says that it can, all are asked: many servers take it for a new turn."""
    ends = {"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hel"}]}
    some = Story({"a": {}, "b": {"prefill": True}})
    assert some.order(some.candidates(ends)) == ["b"]
    none = Story({"a": {}, "b": {}})
    assert none.order(none.candidates(ends)) == ["a", "b"]


def test_candidates__a_prompt_that_is_too_long_goes_to_larger_models() -> None:
    """By the estimate where another one has more room; after a provider said so, only to those with more room."""
    story = Story({"a": {"context_tokens": 1000}, "b": {"context_tokens": 8000}, "c": {"context_tokens": 8000}})
    long = {"messages": [{"role": "user", "content": "x" * 8000}]}
    assert story.order(story.candidates(long)) == ["b", "c"]
    longest = {"messages": [{"role": "user", "content": "x" * 80_000}]}
    assert story.order(story.candidates(longest)) == ["b", "c"], "the largest decide for themselves"
    said = story.candidates()
    said.is_too_small(story.catalogue.targets["a/m"])
    assert story.order(said) == ["b", "c"]
    said = story.candidates()
    said.is_too_small(story.catalogue.targets["b/m"])
    assert story.order(said) == []


def test_candidates__a_silent_provider_is_not_asked_for_the_same_call() -> None:
    """Whatever model or key."""
    story = Story(keys=2)
    candidates = story.candidates()
    candidates.is_silent(story.catalogue.targets["a/m"])
    assert story.order(candidates) == ["b", "b", "c", "c"]


def test_candidates__keep_a_providers_own_limits() -> None:
    """Two requests a minute; the third is the next provider's, and when there is room again is known."""
    story = Story({"a": {"requests_per_min": 2}, "b": {}})
    limits = story.health.of(story.catalogue.targets["a/m"]).limits
    assert limits is not None
    limits.begin(10, story.now)
    limits.begin(10, story.now)
    assert story.order(story.candidates()) == ["b"]
    alone = story.candidates()
    alone.is_done(story.catalogue.targets["b/m"])
    assert alone.next(story.now) is None
    assert 55 < (alone.room_in(story.now) or 0) <= 60


def test_candidates__a_pause_is_waited_for_once() -> None:
    """A limit: until its end, and for the probe there. When the probe asks for another pause it is in vain."""
    story = Story({"a": {}})
    story.fail("a", 1, LIMITED)
    candidates = story.candidates()
    assert candidates.next(story.now) is None
    assert candidates.room_in(story.now) == 5.0
    story.now += 5.01
    assert candidates.room_in(story.now) is not None
    story.fail("a", 1, LIMITED)
    assert candidates.room_in(story.now) is None
    assert story.candidates().room_in(story.now) == 5.0, "another call waits for its own"


def test_candidates__other_trouble_is_waited_for_only_briefly() -> None:
    """A 503 that says when to come back may mean it, if that is soon."""
    story = Story({"a": {}, "b": {}})
    story.fail("a", 1, Failure("overloaded", Help.NEXT, "answered 503", 503, retry_after_s=10.0))
    story.fail("b", 1, Failure("overloaded", Help.NEXT, "answered 503", 503, retry_after_s=1.0))
    assert story.candidates().room_in(story.now) == 1.0
    story.fail("b", 1, Failure("overloaded", Help.NEXT, "answered 503", 503, retry_after_s=10.0))
    assert story.candidates().room_in(story.now) is None


def test_candidates__who_is_out_is_in_doubt_until_a_probe_has_said_so_and_when_that_is_long_ago() -> None:
    """A caller who has nobody else waits for what a probe says; not for one that has just been made."""
    story = Story({"a": {}})
    line = story.line("a")
    line.kick = lambda: None
    story.fail("a", 3)
    assert story.candidates().hopeful(story.now) == [line], "no probe yet"
    story.health.probed_badly(line, SERVER_ERROR, story.now, story.now)
    assert story.candidates().hopeful(story.now) == []
    story.now += 0.3
    assert story.candidates().hopeful(story.now) == [line]
    story.fail("a", 1, LIMITED)
    assert story.candidates().hopeful(story.now) == [], "it asked to be left alone"


def test_candidates__where_another_process_makes_the_probes_it_is_in_doubt_only_at_first() -> None:
    """What that one finds out is known here at once."""
    story = Story({"a": {}})
    story.fail("a", 3)
    assert story.candidates().hopeful(story.now) == [story.line("a")]
    story.now += 0.3
    assert story.candidates().hopeful(story.now) == []


def test_candidates__a_target_whose_quota_is_used_up_is_passed_over() -> None:
    """By its name."""
    story = Story()
    candidates = story.candidates(bars=lambda call, target: "daily" if target.name == "a/m" else None)
    assert story.order(candidates) == ["b", "c"]
    assert candidates.unfit == {"a/m": "is out of quota daily"}


def test_by_weight__each_comes_first_as_often_as_its_weight_says() -> None:
    """Weight 0 is for when the others have failed."""
    story = Story({"a": {}, "b": {}, "c": {}})
    targets = [story.catalogue.targets[f"{name}/m"] for name in "abc"]
    choices = [Choice(targets[0], 3), Choice(targets[1], 1), Choice(targets[2], 0)]
    dice = random.Random(1)
    firsts = Counter(by_weight(choices, dice.random)[0].target.provider.name for _ in range(4000))
    assert 2850 < firsts["a"] < 3150
    assert firsts["c"] == 0
    assert all(by_weight(choices, dice.random)[2].target.provider.name == "c" for _ in range(50))


def test_pause__of_a_limit_is_kept_of_an_outage_only_for_a_while() -> None:
    """A server that says "in an hour" while it restarts would be left alone for an hour: its probes find out sooner."""
    story = Story()
    out = Failure("http_503", Help.RETRY, "answered 503", 503, retry_after_s=3600.0)
    limited = Failure("rate_limited", Help.KEY, "answered 429", 429, retry_after_s=3600.0, counts=False)
    story.fail("a", 1, out)
    story.fail("b", 1, limited)
    assert story.line("a").breaker.probe_at == story.now + 30.0
    assert story.line("b").breaker.probe_at == story.now + 3600.0
