"""When a settings file that has changed is read again."""

from pathlib import Path

import pytest

from reanimate.gateway.reloading import Reloading


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "reanimate.toml"
    path.write_text("[gateway]\n")
    return path


@pytest.fixture
def reloading(file: Path) -> Reloading:
    return Reloading(file, lambda settings: None)


def test_a_changed_file_is_read_once_it_stands_still(file: Path, reloading: Reloading) -> None:
    """Half a file can be valid settings too: those without most of its routes."""
    assert not reloading.is_due()
    for text in ("[llm]\n", "[llm]\ncurrency = 'EUR'\n"):
        file.write_text(text)
        assert not reloading.is_due()
    assert reloading.is_due()
    assert not reloading.is_due()


def test_an_empty_file_and_none_are_not_read(file: Path, reloading: Reloading) -> None:
    """It is about to be written, or replaced."""
    file.write_text("")
    assert [reloading.is_due() for _ in range(3)] == [False] * 3
    file.unlink()
    assert [reloading.is_due() for _ in range(3)] == [False] * 3
    file.write_text("[llm]\n")
    assert [reloading.is_due() for _ in range(3)] == [False, True, False]


def test_who_asks_gets_it_read_at_the_next_look(reloading: Reloading) -> None:
    """Changed or not."""
    reloading.ask()
    assert [reloading.is_due() for _ in range(2)] == [True, False]
