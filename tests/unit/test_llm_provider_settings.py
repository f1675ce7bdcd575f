"""What is wrong with a provider's settings is said when they are read, not by its first answer."""

from typing import Any

import pytest
from pydantic import ValidationError

from reanimate.llm_settings import ProviderSettings


def provider(**fields: Any) -> ProviderSettings:
    return ProviderSettings.model_validate({"name": "main", "url": "http://h/v1", "models": [{"name": "m"}], **fields})


@pytest.mark.parametrize("key", ["", "sk-…", "sk secret", "sk-secret\n", "\x00"])
def test_keys__that_no_key_can_be(key: str) -> None:
    """Said by its number: the rest of it may be right."""
    with pytest.raises(ValidationError, match="key 2 holds what no key does") as caught:
        provider(keys=["sk-good", key])
    assert "secret" not in caught.value.errors()[0]["msg"]  # which is what is shown


def test_keys__and_headers_of_vendors_pass() -> None:
    kept = provider(keys=["sk-ant-api03_A-b.c:d/e+f="], headers={"OpenAI-Organization": "org-1", "X-Title": "My agent"})
    assert kept.keys[0].get_secret_value().endswith("=")


@pytest.mark.parametrize(("name", "value"), [("a b", "x"), ("", "x"), ("a:", "x"), ("a", "secret\r\nb: c"), ("a", "")])
def test_headers__that_cannot_be_sent(name: str, value: str) -> None:
    with pytest.raises(ValidationError, match="is no header that can be sent") as caught:
        provider(headers={name: value})
    assert "secret" not in caught.value.errors()[0]["msg"]  # which is what is shown
