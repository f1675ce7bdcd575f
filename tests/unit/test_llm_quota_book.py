"""The book of a gateway: what survives a kill, what damage costs, and who may have it."""

import os
from pathlib import Path

import pytest

from reanimate.gateway.llm.quota.book import DRAWN, GRANTED, HEARD, Book
from reanimate.gateway.llm.quota.purse import Purse, Terms
from reanimate.llm_settings import QuotaSettings
from reanimate.quota.demand import AccountKey, Meter
from reanimate.quota.thresholds import Standing, crossed

KEY = AccountKey("day", "Zoë", "tokens", "normal", 1_795_651_200)
ENDS = KEY.starts + 86_400


def terms() -> Terms:
    found = Terms.of(QuotaSettings(name="day", tokens=1000), Meter.TOKENS)
    assert found is not None
    return found


def test_book__says_after_a_kill_what_was_said_before(tmp_path: Path) -> None:
    """Nothing is closed or written out: the next process reads what the last one stored, and its numbers go on."""
    first = Book(tmp_path)
    purse = Purse(KEY, ENDS, terms(), first.page(KEY, ENDS))
    purse.go_on_alone()
    purse.take(30)
    purse.take(20)
    purse.settle(30, 7)
    seq = first.next_seq()
    os.close(first._file or 0)  # as the kernel does, with the lock
    first._file = None
    first._memory.flush()
    content = (tmp_path / "quota.book").read_bytes()
    (tmp_path / "next").mkdir()
    (tmp_path / "next" / "quota.book").write_bytes(content)
    second = Book(tmp_path / "next")
    assert second.name == first.name
    assert second.next_seq() > seq
    ((key, page),) = second.pages()
    again = Purse(key, ENDS, terms(), page)
    assert (key, again.drawn, again.spent, again.underway) == (KEY, 27, 27, 0)  # what was underway counts as used
    second.close()
    first.close()


def test_book__each_process_has_its_own(tmp_path: Path) -> None:
    """A second one takes the next file; a book that was closed is free again."""
    one, two = Book(tmp_path), Book(tmp_path)
    assert (one.path.name, two.path.name) == ("quota.book", "quota-2.book")
    assert one.name != two.name
    one.close()
    three = Book(tmp_path)
    assert three.path == one.path
    assert three.name == one.name
    two.close()
    three.close()


def test_book__a_damaged_page_is_cleared_and_the_others_stay(tmp_path: Path) -> None:
    """One flipped byte in the name of an account costs that account's page, and no more."""
    book = Book(tmp_path)
    other = KEY._replace(quota="month")
    pages = {key: book.page(key, ENDS) for key in (KEY, other)}
    for page in pages.values():
        page.cells[page.base + DRAWN] = 5
    at = pages[KEY].number * 512 + 64 + 6 + 3
    book._memory[at] ^= 1
    del pages, page
    book.close()
    again = Book(tmp_path)
    assert [(key, page.cells[page.base + DRAWN]) for key, page in again.pages()] == [(other, 5)]
    again.close()


def test_book__what_is_none_is_begun_anew(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Foreign bytes are not taken for amounts; the new book has a new name, so that the old leases count as used."""
    (tmp_path / "quota.book").write_bytes(b"\x7fELF" * 1000)
    book = Book(tmp_path)
    assert list(book.pages()) == []
    assert "begins anew" in caplog.text
    assert len(book.name) == 32
    book.close()


def test_book__that_cannot_be_kept_is_in_memory(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Calls matter more: it is said, and they go on."""
    (tmp_path / "taken").write_text("a file where the folder should be")
    book = Book(tmp_path / "taken")
    page = book.page(KEY, ENDS)
    page.cells[page.base + GRANTED] = 7
    assert [key for key, _ in book.pages()] == [KEY]
    assert "a restart will forget" in caplog.text
    del page
    book.close()


def test_book__that_is_full_or_names_that_are_long_live_in_memory(tmp_path: Path) -> None:
    """Pages are used again; the one account too many is still counted, though not over a restart."""
    book = Book(tmp_path)
    pages = [book.page(KEY._replace(starts=n), n + 60) for n in range(1024)]
    assert {page.number for page in pages} == set(range(1, 1025))
    assert book.page(KEY, ENDS).number == 0
    book.clear(pages[17])
    page = book.page(KEY, ENDS)
    assert page.number == pages[17].number
    assert page.cells[page.base + HEARD] == 0
    book.clear(page)
    assert book.page(KEY._replace(tenant="t" * 500), ENDS).number == 0
    del pages, page
    book.close()


@pytest.mark.parametrize(
    ("limit", "spent", "refused", "expected"),
    [
        (1000, 799, False, ()),
        (1000, 800, False, (0.8,)),
        (1000, 1000, False, (0.8, 1.0)),
        (1000, 960, True, (0.8, 1.0)),
        (1000, 100, True, ()),
        (1000, 1500, False, (0.8, 1.0)),
        (0, 0, True, ()),
    ],
)
def test_thresholds__crossed(limit: int, spent: int, refused: bool, expected: tuple[float, ...]) -> None:
    """Used up is also what refuses calls; a limit of 0 alarms nobody."""
    standing = Standing("q", "", "tokens", 0, 60, limit, spent, refused, {"alert_at": [1.0, 0.8]})
    assert crossed(standing) == expected
