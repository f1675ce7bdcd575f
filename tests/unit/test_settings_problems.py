"""What is wrong with the settings file is said by name and in words, with what was meant."""

from pathlib import Path

import pytest

from reanimate.config import load_settings
from reanimate.errors import ConfigInvalid

GOOD = """
[[llm.providers]]
name = "alpha"
url = "http://alpha/v1"
keys = ["sk-1"]
[[llm.providers.models]]
name = "big"
[[llm.providers.models]]
name = "small"
[[llm.routes]]
name = "chat"
targets = ["alpha/big"]
[[llm.tenants]]
name = "support"
keys = ["key-support"]
[[llm.tenants]]
name = "sales"
keys = ["key-sales"]
[[llm.quotas]]
name = "sales-daily"
tenant = "sales"
tokens = 1000
"""


def _problems(home: Path, monkeypatch: pytest.MonkeyPatch, text: str) -> str:
    (home / "reanimate.toml").write_text(text)
    monkeypatch.setenv("REANIMATE_HOME", str(home))
    with pytest.raises(ConfigInvalid) as caught:
        load_settings()
    return str(caught.value)


def test_good_settings_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "reanimate.toml").write_text(GOOD)
    monkeypatch.setenv("REANIMATE_HOME", str(tmp_path))
    assert [quota.name for quota in load_settings().llm.quotas] == ["sales-daily"]


@pytest.mark.parametrize(
    ("wrong", "right", "said"),
    [
        (
            'targets = ["alpha/big"]',
            'targets = ["alpha/big"]\nstatic_answr = "x"',
            "llm.routes[chat].static_answr: there is no such setting; is static_answer meant?",
        ),
        ('name = "small"', 'name = "small"\nprice = "x"', "llm.providers[alpha].models[small].price: there is no such"),
        (
            'name = "small"',
            'name = "small"\ninput_price = "x"',
            "llm.providers[alpha].models[small].input_price: it should",
        ),
        ('targets = ["alpha/big"]', "targets = []", "llm.routes[chat].targets: this must not be empty"),
        ('targets = ["alpha/big"]', "", "llm.routes[chat].targets: this is missing"),
        ('name = "sales-daily"', "", "llm.quotas[#1].name: this is missing"),
        ("tokens = 1000", "tokens = -1", "llm.quotas[sales-daily].tokens: it should be greater than or equal to 0"),
        (
            "tokens = 1000",
            'tokens = 1\ntimezone = "Mars"',
            "llm.quotas[sales-daily].timezone: 'Mars' is not a time zone",
        ),
        ('name = "small"', 'name = "big"', "llm: provider 'alpha' has two models called 'big'"),
        ('"key-sales"', '"key-support"', "llm: tenants 'support' and 'sales' have a key in common"),
        ('"key-sales"', '""', "llm.tenants[sales].keys: key 1 holds what no key does"),
        (
            'tenant = "sales"',
            'tenant = "salse"',
            "llm: quota 'sales-daily' is for the tenant 'salse', whom there is not",
        ),
        ('"sk-1"', '"${ALPHA_KEY}"', "llm.providers[alpha].keys: key 1 is the name of an environment variable"),
        ('"sk-1"', '"$ALPHA_KEY"', "llm.providers[alpha].keys: key 1 is the name of an environment variable"),
    ],
)
def test_problems__are_said_where_and_in_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, wrong: str, right: str, said: str
) -> None:
    """One line names the table by its name, the setting, and what to write; nothing that only follows, no key."""
    assert wrong in GOOD
    found = _problems(tmp_path, monkeypatch, GOOD.replace(wrong, right, 1))
    assert f"settings are not usable: {said}" in found
    assert "Value error" not in found
    assert "after validation" not in found
    assert "key-support" not in found
