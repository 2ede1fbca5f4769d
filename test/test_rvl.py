"""RVL depth against an encoder written from the paper's description, and against rubbish."""

from __future__ import annotations

import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from instseg_ros import images
from instseg_ros.errors import InputError
from instseg_ros.rvl import MAX_PIXELS, decode_rvl


def encode_rvl(image: np.ndarray) -> bytes:
    """Number by number, as the paper tells it."""
    nibbles: list[int] = []

    def put(number: int) -> None:
        while number > 7:
            nibbles.append(number & 7 | 8)
            number >>= 3
        nibbles.append(number)

    pixels = [int(v) for v in image.reshape(-1)]
    at = previous = 0
    while at < len(pixels):
        start = at
        while at < len(pixels) and pixels[at] == 0:
            at += 1
        put(at - start)
        start = at
        while at < len(pixels) and pixels[at] != 0:
            at += 1
        put(at - start)
        for value in pixels[start:at]:
            difference, previous = value - previous, value
            put(2 * difference if difference >= 0 else -2 * difference - 1)
    nibbles += [0] * (-len(nibbles) % 8)
    groups = ("".join(f"{n:x}" for n in nibbles[i : i + 8]) for i in range(0, len(nibbles), 8))
    return b"".join(struct.pack("<I", int(group, 16)) for group in groups)


def message(image: np.ndarray, a: float = 0.0, b: float = 0.0) -> bytes:
    """Data of a compressedDepth message: header, width and height, words."""
    height, width = image.shape
    return struct.pack("<iffii", 0, a, b, width, height) + encode_rvl(image)


def test_bytes_worked_out_by_hand():
    # 1 pixel empty, 2 filled: 1, 2; differences 5 → 10 = 001'010 → nibbles a, 1; −1 → 1; 1 empty, 0 filled: 1, 0; filling: 0.
    words = struct.pack("<I", 0x12A11100)
    np.testing.assert_array_equal(decode_rvl(words, 2, 2), [[0, 5], [4, 0]])
    assert encode_rvl(np.array([[0, 5], [4, 0]], np.uint16)) == words


images_of_depth = arrays.arrays(
    np.uint16,
    arrays.array_shapes(min_dims=2, max_dims=2, max_side=12),
    elements=st.one_of(st.just(0), st.integers(0, 65535), st.integers(700, 720)),
)


@given(images_of_depth)
def test_every_image_comes_back(image):
    np.testing.assert_array_equal(decode_rvl(encode_rvl(image), *image.shape), image)


@given(images_of_depth.filter(lambda image: image.any()), st.data())
def test_truncated_words_are_refused(image, data):
    words = encode_rvl(image)
    cut = data.draw(st.integers(0, len(words) - 4))
    with pytest.raises(InputError, match="truncated"):
        decode_rvl(words[: cut // 4 * 4], *image.shape)


@given(st.binary(max_size=80), st.integers(-3, 9), st.integers(-3, 9))
def test_any_bytes_give_an_image_or_an_input_error(data, height, width):
    try:
        image = decode_rvl(data, height, width)
    except InputError:
        return
    assert image.shape == (height, width) and image.dtype == np.uint16


@pytest.mark.parametrize("size", [(MAX_PIXELS, 2), (-2, -2), (0, 5)])
def test_a_header_of_rubbish_takes_no_memory(size):
    with pytest.raises(InputError, match="corrupt"):
        decode_rvl(b"\0" * 8, *size)


@pytest.mark.parametrize(
    ("word", "text"),
    [
        (0x05000000, "corrupt"),  # a run of 5 in an image of 4 pixels
        (0x00000000, "corrupt"),  # a run of nothing
        (0x04100000, "beyond 16 bits"),  # the first difference is −1
        (0xFFFFFFFF, "truncated"),  # a number without end
    ],
)
def test_words_that_make_no_sense_are_named(word, text):
    with pytest.raises(InputError, match=text):
        decode_rvl(struct.pack("<I", word), 2, 2)


def test_a_number_longer_than_any_that_makes_sense_is_refused():
    with pytest.raises(InputError, match="nibbles"):
        decode_rvl(struct.pack("<II", 0xFFFFFFFF, 0xF0000000), 2, 2)


def test_a_compressed_depth_topic_in_millimetres():
    millimetres = np.array([[0, 700, 701], [65535, 3, 0]], np.uint16)
    depth = images.decode_compressed_depth("16UC1; compressedDepth rvl", message(millimetres))
    np.testing.assert_array_equal(images.to_millimetres(depth), millimetres)
    assert np.isnan(depth[0, 0])


def test_a_compressed_depth_topic_in_metres_is_inverse_depth():
    a, b = 100.0 * 101.0, 1.0 - 100.0 * 101.0 / 10.0  # the publisher's depth_quantization = 100, depth_max = 10 m
    metres = np.array([[0.5, 2.0], [9.0, np.nan]], np.float32)
    stored = np.nan_to_num(np.rint(a / metres + b), nan=0).astype(np.uint16)
    depth = images.decode_compressed_depth("32FC1; compressedDepth rvl", message(stored, a, b))
    np.testing.assert_allclose(depth, metres, rtol=6e-3)  # quantised
