"""Faults of messages: each is sent to a running node over DDS, which names and counts it, and answers the next frame."""

from __future__ import annotations

import array
import re
import struct

import cv2
import numpy as np
import pytest

pytest.importorskip("rclpy", reason="ROS 2 is not on the path")

from fault_bench import Bench, Fault  # noqa: E402
from ros_scenes import HEIGHT, WIDTH, big_endian, boxes, compressed_color, padded, quantised_depth  # noqa: E402
from sensor_msgs.msg import RegionOfInterest  # noqa: E402
from test_rvl import encode_rvl  # noqa: E402

from instseg_ros.nodes import segmenter as segmenter_module  # noqa: E402
from instseg_ros.nodes.messages import image_message  # noqa: E402


@pytest.fixture(scope="module", autouse=True)
def look_often():
    """The counters' second would make these tests slow."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(segmenter_module, "CHECK_PERIOD", 0.02)
        yield


@pytest.fixture(scope="module")
def raw():
    bench = Bench()
    yield bench
    bench.end()


@pytest.fixture(scope="module")
def compressed():
    bench = Bench(compressed=True)
    yield bench
    bench.end()


# ---- ways to break a message


def depth(**fields):
    return lambda d, i, c: _set(d, **fields)


def info(**fields):
    return lambda d, i, c: _set(i, **fields)


def color(**fields):
    return lambda d, i, c: _set(c, **fields)


def _set(message, **fields):
    for name, value in fields.items():
        setattr(message, name, value(message) if callable(value) else value)


def k(index, value):
    return lambda d, i, c: i.k.__setitem__(index, value)


def keep(count):
    """The first bytes only."""
    return lambda message: message.data[:count]


def frame_id(index, name):
    return lambda *scene: _set(scene[index].header, frame_id=name)


def metres(change):
    """Depth as 32FC1, with ``change`` made to the pixels."""

    def make(d, i, c):
        pixels = boxes()[0].depth.copy()
        change(pixels)
        return image_message(pixels, "32FC1", d.header), i, c

    return make


def all_metres(value):
    return metres(lambda pixels: pixels.__setitem__(slice(None), value))


def holes(pixels):
    """What a driver may put where it has no reading: the boxes stay."""
    pixels[0, ::5], pixels[0, 1::5], pixels[0, 2::5], pixels[1, :] = np.inf, -np.inf, -1.0, 0.0


def float_big_endian(d, i, c):
    message = image_message(boxes()[0].depth, "32FC1", d.header)
    message.data = array.array("B", np.frombuffer(message.data, "<f4").astype(">f4").tobytes())
    message.is_bigendian = 1
    return padded(message, 8), i, c


def half_size(message):
    pixels = np.frombuffer(message.data, np.uint8).reshape(HEIGHT, WIDTH, -1)[::2, ::2]
    return image_message(np.ascontiguousarray(pixels).view(np.uint16)[..., 0], "16UC1", message.header)


def half_color(d, i, c):
    pixels = np.frombuffer(c.data, np.uint8).reshape(HEIGHT, WIDTH, 3)[::2, ::2]
    return d, i, image_message(np.ascontiguousarray(pixels), "rgb8", c.header)


def encoded_color(encoding, pixels):
    return lambda d, i, c: (d, i, image_message(pixels, encoding, c.header))


BGR = np.ascontiguousarray(boxes(color=True)[0].color[..., ::-1])

WORKS = {
    "depth big-endian": Fault(lambda d, i, c: (big_endian(d), i, c)),
    "depth with padded rows": Fault(lambda d, i, c: (padded(d), i, c)),
    "depth with rows padded by one byte": Fault(lambda d, i, c: (padded(d, 1), i, c)),
    "depth big-endian with padded rows": Fault(lambda d, i, c: (padded(big_endian(d), 6), i, c)),
    "float depth big-endian with padded rows": Fault(float_big_endian),
    "depth called mono16": Fault(depth(encoding="mono16")),
    "depth data too long": Fault(depth(data=lambda m: m.data + array.array("B", b"\xab" * 99))),
    "last row of depth not padded": Fault(lambda d, i, c: _set(padded(d), data=keep(-10))),
    "float depth with NaN, inf and negative": Fault(metres(holes)),
    "color in another order": Fault(encoded_color("bgr8", BGR)),
    "color with padded rows": Fault(lambda d, i, c: (d, i, padded(c))),
    "info without frame_id": Fault(frame_id(1, "")),
    "info with distortion": Fault(info(d=[0.3, -0.1, 0.001, 0.002, 0.05])),
}

DEPTH = {
    "depth of 8 bits": Fault(depth(encoding="8UC1", step=WIDTH), "depth", "8UC1.*16UC1"),
    "depth of 8-bit gray": Fault(depth(encoding="mono8", step=WIDTH), "depth", "mono8.*16UC1"),
    "depth of signed 16 bits": Fault(depth(encoding="16SC1"), "depth", "16SC1.*16UC1"),
    "depth of 64-bit floats": Fault(depth(encoding="64FC1", step=8 * WIDTH), "depth", "64FC1.*32FC1"),
    "depth of two channels": Fault(depth(encoding="16UC2"), "depth", "16UC2"),
    "depth encoding unknown": Fault(depth(encoding="banana"), "depth", "banana"),
    "depth encoding empty": Fault(depth(encoding=""), "depth", "encoding ''"),
    "color on the depth topic": Fault(lambda d, i, c: (c, i, c), "depth", "rgb8"),
    "depth truncated": Fault(depth(data=keep(777)), "depth", "777.*truncated"),
    "depth truncated by one byte": Fault(depth(data=keep(-1)), "depth", "truncated"),
    "depth without data": Fault(depth(data=keep(0)), "depth", "truncated"),
    "depth step too small": Fault(depth(step=WIDTH), "depth", f"step is {WIDTH}"),
    "depth step 0": Fault(depth(step=0), "depth", "step is 0"),
    "depth step huge": Fault(depth(step=2**32 - 1), "depth", "truncated"),
    "depth height 0": Fault(depth(height=0), "depth", "empty"),
    "depth width 0": Fault(depth(width=0), "depth", "empty"),
    "depth height huge": Fault(depth(height=2**32 - 1), "depth", "truncated"),
    "depth width huge": Fault(depth(width=2**32 - 1), "depth", "step is"),
    "depth all zero": Fault(depth(data=lambda m: array.array("B", bytes(len(m.data)))), "no_depth", "no valid reading"),
    "depth all NaN": Fault(all_metres(np.nan), "no_depth", "no valid reading"),
    "depth all inf": Fault(all_metres(np.inf), "no_depth", "no valid reading"),
    "depth all negative": Fault(all_metres(-0.7), "no_depth", "no valid reading"),
    "depth of another size than info and color": Fault(lambda d, i, c: (half_size(d), i, c), "size", "80 x 60.*160 x 120"),
    "depth in another frame": Fault(frame_id(0, "depth_frame"), "frame_id", "'depth_frame'"),
}

INFO = {
    "info in another frame": Fault(frame_id(1, "imu_frame"), "frame_id", "'imu_frame'"),
    "info not calibrated": Fault(info(k=[0.0] * 9), "camera_info", "fx = 0"),
    "K[0] = 0": Fault(k(0, 0.0), "camera_info", "fx = 0"),
    "K NaN": Fault(k(0, np.nan), "camera_info", "fx = nan"),
    "K infinite": Fault(k(4, np.inf), "camera_info", "fy = inf"),
    "K negative": Fault(k(4, -150.0), "camera_info", "fy = -150"),
    "centre NaN": Fault(k(2, np.nan), "camera_info", "calibrate"),
    "info of another size": Fault(info(width=640, height=480), "size", "640 x 480"),
    "info without size": Fault(info(width=0, height=0), "size", "0 x 0"),
    "info of a region": Fault(info(roi=RegionOfInterest(width=80, height=60)), "size", "80 x 60"),
    "info of binned pixels": Fault(info(binning_x=4), "size", "40 x 120"),
}

COLOR = {
    "color of another size than depth": Fault(half_color, "size", "color is 80 x 60, depth is 160 x 120"),
    "color in another frame": Fault(frame_id(2, "left_eye"), "frame_id", "'left_eye'"),
    "color encoding unknown": Fault(color(encoding="infrared"), "color", "infrared"),
    "depth on the color topic": Fault(lambda d, i, c: (d, i, d), "color", "16UC1"),
    "color truncated": Fault(color(data=keep(1000)), "color", "1000.*truncated"),
    "color step too small": Fault(color(step=WIDTH), "color", f"step is {WIDTH}"),
    "color height 0": Fault(color(height=0), "color", "empty"),
    "YUV of odd width": Fault(color(encoding="yuv422_yuy2", width=WIDTH - 1), "color", "even"),
    "Bayer pattern truncated": Fault(color(encoding="bayer_rggb8", step=WIDTH, data=keep(100)), "color", "bayer_rggb8"),
}


@pytest.mark.parametrize("name", WORKS)
def test_unusual_messages_are_answered(raw, name):
    raw.check(WORKS[name])


@pytest.mark.parametrize("name", [*DEPTH, *INFO, *COLOR])
def test_bad_messages_are_skipped_counted_and_named(raw, name):
    raw.check((DEPTH | INFO | COLOR)[name])


# ---- compressed


def png(pixels):
    return cv2.imencode(".png", pixels)[1].tobytes()


def depth_data(make, format="16UC1; compressedDepth png"):
    """Compressed depth whose bytes are ``make`` of the good ones."""
    return lambda d, i, c: _set(d, format=format, data=array.array("B", make(bytes(d.data))))


def color_data(make):
    return lambda d, i, c: _set(c, data=array.array("B", make(bytes(c.data))))


MILLIMETRES = np.nan_to_num(boxes()[0].depth * 1000).round().astype(np.uint16)
HEADER = bytes(12)
RVL = struct.pack("<iffii", 0, 0, 0, WIDTH, HEIGHT) + encode_rvl(MILLIMETRES)
RVL_FORMAT = "16UC1; compressedDepth rvl"
JPEG = cv2.imencode(".jpg", np.full((HEIGHT, WIDTH), 90, np.uint8))[1].tobytes()


def quantised(d, i, c):
    return quantised_depth(image_message(MILLIMETRES, "16UC1", d.header)), i, c


def jpeg_color(d, i, c):
    return d, i, compressed_color(image_message(boxes(color=True)[0].color, "rgb8", c.header), ".jpg")


def half_jpeg_color(d, i, c):
    message = jpeg_color(d, i, c)[2]
    _set(message, data=keep(len(message.data) // 2))
    return d, i, message


def cut(count):
    return lambda data: data[:count]


COMPRESSED_WORKS = {
    "RVL": Fault(depth_data(lambda data: RVL, RVL_FORMAT)),
    "format of an old publisher": Fault(depth_data(lambda data: data, "16UC1; compressedDepth")),
    "PNG without header": Fault(depth_data(lambda data: data[12:])),
    "quantised float depth": Fault(quantised),
    "JPEG color": Fault(jpeg_color),
}

COMPRESSED = {
    "compressedDepth without data": Fault(depth_data(cut(0)), "depth", "no PNG"),
    "compressedDepth header truncated": Fault(depth_data(cut(5)), "depth", "no PNG"),
    "compressedDepth header alone": Fault(depth_data(cut(12)), "depth", "no PNG"),
    "compressedDepth header of rubbish, quantised": Fault(
        depth_data(lambda data: b"\xff" * 12 + data[12:], "32FC1; compressedDepth png"), "no_depth", "no valid reading"
    ),
    "compressedDepth of rubbish": Fault(depth_data(lambda data: b"\xab" * 500), "depth", "no PNG"),
    "PNG truncated": Fault(depth_data(cut(200)), "depth", "truncated"),
    "PNG truncated by one byte": Fault(depth_data(cut(-1)), "depth", "truncated"),
    "PNG with rubbish inside": Fault(depth_data(lambda data: data[:60] + b"\xab" * 9 + data[69:]), "depth", "corrupt"),
    "PNG of 8 bits": Fault(depth_data(lambda data: HEADER + png(np.ones((HEIGHT, WIDTH), np.uint8))), "depth", "uint8.*16-bit"),
    "PNG of three channels": Fault(depth_data(lambda data: HEADER + png(np.ones((HEIGHT, WIDTH, 3), np.uint16))), "depth", "16-bit"),
    "PNG of another size": Fault(depth_data(lambda data: HEADER + png(MILLIMETRES[::2])), "size", "160 x 60"),
    "PNG of all zero": Fault(depth_data(lambda data: HEADER + png(MILLIMETRES * 0)), "no_depth", "no valid reading"),
    "JPEG depth": Fault(depth_data(lambda data: JPEG, "mono8; jpeg compressed "), "depth", "compressedDepth, not .../compressed"),
    "JPEG behind a depth header": Fault(depth_data(lambda data: HEADER + JPEG), "depth", "no PNG"),
    "compressed depth of an unknown encoding": Fault(depth_data(lambda data: data, "8UC1; compressedDepth png"), "depth", "8UC1"),
    "compressed depth without format": Fault(depth_data(lambda data: data, ""), "depth", "format ''"),
    "float depth without quantisation": Fault(depth_data(lambda data: data[12:], "32FC1; compressedDepth png"), "depth", "32FC1"),
    "RVL without data": Fault(depth_data(cut(0), RVL_FORMAT), "depth", "no RVL header"),
    "RVL truncated": Fault(depth_data(lambda data: RVL[:-4], RVL_FORMAT), "depth", "truncated"),
    "RVL of rubbish": Fault(depth_data(lambda data: RVL[:20] + b"\xab" * 500, RVL_FORMAT), "depth", "corrupt|truncated"),
    "RVL of huge size": Fault(
        depth_data(lambda data: struct.pack("<iffii", 0, 0, 0, 2**30, 2**30) + RVL[20:], RVL_FORMAT), "depth", "1073741824 x.*corrupt"
    ),
    "PNG called RVL": Fault(depth_data(lambda data: data, RVL_FORMAT), "depth", "corrupt|truncated"),
    "JPEG color truncated": Fault(half_jpeg_color, "color", "truncated"),
    "compressed color without data": Fault(color_data(cut(0)), "color", "0 bytes"),
    "compressed color of rubbish": Fault(color_data(lambda data: b"\xab" * 300), "color", "corrupt"),
    "PNG color truncated": Fault(color_data(cut(150)), "color", "truncated"),
    "depth on the compressed color topic": Fault(lambda d, i, c: (d, i, d), "color", "is depth, not color"),
}


@pytest.mark.parametrize("name", COMPRESSED_WORKS)
def test_unusual_compressed_messages_are_answered(compressed, name):
    compressed.check(COMPRESSED_WORKS[name])


@pytest.mark.parametrize("name", COMPRESSED)
def test_bad_compressed_messages_are_skipped_counted_and_named(compressed, name):
    compressed.check(COMPRESSED[name])


# ---- camera info


def test_depth_without_info_waits_for_it(raw):
    d, i, c = raw.scene()
    before = raw.counts()
    stamp = raw.publish(d, None, c)
    assert raw.counts() == before
    raw.client._inputs["depth/camera_info"].publish(i)  # late
    raw.client.wait_for_stamp(stamp)
    raw.check_good_frame()
    assert raw.counts()["answered"] == before["answered"] + 2


def test_info_that_never_comes_costs_its_frame_only(raw):
    before = raw.counts()
    d, _, c = raw.scene()
    raw.publish(d, None, c)
    raw.check_good_frame()
    assert raw.counts()["answered"] == before["answered"] + 1


def test_new_intrinsics_count_from_the_frame_that_they_come_with(raw):
    d, i, c = raw.scene()
    i.k[0] = i.k[4] = 300.0
    raw.client.wait_for_stamp(raw.publish(d, i, c))
    assert raw.segmenter.frames[-1].K[0, 0] == 300.0
    raw.check_good_frame()


def test_a_new_size_counts_from_the_frame_that_it_comes_with(raw):
    d, i, c = raw.scene()
    i.width, i.height = WIDTH // 2, HEIGHT // 2
    answer = raw.client.wait_for_stamp(raw.publish(half_size(d), i, half_color(d, i, c)[2]))
    assert (answer.width, answer.height) == raw.segmenter.frames[-1].shape[::-1] == (WIDTH // 2, HEIGHT // 2)
    raw.check_good_frame()


def test_a_lens_that_distorts_is_named_once_and_its_frames_are_answered(raw):
    raw.check_good_frame()
    d, i, c = raw.scene()
    i.d = [-0.3, 0.1, 0.001, 0.002, 0.0]
    raw.client.wait_for_stamp(raw.publish(d, i, c))
    raw.client.wait_for_status(lambda s: re.search(r"moves the image's corners by \d+ pixels.*rectify", s["last_error"]))
    raw.check_good_frame()


def test_there_are_as_many_kinds_as_promised():
    assert len({**DEPTH, **INFO, **COLOR, **COMPRESSED}) >= 40
    assert all(fault.reason for fault in {**DEPTH, **INFO, **COLOR, **COMPRESSED}.values())
