"""A knowledge base of real text: Python's own documentation topics and docstrings, and a small embedder for it.

The embedder hashes words into 256 dimensions. It is deterministic, needs no model, and is good enough to find a
passage by its own words; it is not a language model and does not pretend to be one.
"""

import hashlib
import importlib
import inspect
import math
import re
import warnings
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["DIMENSION", "Passage", "embed", "passages"]

DIMENSION = 256
_LENGTH = 900
"""Characters of a passage, about."""

_MODULES = """argparse array ast asyncio base64 bisect calendar codecs collections concurrent.futures configparser
contextlib copy csv ctypes dataclasses datetime decimal difflib dis email.message enum fractions functools glob gzip
hashlib heapq html http.client http.server importlib inspect io ipaddress itertools json logging lzma mailbox math
multiprocessing operator os pathlib pdb pickle platform pprint queue random re sched selectors shelve shlex shutil
smtplib socket socketserver sqlite3 ssl statistics string struct subprocess tarfile tempfile textwrap threading time
timeit tokenize traceback types typing unittest urllib.parse urllib.request uuid warnings wave weakref xml.dom
xml.etree.ElementTree xmlrpc.client zipfile zoneinfo""".split()  # noqa: SIM905 - one name a line would be a page


@dataclass(frozen=True)
class Passage:
    """One piece of text, with where it is from."""

    title: str
    kind: str
    module: str
    text: str


def passages(at_least: int) -> list[Passage]:
    """Return real passages, the same on every run of one Python version.

    Raises:
        ValueError: this Python carries fewer than `at_least`.
    """
    found = [*_topics(), *_docstrings()]
    unique = list({passage.text: passage for passage in found}.values())
    if len(unique) < at_least:
        raise ValueError(f"this Python's documentation gives {len(unique)} passages, {at_least} are needed")
    return unique


def _topics() -> Iterator[Passage]:
    topics: dict[str, str] = importlib.import_module("pydoc_data.topics").topics
    for name in sorted(topics):
        for number, text in enumerate(_pieces(topics[name]), start=1):
            yield Passage(f"{name}, part {number}", "topic", name, text)


def _docstrings() -> Iterator[Passage]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # old modules of the standard library warn when they are imported
        for name in _MODULES:
            yield from _of_module(name)


def _of_module(name: str) -> Iterator[Passage]:
    try:
        module = importlib.import_module(name)
    except ImportError:
        return
    for label, thing in sorted(vars(module).items()):
        if label.startswith("_") or not (inspect.isclass(thing) or inspect.isroutine(thing)):
            continue
        members = sorted(vars(thing).items()) if inspect.isclass(thing) else []
        for title, item in [(f"{name}.{label}", thing), *((f"{name}.{label}.{key}", value) for key, value in members)]:
            text = inspect.getdoc(item) if title.count("._") == 0 else None
            for piece in _pieces(text or ""):
                yield Passage(title, "docstring", name, f"{title}\n{piece}")


def _pieces(text: str) -> Iterator[str]:
    """Cut a text at blank lines into pieces of about 900 characters, dropping those too short to say anything."""
    piece = ""
    for paragraph in re.split(r"\n\s*\n", text):
        if piece and len(piece) + len(paragraph) > _LENGTH:
            yield piece.strip()
            piece = ""
        piece += paragraph + "\n\n"
    if len(piece.strip()) >= 40:
        yield piece.strip()


def embed(text: str) -> NDArray[np.float32]:
    """Return a unit vector of 256 numbers: each word adds to one dimension that its hash chooses, rarer words more."""
    vector = np.zeros(DIMENSION, dtype=np.float32)
    for word, count in Counter(re.findall(r"[a-z0-9_]{2,}", text.lower())).items():
        digest = hashlib.blake2b(word.encode(), digest_size=8).digest()
        sign = 1.0 if digest[0] & 1 else -1.0
        vector[int.from_bytes(digest[1:5], "big") % DIMENSION] += sign * (1.0 + math.log(count)) * min(len(word), 12)
    length = float(np.linalg.norm(vector))
    return vector / length if length else np.full(DIMENSION, 1 / math.sqrt(DIMENSION), dtype=np.float32)
