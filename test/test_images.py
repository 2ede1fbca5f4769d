"""Image bytes: encodings, strides, byte order and the compressed forms, against hand-made buffers."""

from __future__ import annotations

import struct

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from instseg_ros import images
from instseg_ros.errors import InputError

FIELDS = ("encoding", "height", "width", "step", "is_bigendian", "data")


def fields(image: np.ndarray, encoding: str) -> tuple:
    message = images.encode(image, encoding)
    return tuple(message[name] for name in FIELDS)


def test_depth_in_millimetres_with_padded_rows_and_either_byte_order():
    millimetres = np.array([[0, 1000, 65535], [1, 2, 300]], np.uint16)
    expected = np.array([[np.nan, 1.0, 65.535], [0.001, 0.002, 0.3]], np.float32)
    for order, flag in ((">", 1), ("<", 0)):
        rows = [row.astype(order + "u2").tobytes() + b"\xff" * 5 for row in millimetres]
        depth = images.decode_depth("16UC1", 2, 3, 11, flag, b"".join(rows))
        assert depth.dtype == np.float32
        np.testing.assert_allclose(depth, expected, rtol=1e-6)


def test_depth_in_metres_marks_every_invalid_value():
    metres = np.array([[0.5, np.nan, np.inf], [-np.inf, -1.0, 0.0]], np.float32)
    for order, flag in ((">", 1), ("<", 0)):
        depth = images.decode_depth("32FC1", 2, 3, 12, flag, metres.astype(order + "f4").tobytes())
        np.testing.assert_array_equal(depth, np.array([[0.5, np.nan, np.nan], [np.nan] * 3], np.float32))
        depth[0, 0] = 1.0  # a copy: messages are read-only


@pytest.mark.parametrize(
    ("encoding", "pixel"),
    [("rgb8", (10, 20, 30)), ("bgr8", (30, 20, 10)), ("rgba8", (10, 20, 30, 255)), ("bgra8", (30, 20, 10, 255))],
)
def test_color_order(encoding, pixel):
    image = np.broadcast_to(np.array(pixel, np.uint8), (4, 6, len(pixel)))
    np.testing.assert_array_equal(images.decode_color(*fields(image, encoding)), np.full((4, 6, 3), (10, 20, 30)))


def test_gray_and_yuv_become_rgb():
    gray = np.full((4, 6), 77, np.uint8)
    np.testing.assert_array_equal(images.decode_color(*fields(gray, "mono8")), np.full((4, 6, 3), 77))
    yuyv = np.dstack([gray, np.full_like(gray, 128)])
    rgb = images.decode_color(*fields(yuyv, "yuv422_yuy2"))
    assert rgb.shape == (4, 6, 3) and np.ptp(rgb) == 0


def test_layers_round_trip():
    layers = np.arange(3 * 4 * 5, dtype=np.uint16).reshape(3, 4, 5)
    message = images.encode_layers(layers)
    assert message["encoding"] == "16UC3" and message["step"] == 5 * 3 * 2
    np.testing.assert_array_equal(images.decode_layers(*(message[name] for name in FIELDS)), layers)


def test_compressed_depth_in_millimetres():
    millimetres = np.array([[0, 700], [65535, 3]], np.uint16)
    format, data = images.encode_compressed_depth(millimetres)
    expected = images.decode_depth(*fields(millimetres, "16UC1"))
    for older in (format, "16UC1; compressedDepth"):
        np.testing.assert_array_equal(images.decode_compressed_depth(older, data), expected)
    np.testing.assert_array_equal(images.decode_compressed_depth(format, data[12:]), expected)  # without the header


def test_compressed_depth_in_metres_is_inverse_depth():
    a, b = 100.0 * 101.0, 1.0 - 100.0 * 101.0 / 10.0  # the publisher's depth_quantization = 100, depth_max = 10 m
    metres = np.array([[0.5, 2.0], [9.0, np.nan]], np.float32)
    stored = np.nan_to_num(np.rint(a / metres + b), nan=0).astype(np.uint16)
    data = struct.pack("<iff", 0, a, b) + cv2.imencode(".png", stored)[1].tobytes()
    depth = images.decode_compressed_depth("32FC1; compressedDepth png", data)
    np.testing.assert_allclose(depth, metres, rtol=6e-3)  # quantised


def test_eight_bit_compressed_depth_is_refused():
    data = b"\0" * 12 + cv2.imencode(".png", np.full((4, 4), 9, np.uint8))[1].tobytes()
    with pytest.raises(InputError, match="16-bit"):
        images.decode_compressed_depth("16UC1; compressedDepth png", data)


def test_compressed_color():
    rgb = np.full((8, 8, 3), (200, 100, 50), np.uint8)
    png = cv2.imencode(".png", rgb[..., ::-1])[1].tobytes()
    np.testing.assert_array_equal(images.decode_compressed_color("rgb8; png compressed bgr8", png), rgb)
    np.testing.assert_array_equal(images.decode_compressed_color("png", png), rgb)
    as_stored = cv2.imencode(".png", rgb)[1].tobytes()
    np.testing.assert_array_equal(images.decode_compressed_color("rgb8; png compressed rgb8", as_stored), rgb)


@pytest.mark.parametrize("extension", [".png", ".jpg"])
def test_a_picture_without_its_end_is_refused_whatever_opencv_makes_of_it(extension, monkeypatch):
    picture = cv2.imencode(extension, np.random.default_rng(0).integers(0, 255, (16, 16, 3), np.uint8))[1].tobytes()
    whole = images.decode_compressed_color("x", picture)
    np.testing.assert_array_equal(images.decode_compressed_color("x", picture + b"\0" * 100), whole)  # a buffer not filled
    monkeypatch.setattr(images.cv2, "imdecode", lambda *_: whole)  # as old OpenCVs do, which give the upper part
    for keep in range(2 if extension == ".jpg" else 4, len(picture)):
        with pytest.raises(InputError, match="truncated"):
            images.decode_compressed_color("x", picture[:keep])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: images.decode_depth("mono8", 1, 1, 1, 0, b"\0"), "mono8.*16UC1"),
        (lambda: images.decode_depth("16UC1", 2, 3, 4, 0, b"\0" * 8), "step is 4"),
        (lambda: images.decode_depth("16UC1", 2, 3, 6, 0, b"\0" * 11), "truncated"),
        (lambda: images.decode_depth("16UC1", 0, 3, 6, 0, b""), "empty"),
        (lambda: images.decode_color("bayer_rggb8", 2, 2, 2, 0, b"\0" * 4), "bayer_rggb8"),
        (lambda: images.decode_layers("32FC1", 2, 2, 8, 0, b"\0" * 16), "16UC"),
        (lambda: images.decode("99XY", 2, 2, 8, 0, b"\0" * 16), "99XY"),
        (lambda: images.decode_compressed_depth("16UC1; compressedDepth rvl", b"\0" * 40), "0 x 0.*corrupt"),
        (lambda: images.decode_compressed_depth("16UC1; compressedDepth rvl", b"\0" * 19), "no RVL header"),
        (lambda: images.decode_compressed_depth("16UC1; compressedDepth png", b"\0" * 12 + b"\x89PNG"), "corrupt"),
        (lambda: images.decode_compressed_depth("", b""), "no PNG"),
        (lambda: images.decode_compressed_color("jpeg", b"not a jpeg"), "corrupt"),
        (lambda: images.decode_compressed_color("jpeg", b""), "corrupt"),
    ],
)
def test_bad_bytes_name_what_is_wrong(call, message):
    with pytest.raises(InputError, match=message):
        call()


@given(
    st.sampled_from(["16UC1", "32FC1", "mono8", "rgb8", "16UC0", "8UC3", "16UC"]),
    st.integers(-1, 6),
    st.integers(-1, 6),
    st.integers(-1, 40),
    st.integers(0, 1),
    st.binary(max_size=80),
)
def test_any_bytes_give_an_image_or_an_input_error(encoding, height, width, step, big, data):
    for decode in (images.decode_depth, images.decode_color, images.decode_layers):
        try:
            image = decode(encoding, height, width, step, big, data)
        except InputError:
            continue
        assert image.shape[-2:] == (height, width) or image.shape[:2] == (height, width)


@given(st.binary(max_size=60), st.sampled_from(["16UC1; compressedDepth png", "32FC1; compressedDepth", "a; rvl", "jpeg", ""]))
def test_any_compressed_bytes_are_refused_in_one_line(data, format):
    for decode in (images.decode_compressed_depth, images.decode_compressed_color):
        with pytest.raises(InputError):
            decode(format, data)


def test_millimetres_of_metres():
    metres = np.array([[0.0004, 0.7, np.nan], [70.0, np.inf, -1.0]], np.float32)
    np.testing.assert_array_equal(images.to_millimetres(metres), [[0, 700, 0], [0, 0, 0]])
