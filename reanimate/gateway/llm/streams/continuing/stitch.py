"""Joining two parts of a text that came from two models, without losing or repeating a character. Pure.

What was shown to the caller stands. A model that goes on with a prefill begins with the next character. A model that is
asked by a prompt is made to repeat the last words first: only that shows where it goes on, since chat models begin
without the space that may belong there, start anew, or say something else. What is not proven to fit is refused.
"""

from enum import Enum, auto

__all__ = ["LastWords", "Stitch", "Unstitchable", "last_words"]

_NEEDLE = 16
"""So many characters at the end of what was shown, when they stand nowhere else in it, mark the place."""
_NEEDLE_MAX = 400
_ASKED = 48
"""So many characters at least are asked to be repeated."""
_BACK_TO_A_WORD = 40
_SAME_BEGINNING = 20
"""Two texts that begin with so many equal characters are two tellings of the same."""
_TOO_SHORT_TO_TELL = 24
"""A shorter text that comes once more may be what the answer really says next."""
_OPENING = " \t\r\n.…\"'“”„«»‘’`"
"""What models put before words that they repeat."""


class Unstitchable(Exception):
    """What the model says cannot be shown to go on where the text stopped."""


class LastWords:
    """The end of a text: what is asked to be repeated, and what marks the place."""

    __slots__ = ("asked", "body", "needle", "space")

    def __init__(self, body: str, space: str, needle: str, asked: str) -> None:
        self.body = body
        """The text without the white space around it."""
        self.space = space
        self.needle = needle
        """Stands at the end of `body` and nowhere else in it."""
        self.asked = asked
        """Begins with a whole word, where there is one, and holds the needle."""


def last_words(text: str) -> LastWords:
    """Return the last words of what was shown.

    Raises:
        Unstitchable: the text repeats itself so much that no part of its end stands for one place.
    """
    body = text.strip()
    space = text[len(text.rstrip()) :]
    if body and not body.strip(_OPENING):
        raise Unstitchable("only marks were said so far: no place can be told by them")
    needle = max(len(body) - _NEEDLE, 0)
    while needle and (body[needle] in _OPENING or body.find(body[needle:]) != needle):
        needle -= 1
        if len(body) - needle > _NEEDLE_MAX:
            raise Unstitchable("the text repeats itself: its end stands for several places")
    asked = max(min(needle, len(body) - _ASKED), 0)
    for at in range(asked, max(asked - _BACK_TO_A_WORD, -1), -1):
        if at == 0 or (body[at - 1].isspace() and not body[at].isspace()):
            asked = at
            break
    else:
        asked = needle
    return LastWords(body, space, body[needle:], body[asked:])


class _At(Enum):
    SEAM = auto()
    """It is not decided yet where the text goes on."""
    SPACE = auto()
    """It is; white space was shown already that the model may repeat."""
    BEYOND = auto()
    """What comes is new."""


class Stitch:
    """Takes what the continuing model says, gives what is new in it."""

    __slots__ = ("_at", "_held", "_prefilled", "_words")

    def __init__(self, shown: str, *, prefilled: bool) -> None:
        """`prefilled`: the model was given the text as the beginning of its own answer.

        Raises:
            Unstitchable: there is no telling any place in what was shown.
        """
        self._words = last_words(shown)
        self._prefilled = prefilled
        self._held = ""
        self._at = _At.SEAM if self._words.body else _At.SPACE
        if not shown:
            self._at = _At.BEYOND

    @property
    def is_settled(self) -> bool:
        """Whether it is known where the text goes on."""
        return self._at is not _At.SEAM

    def feed(self, text: str) -> str:
        """Return what is new, as far as it can be told yet.

        Raises:
            Unstitchable: it does not fit.
        """
        if self._at is _At.BEYOND:
            return text
        self._held += text
        return self._go_on(ended=False)

    def end(self) -> str:
        """Return what was held back; the model has said everything.

        Raises:
            Unstitchable: it does not fit.
        """
        return self._go_on(ended=True)

    def _go_on(self, *, ended: bool) -> str:
        if self._at is _At.SEAM:
            behind = self._behind_prefill(ended) if self._prefilled else self._behind_words(ended)
            if behind is None:
                return ""
            self._at = _At.SPACE
            self._held = behind
        if self._at is _At.SPACE:
            fresh = _beyond_space(self._words.space, self._held, ended)
            if fresh is None:
                return ""
            self._at = _At.BEYOND
            self._held = ""
            return fresh
        return ""

    def _behind_words(self, ended: bool) -> str | None:
        """Return what comes behind the repeated words; None if that is still open."""
        words = self._words
        for said in (self._held.lstrip(), self._held.lstrip(_OPENING)):
            at = said.find(words.needle)
            end = at + len(words.needle)
            if at >= 0 and words.body.endswith(said[:end]):
                return said[end:]
            if at < 0 and said in words.body and not ended:
                return None
        raise Unstitchable("the model did not go on where the text stopped")

    def _behind_prefill(self, ended: bool) -> str | None:
        """Return what comes behind the prefill, which should be everything; None if that is still open."""
        said, whole = self._held.lstrip(), self._words.body
        if said.startswith(whole):
            if len(said) == len(whole) and not ended:
                return None
            if len(whole) < _TOO_SHORT_TO_TELL or len(said) == len(whole) or _repeats_itself(whole, self._words.space):
                raise Unstitchable("the model began anew, or the answer repeats itself: there is no telling")
            return said[len(whole) :]
        same = _common(said, whole)
        if same >= _SAME_BEGINNING and (same < len(said) or ended):
            raise Unstitchable("the model began anew, with another text")
        repeated = self._held.lstrip(_OPENING)
        needle = self._words.needle
        at = repeated.find(needle)
        if at >= 0 and len(needle) >= _NEEDLE and self._words.body.endswith(repeated[: at + len(needle)]):
            raise Unstitchable("the model repeats the end of the text, or the text repeats itself")
        if not ended and (same == len(said) or repeated in self._words.body):
            return None
        return self._held


def _repeats_itself(text: str, space: str) -> bool:
    """Say whether a text, with white space behind it or not, is one piece said several times over."""
    return any((said + said).find(said, 1) < len(said) for said in (text, text + space, f"{text} "))


def _common(one: str, other: str) -> int:
    """Return how many characters both begin with."""
    for at, (here, there) in enumerate(zip(one, other, strict=False)):
        if here != there:
            return at
    return min(len(one), len(other))


def _beyond_space(shown: str, said: str, ended: bool) -> str | None:
    """Return what is new in `said`, which follows on white space that was shown; None if that is still open.

    Raises:
        Unstitchable: a word goes on where a space was shown, or lines are indented differently.
    """
    if not shown or said.startswith(shown):
        return said[len(shown) :]
    rest = said.lstrip()
    run = said[: len(said) - len(rest)]
    if not rest:
        return "" if ended else None
    if not run:
        raise Unstitchable("the model goes on within a word that had ended")
    if "\n" not in shown:
        return rest if "\n" not in run else said
    if not shown.endswith("\n"):
        raise Unstitchable("the model indents its lines differently")
    return run.rpartition("\n")[2] + rest if "\n" in run else rest
