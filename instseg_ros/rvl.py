"""RVL, the lossless depth codec of compressedDepth topics with ``format: rvl``: Wilson, *Fast Lossless Depth Image
Compression*, ISS 2017.

The image, row after row, is a sequence of runs: how many pixels without a reading, how many with one, and for each of
those the difference to the one before (the first: to 0). Signed numbers are folded, 0, −1, 1, −2, … → 0, 1, 2, 3, …
Every number is cut into groups of 3 bits, lowest first, each a nibble whose top bit says that another follows; eight
nibbles make a 32-bit little-endian word, the first in its top bits.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from .errors import InputError

MAX_PIXELS = 1 << 26
"""Larger images are taken for rubbish: runs without readings take no bytes, so the length of the data bounds nothing."""
MAX_NIBBLES = 9
"""Of one number: 27 bits hold every run up to ``MAX_PIXELS`` and every folded difference (17 bits)."""


def decode_rvl(data: Any, height: int, width: int) -> np.ndarray:
    """Compressed words → (H, W) uint16, 0 = no reading.

    Raises:
        InputError: the data end too early, or they are not RVL.
    """
    size = height * width
    if min(height, width) <= 0 or size > MAX_PIXELS:
        raise InputError(f"RVL header says {width} x {height} pixels: it is corrupt")
    numbers = _numbers(np.frombuffer(data, np.uint8))
    number = memoryview(numbers)  # gives Python's integers, which the loop over thousands of runs wants
    is_difference = np.zeros(len(numbers), bool)
    valid = np.zeros(size, bool)
    pixel = at = 0
    while pixel < size:
        if at + 2 > len(numbers):
            raise InputError(f"RVL depth ends after {pixel} of {size} pixels: it is truncated")
        empty, filled = number[at], number[at + 1]
        start, end = pixel + empty, pixel + empty + filled
        at += 2
        if end > size or end == pixel:
            raise InputError(f"RVL depth has a run of {empty} + {filled} pixels at pixel {pixel} of {size}: it is corrupt")
        if at + filled > len(numbers):
            raise InputError(f"RVL depth ends after {start} of {size} pixels: it is truncated")
        valid[start:end] = is_difference[at : at + filled] = True
        pixel, at = end, at + filled
    folded = numbers[is_difference]
    values = np.cumsum((folded >> 1) ^ -(folded & 1))
    if values.size and not (values.min() >= 0 and values.max() <= 65535):
        raise InputError(f"RVL depth reaches from {values.min()} to {values.max()}, beyond 16 bits: it is corrupt")
    image = np.zeros(size, np.uint16)
    image[valid] = values
    return image.reshape(height, width)


def _numbers(data: np.ndarray) -> np.ndarray:
    """All numbers in the words of ``data`` (n,) uint8, as (m,) int32; the zeros that fill the last word are among them."""
    swapped = data[: data.size // 4 * 4].reshape(-1, 4)[:, ::-1]  # the first nibble of a word lies in its last byte
    nibbles = np.empty((*swapped.shape, 2), np.uint8)
    nibbles[..., 0], nibbles[..., 1] = swapped >> 4, swapped & 15
    nibbles = nibbles.reshape(-1)
    ends = np.flatnonzero(nibbles < 8)  # nibbles after the last of them are an unfinished number
    lengths = np.diff(ends, prepend=-1)
    longest = int(lengths.max(initial=1))
    if longest > MAX_NIBBLES:
        raise InputError(f"RVL depth has a number of {longest} nibbles, {MAX_NIBBLES} at most make sense: it is corrupt")
    numbers = nibbles[ends].astype(np.int32)
    for place in range(1, longest):
        (longer,) = np.nonzero(lengths > place)
        numbers[longer] = numbers[longer] << 3 | nibbles[ends[longer] - place] & 7
    return numbers
