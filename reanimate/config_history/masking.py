"""Secrets in configuration: what looks like one, and how it is hidden where a version is printed.

What is kept is never changed; only what is shown is.
"""

import re
from collections.abc import Iterator
from typing import Any

__all__ = ["MASK", "looks_secret", "masked_json", "masked_text"]

MASK = "•••"

_WORDS = "api[_-]?key|apikey|access[_-]?key|private[_-]?key|passw(?:or)?d|passphrase|secret|token|credential"
_NAME = rf"[\w.-]*(?:{_WORDS})s?[\w.-]*"
_QUOTED = r"\"(?:\\.|[^\"\\\n])*\"|'(?:''|[^'\n])*'"
_PLAIN_NAME = re.compile(_NAME, re.IGNORECASE)

# Each finds a `value` that must not be seen, after a `before` that may.
_RULES = (
    re.compile(r"(?P<before>-----BEGIN [A-Z ]*PRIVATE KEY-----)(?P<value>.*?)(?=-----END|\Z)", re.DOTALL),
    # name: |        name:
    #   value          - value
    re.compile(
        rf"(?P<before>^(?P<indent>[ \t]*)(?:- )?[\"']?(?P<name>{_NAME})[\"']?\s*:[ \t]*[|>][-+\d]*[ \t]*\n)"
        r"(?P<value>(?:(?P=indent)[ \t]+[^\n]*(?:\n|\Z)|[ \t]*\n)+)",
        re.IGNORECASE | re.MULTILINE,
    ),
    re.compile(
        rf"(?P<before>^(?P<indent>[ \t]*)(?:- )?[\"']?(?P<name>{_NAME})[\"']?\s*:[ \t]*\n)"
        r"(?P<value>(?:(?P=indent)[ \t]*- [^\n]*(?:\n|\Z))+)",
        re.IGNORECASE | re.MULTILINE,
    ),
    # name = "value"   name: value   "name": ["value", "value"]   NAME=value
    re.compile(
        rf"(?P<before>(?<![\w.-])[\"']?(?P<name>{_NAME})[\"']?[ \t]*(?:=>|[:=])[ \t]*(?:!!?\w+[ \t]+)?)"
        rf"(?P<value>\[[^\]]*\]|{_QUOTED}|[^\s,;}}\]#|>{{][^\n,;}}]*)",
        re.IGNORECASE,
    ),
    re.compile(rf"(?P<before><(?P<name>{_NAME})>)(?P<value>[^<]+)(?=</)", re.IGNORECASE),
    re.compile(r"(?P<before>\b[a-z][a-z0-9+.-]*://[^\s:/@\"']*:)(?P<value>[^\s@/\"']+)(?=@)", re.IGNORECASE),
    re.compile(r"(?P<before>\b(?:bearer|basic)[ \t]+)(?P<value>[A-Za-z0-9._~+/=-]{8,})", re.IGNORECASE),
    re.compile(
        r"(?P<before>\b)(?P<value>sk-[A-Za-z0-9_-]{16,}|gh[pousr]_[A-Za-z0-9]{20,}|AKIA[A-Z0-9]{16}"
        r"|xox[abprs]-[A-Za-z0-9-]{10,}|AGE-SECRET-KEY-1[A-Z0-9]{20,}"
        r"|eyJ[A-Za-z0-9_-]{10,}\.[A-Za-z0-9_-]{10,}\.[A-Za-z0-9_-]+)"
    ),
)

# Stands where a value would, and gives nothing away.
_HARMLESS = re.compile(
    rf"[\"']?(?:|null|none|~|true|false|on|off|yes|no|\$\{{?[\w:.-]+\}}?|<[^>]*>|\{{\{{.*\}}\}}|\.{{3}}|…|{MASK})[\"']?",
    re.IGNORECASE,
)
_AMOUNT = re.compile(r"[\"']?[\d_.]+[kKmM]?[\"']?")


def masked_text(text: str) -> str:
    """Return a text with every value that looks like a secret replaced. It keeps its lines: a diff still fits."""
    for rule in _RULES:
        text = rule.sub(_hidden, text)
    return text


def looks_secret(text: str) -> bool:
    """Say whether some value in a text looks like a secret."""
    return any(True for _ in _secrets(text))


def masked_json(value: Any) -> Any:
    """Return a JSON value with what stands under a secret's name replaced."""
    if isinstance(value, dict):
        return {key: _masked_member(key, item) for key, item in value.items()}
    if isinstance(value, list):
        return [masked_json(item) for item in value]
    return masked_text(value) if isinstance(value, str) else value


def _masked_member(key: str, item: Any) -> Any:
    if isinstance(item, str) and item and _PLAIN_NAME.fullmatch(key):
        return MASK
    return masked_json(item)


def _secrets(text: str) -> Iterator[re.Match[str]]:
    for rule in _RULES:
        yield from (match for match in rule.finditer(text) if not _is_harmless(match))


def _is_harmless(match: re.Match[str]) -> bool:
    value, name = match["value"].strip(), match.groupdict().get("name") or ""
    # max_tokens = 4096 is no secret.
    return bool(_HARMLESS.fullmatch(value) or ("token" in name.lower() and _AMOUNT.fullmatch(value)))


def _hidden(match: re.Match[str]) -> str:
    if _is_harmless(match):
        return match[0]
    before, value = match["before"], match["value"]
    if "\n" in value:
        return before + "".join(_hidden_line(line) for line in value.splitlines(keepends=True))
    quote = value[0] if value[0] in "\"'" and value[-1] == value[0] else ""
    return f"{before}{quote}{MASK}{quote}"


def _hidden_line(line: str) -> str:
    bare = line.rstrip("\r\n")
    indent = bare[: len(bare) - len(bare.lstrip(" \t-"))]
    return f"{indent}{MASK if bare.strip() else ''}{line[len(bare) :]}"
