"""Single-precision numbers, as scores and vectors are."""

import struct

__all__ = ["shortest"]

_SINGLE = struct.Struct("<f")


def shortest(value: float) -> float:
    """Return the shortest decimal that is the same single-precision number, as servers print it."""
    value = _SINGLE.unpack(_SINGLE.pack(value))[0]
    for digits in (6, 7, 8):
        candidate = float(f"{value:.{digits}g}")
        if _SINGLE.unpack(_SINGLE.pack(candidate))[0] == value:
            return candidate
    return float(f"{value:.9g}")
