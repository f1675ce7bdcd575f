"""The settings file that `reanimate init` writes."""

import re
import tomllib
from pathlib import Path

import pytest
from pydantic import BaseModel

from reanimate.commands.setup import settings_template
from reanimate.config import DependencySettings, PostgresDatabase, Settings, VectorTarget, load_settings
from reanimate.llm_settings import QuotaSettings

_VALUE = re.compile(r"^# ((?:\w+ = |\[\[).*)$", re.MULTILINE)


def _sections() -> dict[str, type[BaseModel]]:
    return {
        name: field.annotation
        for name, field in Settings.model_fields.items()
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel)
    }


def test_template__changes_nothing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """As written, the file means exactly the defaults."""
    (tmp_path / "reanimate.toml").write_text(settings_template())
    monkeypatch.setenv("REANIMATE_HOME", str(tmp_path))
    written = load_settings()
    (tmp_path / "reanimate.toml").unlink()
    assert written == load_settings()


def test_template__has_every_setting() -> None:
    """Every section and every key of the settings is in the file, under its section."""
    template = settings_template()
    for section, model in _sections().items():
        assert f"\n[{section}]\n" in template
        body = template.split(f"\n[{section}]\n")[1].split("\n[")[0]
        for key in model.model_fields:
            assert f"\n# {key} = " in f"\n{body}" or f"\n# [[{section}.{key}]]" in template, f"{section}.{key}"
    for model in (VectorTarget, PostgresDatabase, DependencySettings, QuotaSettings):
        for key in model.model_fields:
            assert f"\n# {key} = " in template, key


def test_template__uncommented_is_valid(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """With every value uncommented the file still parses, and every default it shows is the true one."""
    (tmp_path / "reanimate.toml").write_text(_VALUE.sub(r"\1", settings_template()))
    monkeypatch.setenv("REANIMATE_HOME", str(tmp_path))
    shown = tomllib.loads((tmp_path / "reanimate.toml").read_text())
    load_settings()
    for section, model in _sections().items():
        for key, field in model.model_fields.items():
            if field.default and isinstance(field.default, str | int | float | bool):
                assert shown[section][key] == field.default, f"{section}.{key}"


def test_settings__may_be_in_a_file_named_by_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The variable that names the file is not taken for a section of it."""
    file = tmp_path / "elsewhere.toml"
    file.write_text("[web]\nport = 8799\n")
    monkeypatch.setenv("REANIMATE_CONFIG", str(file))
    assert load_settings().web.port == 8799
