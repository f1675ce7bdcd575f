"""age encryption of a stream (https://age-encryption.org/v1), as the `age` program reads and writes it."""

from collections.abc import Generator, Sequence
from contextlib import closing
from io import BytesIO
from typing import TypeAlias

import pyrage
from pyrage import ssh, x25519

from reanimate.storage.belts import Chunk, ChunkReader, Stopped, Write, beside

__all__ = ["HEADER_BYTES", "Identity", "Recipient", "Sealed", "can_open", "decrypted", "encrypted", "is_encrypted"]

Recipient: TypeAlias = x25519.Recipient | ssh.Recipient
Identity: TypeAlias = x25519.Identity | ssh.Identity

HEADER_BYTES = 64 << 10
"""The header is at the front, some hundred bytes for each recipient."""

_MAGIC = b"age-encryption.org/v1\n"
_NO_MATCH = "No matching keys found"
_OUT_BYTES = 1 << 20


class Sealed(Exception):
    """An age file that cannot be opened, and why in words."""


class _Writer:
    """A file that can only be written; gathers the small pieces that age writes into chunks.

    Keeps the error of whoever takes the chunks, which age turns to text.
    """

    def __init__(self, write: Write) -> None:
        self._write = write
        self._gathered = bytearray()
        self.error: BaseException | None = None

    def write(self, piece: bytes) -> int:
        self._gathered += piece
        if len(self._gathered) >= _OUT_BYTES:
            self.flush()
        return len(piece)

    def flush(self) -> None:
        chunk, self._gathered = self._gathered, bytearray()
        try:
            if chunk:
                self._write(chunk)
        except BaseException as error:
            self.error = error
            raise


def encrypted(chunks: Generator[Chunk, None, None], recipients: Sequence[Recipient]) -> Generator[Chunk, None, None]:
    """Yield a stream as one age file that each of the recipients can open, in a thread of its own."""

    def work(write: Write) -> None:
        reader, writer = ChunkReader(chunks), _Writer(write)
        with closing(chunks):
            try:
                pyrage.encrypt_io(reader, writer, recipients)
                writer.flush()
            except Exception:
                if error := reader.error or writer.error:
                    raise error from None
                raise

    return beside(work)


def decrypted(chunks: Generator[Chunk, None, None], identities: Sequence[Identity]) -> Generator[Chunk, None, None]:
    """Yield what an age file holds, in a thread of its own.

    Raises:
        Sealed: none of the identities can open it, it is cut or damaged, or it is no age file.
    """

    def work(write: Write) -> None:
        reader, writer = ChunkReader(chunks), _Writer(write)
        with closing(chunks):
            try:
                pyrage.decrypt_io(reader, writer, identities)
                writer.flush()
            except (pyrage.DecryptError, OSError, Stopped) as error:
                if cause := reader.error or writer.error:
                    raise cause from None
                raise Sealed(_told(error, len(identities))) from None

    return beside(work)


def is_encrypted(head: bytes) -> bool:
    """Say whether a file that begins like this is an age file."""
    return head.startswith(_MAGIC)


def can_open(head: bytes, identities: Sequence[Identity]) -> bool:
    """Say whether one of the identities opens the age file that begins with `head` (`HEADER_BYTES` are enough).

    Raises:
        Sealed: it is no age file, or its header is damaged.
    """
    try:
        pyrage.decrypt_io(BytesIO(head), BytesIO(), identities)
    except pyrage.DecryptError as error:
        if str(error) == _NO_MATCH:
            return False
        raise Sealed(_told(error, len(identities))) from None
    except OSError:
        return True  # the header opened, and the rest is not here
    return True


def _told(error: BaseException, identities: int) -> str:
    if str(error) == _NO_MATCH:
        return f"none of the {identities} identities can open it" if identities else "there is no identity to open it"
    if isinstance(error, pyrage.DecryptError):
        return "its age header is damaged or is none"
    return "its encrypted content is damaged or cut"
