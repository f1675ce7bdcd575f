"""zstd, at the level that the data is worth: vectors hardly compress, rows and text do, empty pages cost nothing."""

import os
from collections.abc import Generator, Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import IO, Literal, cast

import zstandard

from reanimate.storage.belts import Chunk, ChunkReader

__all__ = ["Kind", "choose_level", "compressed", "decompressed", "sample"]

Kind = Literal["vectors", "rows", "text"]
"""What a file mostly holds: a snapshot of vectors, a database dump, or plain text."""

_LADDERS: dict[Kind, tuple[int, ...]] = {"vectors": (-1, 3), "rows": (3, 9), "text": (3, 9)}
_WORTH: dict[Kind, float] = {"vectors": 0.2, "rows": 0.1, "text": 0.1}
"""The part of the file that a slower level must save on top, or it does not pay. Backups of vectors are many and large,
and whoever restores one waits."""
_SAMPLES = 32
_SAMPLE_BYTES = 64 << 10
_THREADS = min(4, os.cpu_count() or 1)
_JOB_BYTES = 4 << 20
_OUT_BYTES = 1 << 20
_LARGEST_WINDOW = 128 << 20


def sample(file: Path) -> list[bytes]:
    """Return some blocks spread evenly over a file; of a small one, all of it.

    Raises:
        OSError: it cannot be read.
    """
    size = file.stat().st_size
    step = max(_SAMPLE_BYTES, size // _SAMPLES)
    with file.open("rb", buffering=0) as source:
        blocks = []
        for offset in range(0, size, step):
            source.seek(offset)
            blocks.append(source.read(_SAMPLE_BYTES))
    return blocks


def choose_level(samples: Sequence[bytes], kind: Kind) -> int | None:
    """Return the zstd level for data like these samples, or None where compressing does not pay."""
    whole = sum(map(len, samples))
    chosen: int | None = None
    smallest = whole
    for level in _LADDERS[kind]:
        compressor = zstandard.ZstdCompressor(level=level)
        packed = sum(len(compressor.compress(block)) for block in samples)
        if smallest - packed > whole * _WORTH[kind]:
            chosen, smallest = level, packed
    return chosen


def compressed(chunks: Generator[Chunk, None, None], size: int, level: int) -> Generator[Chunk, None, None]:
    """Yield a stream of `size` bytes as one zstd frame with a checksum.

    Raises:
        zstandard.ZstdError: the stream is not of that size.
    """
    # The fast levels are bound by memory, not by the processor: threads only cost there.
    threads = _THREADS if level > 0 else 0
    extra = {"threads": threads, "job_size": _JOB_BYTES} if threads else {}
    params = zstandard.ZstdCompressionParameters.from_level(
        level, source_size=size, write_content_size=True, write_checksum=True, **extra
    )
    chunker = zstandard.ZstdCompressor(compression_params=params).chunker(size=size, chunk_size=_OUT_BYTES)
    with closing(chunks):
        for chunk in chunks:
            yield from chunker.compress(chunk)
        yield from chunker.finish()  # type: ignore[no-untyped-call]


def decompressed(chunks: Iterator[Chunk], most: int) -> Generator[Chunk, None, None]:
    """Yield what a zstd frame holds; a little more than `most` bytes at the very most, whatever the frame says.

    Raises:
        zstandard.ZstdError: it is no frame, is damaged, or asks for more memory than any of ours does.
    """
    reader = ChunkReader(chunks)
    source = cast(IO[bytes], reader)  # all that is asked of it is read()
    try:
        with zstandard.ZstdDecompressor(max_window_size=_LARGEST_WINDOW).stream_reader(
            source, read_size=1 << 20
        ) as out:
            left = most
            while left >= 0 and (chunk := out.read(_OUT_BYTES)):
                left -= len(chunk)
                yield chunk
    except zstandard.ZstdError:
        if reader.error is not None:
            raise reader.error from None
        raise
