"""The behaviour of message_filters, cv_bridge and sensor_msgs_py that the nodes count on.

On a machine with ROS installed these tests run against the real packages, elsewhere against the stand-ins of compat/.
"""

from __future__ import annotations

import array
import inspect
import random
import threading
from types import SimpleNamespace

import cv2
import numpy as np
import pytest

pytest.importorskip("rclpy", reason="ROS 2 is not on the path")

import message_filters  # noqa: E402
from cv_bridge import CvBridge, CvBridgeError  # noqa: E402
from message_filters import ApproximateTimeSynchronizer, SimpleFilter, TimeSynchronizer  # noqa: E402
from rclpy.time import Time  # noqa: E402
from sensor_msgs.msg import CompressedImage, Image, PointField  # noqa: E402
from sensor_msgs_py import point_cloud2  # noqa: E402
from std_msgs.msg import Header  # noqa: E402

# ---- message_filters


def message(seconds: float, name: str = "") -> SimpleNamespace:
    stamp = Time(nanoseconds=round(seconds * 1e9)).to_msg()
    return SimpleNamespace(header=SimpleNamespace(stamp=stamp), name=name)


def synchronize(inputs: int, make=ApproximateTimeSynchronizer, **options):
    """Filters, their synchroniser, and the list that its output goes to."""
    filters = [SimpleFilter() for _ in range(inputs)]
    options.setdefault("queue_size", 10)
    if make is ApproximateTimeSynchronizer:
        options.setdefault("slop", 0.1)
    synchronizer = make(filters, **options)
    out: list[tuple] = []
    synchronizer.registerCallback(lambda *messages: out.append(tuple(m.name for m in messages)))
    return filters, synchronizer, out


def test_callbacks_come_in_order_with_their_arguments():
    source, calls = SimpleFilter(), []
    source.registerCallback(lambda m, extra: calls.append((m, extra)), "first")
    source.registerCallback(lambda m: calls.append((m, None)))
    source.signalMessage("hello")
    assert calls == [("hello", "first"), ("hello", None)]


def test_messages_within_slop_come_out_together_and_once():
    (a, b), _, out = synchronize(2)
    for t in range(5):
        a.signalMessage(message(t, f"a{t}"))
        assert len(out) == t
        b.signalMessage(message(t + 0.05, f"b{t}"))
    assert out == [(f"a{t}", f"b{t}") for t in range(5)]


@pytest.mark.parametrize(("distance", "together"), [(0.0, True), (0.0999, True), (0.1, False), (0.11, False)])
def test_the_span_must_be_smaller_than_slop(distance, together):
    (a, b), _, out = synchronize(2)
    a.signalMessage(message(1, "a"))
    b.signalMessage(message(1 + distance, "b"))
    assert bool(out) is together


def test_slop_of_zero_never_matches_even_equal_stamps():
    (a, b), _, out = synchronize(2, slop=0.0)
    a.signalMessage(message(1))
    b.signalMessage(message(1))
    assert out == []


def test_the_nearest_stamp_wins():
    (a, b), _, out = synchronize(2)
    for offset in (0.0, 0.04, 0.08):
        a.signalMessage(message(1 + offset, f"{offset}"))
    b.signalMessage(message(1.05, "b"))
    assert out == [("0.04", "b")]


def test_three_inputs_wait_for_the_last():
    (a, b, c), _, out = synchronize(3)
    c.signalMessage(message(1.02, "c"))
    a.signalMessage(message(1.0, "a"))
    assert out == []
    b.signalMessage(message(1.05, "b"))
    assert out == [("a", "b", "c")]


def test_three_inputs_must_lie_within_slop_of_each_other_not_only_of_the_newest():
    (a, b, c), _, out = synchronize(3)
    a.signalMessage(message(0.92, "a"))
    b.signalMessage(message(1.08, "b"))
    c.signalMessage(message(1.0, "c"))
    assert out == []


def test_shuffled_messages_are_paired_by_their_stamps():
    (a, b), _, out = synchronize(2, queue_size=20)
    order = list(range(20))
    random.Random(1).shuffle(order)
    for t in order:
        a.signalMessage(message(t, t))
    random.Random(2).shuffle(order)
    for t in order:
        b.signalMessage(message(t, t))
    assert out == [(t, t) for t in order]


def test_beyond_queue_size_the_oldest_stamps_are_forgotten():
    (a, b), _, out = synchronize(2, queue_size=3)
    for t in range(5):
        a.signalMessage(message(t, t))
    for t in range(5):
        b.signalMessage(message(t, t))
    assert out == [(2, 2), (3, 3), (4, 4)]


def test_after_time_jumped_back_nothing_comes_out():
    """The trap of looped bags, which the node must avoid by starting a new synchroniser."""
    (a, b), _, out = synchronize(2, queue_size=2)
    for t in (100, 101):
        a.signalMessage(message(t, t))  # b is late: the queue of a is full of late stamps
    for t in range(5):
        a.signalMessage(message(t, t))
        b.signalMessage(message(t, t))
    assert out == []


def test_messages_without_header_are_refused_unless_allowed():
    (a, b), _, out = synchronize(2)
    a.signalMessage(SimpleNamespace(name="a"))
    b.signalMessage(SimpleNamespace(name="b"))
    assert out == []
    (a, b), _, out = synchronize(2, slop=5.0, allow_headerless=True)
    a.signalMessage(SimpleNamespace(name="a"))
    b.signalMessage(SimpleNamespace(name="b"))
    assert out == [("a", "b")]


def test_arrival_time_may_stand_in_for_the_stamp():
    if "sync_arrival_time" not in inspect.signature(ApproximateTimeSynchronizer).parameters:
        pytest.skip("this message_filters is older than sync_arrival_time (before Kilted)")
    (a, b), _, out = synchronize(2, slop=5.0, sync_arrival_time=True)
    a.signalMessage(message(1, "a"))
    b.signalMessage(message(1000, "b"))
    assert out == [("a", "b")]


def test_exact_synchronizer_takes_equal_stamps_only():
    (a, b), _, out = synchronize(2, TimeSynchronizer)
    a.signalMessage(message(1, "a1"))
    b.signalMessage(message(1.001, "late"))
    assert out == []
    b.signalMessage(message(1, "b1"))
    assert out == [("a1", "b1")]


def test_inputs_may_come_from_several_threads():
    (a, b), _, out = synchronize(2, queue_size=400)
    threads = [
        threading.Thread(target=lambda f=f: [f.signalMessage(message(t, t)) for t in range(300)]) for f in (a, b)
    ]
    [t.start() for t in threads]
    [t.join() for t in threads]
    assert sorted(out) == [(t, t) for t in range(300)]


def test_subscriber_passes_on_what_is_published(ros_context):
    from rclpy.executors import SingleThreadedExecutor
    from rclpy.node import Node

    node = Node("listener", context=ros_context)
    subscriber = message_filters.Subscriber(node, Header, "topic", qos_profile=5)
    heard = []
    subscriber.registerCallback(heard.append)
    publisher = node.create_publisher(Header, "topic", 5)
    executor = SingleThreadedExecutor(context=ros_context)
    executor.add_node(node)
    for _ in range(200):
        publisher.publish(Header(frame_id="x"))
        executor.spin_once(timeout_sec=0.05)
        if heard:
            break
    assert heard[0].frame_id == "x"
    assert node.destroy_subscription(subscriber.sub)
    node.destroy_node()


# ---- cv_bridge


def image(pixels: np.ndarray, encoding: str) -> Image:
    found = Image(height=pixels.shape[0], width=pixels.shape[1], encoding=encoding, step=pixels.strides[0])
    found.data = array.array("B", pixels.tobytes())
    return found


@pytest.mark.parametrize(
    ("dtype", "channels", "encoding"),
    [("uint8", 1, "8UC1"), ("uint8", 3, "8UC3"), ("uint16", 1, "16UC1"), ("int16", 2, "16SC2"), ("float32", 1, "32FC1"),
     ("int32", 4, "32SC4"), ("float64", 3, "64FC3"), ("int8", 1, "8SC1")],
)  # fmt: skip
def test_pixels_survive_both_ways(dtype, channels, encoding):
    rng = np.random.default_rng(0)
    shape = (5, 7) if channels == 1 else (5, 7, channels)
    pixels = rng.integers(-100, 100, shape).astype(dtype)
    header = Header(frame_id="lens")
    found = CvBridge().cv2_to_imgmsg(pixels, header=header)
    assert (found.encoding, found.height, found.width, found.step) == (encoding, 5, 7, pixels.strides[0])
    assert found.header.frame_id == "lens"
    np.testing.assert_array_equal(CvBridge().imgmsg_to_cv2(found), pixels)


def test_named_encoding_must_fit_the_pixels():
    pixels = np.zeros((4, 4, 3), np.uint8)
    assert CvBridge().cv2_to_imgmsg(pixels, "rgb8").encoding == "rgb8"
    with pytest.raises(CvBridgeError):
        CvBridge().cv2_to_imgmsg(pixels, "mono8")
    with pytest.raises(CvBridgeError):
        CvBridge().cv2_to_imgmsg(pixels, "rgb16")
    with pytest.raises(TypeError):
        CvBridge().cv2_to_imgmsg([[1, 2], [3, 4]])


def test_padding_behind_rows_is_left_out():
    pixels = np.arange(40, dtype=np.uint8).reshape(4, 10)
    found = image(pixels, "mono8")
    found.width = 7
    np.testing.assert_array_equal(CvBridge().imgmsg_to_cv2(found), pixels[:, :7])


def test_truncated_and_unknown_images_are_refused():
    found = image(np.zeros((4, 4), np.uint16), "16UC1")
    found.data = found.data[:20]
    with pytest.raises(TypeError):
        CvBridge().imgmsg_to_cv2(found)
    with pytest.raises(CvBridgeError):
        CvBridge().imgmsg_to_cv2(image(np.zeros((4, 4), np.uint8), "banana"))


def test_big_endian_pixels_keep_their_values():
    if np.lib.NumpyVersion(np.__version__) >= "2.0.0" and "compat" not in inspect.getfile(CvBridge):
        pytest.skip("the real cv_bridge swaps bytes with a method that NumPy 2 removed")
    found = image(np.arange(12, dtype=">u2").reshape(3, 4), "16UC1")
    found.is_bigendian = 1
    np.testing.assert_array_equal(CvBridge().imgmsg_to_cv2(found), np.arange(12).reshape(3, 4))


COLOR = np.random.default_rng(3).integers(0, 256, (6, 8, 3), dtype=np.uint8)


@pytest.mark.parametrize(
    ("source", "target", "expected"),
    [
        ("rgb8", "bgr8", COLOR[..., ::-1]),
        ("rgb8", "rgba8", np.dstack([COLOR, np.full((6, 8), 255, np.uint8)])),
        ("rgb8", "mono8", cv2.cvtColor(COLOR, cv2.COLOR_RGB2GRAY)),
        ("bgr8", "rgb8", COLOR[..., ::-1]),
        ("rgb8", "rgb16", COLOR.astype(np.uint16) * 257),
        ("rgb8", "bgr16", COLOR[..., ::-1].astype(np.uint16) * 257),
        ("rgb8", "8UC3", COLOR),
        ("rgb8", "passthrough", COLOR),
    ],
)
def test_colors_are_converted(source, target, expected):
    np.testing.assert_array_equal(CvBridge().imgmsg_to_cv2(image(COLOR, source), target), expected)


def test_sixteen_bits_become_eight_with_white_staying_white():
    gray = np.array([[0, 257, 32768, 65535]], np.uint16)
    np.testing.assert_array_equal(CvBridge().imgmsg_to_cv2(image(gray, "mono16"), "mono8"), [[0, 1, 128, 255]])


@pytest.mark.parametrize(("pattern", "red"), [("rggb", (0, 0)), ("bggr", (1, 1)), ("gbrg", (1, 0)), ("grbg", (0, 1))])
def test_bayer_patterns(pattern, red):
    mosaic = np.zeros((12, 12), np.uint8)
    mosaic[red[0] :: 2, red[1] :: 2] = 200
    inside = CvBridge().imgmsg_to_cv2(image(mosaic, f"bayer_{pattern}8"), "rgb8")[3:-3, 3:-3]
    assert inside[..., 0].min() == 200 and inside[..., 1:].max() == 0


@pytest.mark.parametrize(("encoding", "order"), [("yuv422", "UYVY"), ("yuv422_yuy2", "YUYV")])
def test_yuv_gray_is_its_luma(encoding, order):
    pixels = np.zeros((4, 6, 2), np.uint8)
    pixels[..., order.index("Y")] = 77
    pixels[..., 1 - order.index("Y")] = 128
    np.testing.assert_array_equal(CvBridge().imgmsg_to_cv2(image(pixels, encoding), "mono8"), np.full((4, 6), 77))


@pytest.mark.parametrize(("source", "target"), [("8UC3", "rgb8"), ("16UC1", "mono8"), ("rgb8", "8UC1"), ("rgb8", "bayer_rggb8")])
def test_conversions_without_meaning_are_refused(source, target):
    pixels = COLOR if source != "16UC1" else np.zeros((4, 4), np.uint16)
    with pytest.raises(CvBridgeError):
        CvBridge().imgmsg_to_cv2(image(pixels, source), target)


def test_compressed_images_both_ways():
    packed = CvBridge().cv2_to_compressed_imgmsg(COLOR, "png")
    assert isinstance(packed, CompressedImage) and packed.format == "png"
    np.testing.assert_array_equal(CvBridge().compressed_imgmsg_to_cv2(packed), COLOR)
    np.testing.assert_array_equal(CvBridge().compressed_imgmsg_to_cv2(packed, "rgb8"), COLOR[..., ::-1])


# ---- sensor_msgs_py.point_cloud2

FIELDS = [
    PointField(name="x", offset=0, datatype=PointField.FLOAT32, count=1),
    PointField(name="y", offset=4, datatype=PointField.FLOAT32, count=1),
    PointField(name="label", offset=8, datatype=PointField.UINT16, count=1),
]
ROWS = [(1.5, -2.0, 7), (float("nan"), 0.0, 8), (3.0, 4.0, 65535)]


def test_clouds_of_tuples_and_of_structured_arrays_are_the_same():
    header = Header(frame_id="lens")
    tuples = point_cloud2.create_cloud(header, FIELDS, ROWS)
    rows = np.array(ROWS, point_cloud2.dtype_from_fields(FIELDS))
    structured = point_cloud2.create_cloud(header, FIELDS, rows)
    assert tuples == structured
    assert (tuples.width, tuples.height, tuples.point_step, tuples.row_step) == (3, 1, 10, 30)
    assert tuples.header.frame_id == "lens" and not tuples.is_dense and not tuples.is_bigendian
    assert point_cloud2.read_points(tuples).tobytes() == rows.tobytes()


def test_points_are_selected_by_field_index_and_validity():
    cloud = point_cloud2.create_cloud(Header(), FIELDS, ROWS)
    assert point_cloud2.read_points(cloud, ["label"])["label"].tolist() == [7, 8, 65535]
    assert point_cloud2.read_points(cloud, ["x", "label"], skip_nans=True)["label"].tolist() == [7, 65535]
    assert point_cloud2.read_points(cloud, uvs=[2, 0])["label"].tolist() == [65535, 7]
    np.testing.assert_array_equal(
        point_cloud2.read_points_numpy(cloud, ["x", "y"], skip_nans=True), np.array([[1.5, -2], [3, 4]], np.float32)
    )
    assert point_cloud2.read_points_list(cloud)[0].label == 7
    with pytest.raises(AssertionError):
        point_cloud2.read_points_numpy(cloud)
    with pytest.raises(AssertionError):
        point_cloud2.read_points(cloud, ["z"])


def test_point_step_may_leave_room_and_fields_may_repeat():
    fields = [PointField(name="f", offset=4, datatype=PointField.INT16, count=3)]
    assert point_cloud2.dtype_from_fields(fields).names == ("f_0", "f_1", "f_2")
    cloud = point_cloud2.create_cloud(Header(), fields, [(1, 2, 3), (4, 5, 6)], point_step=16)
    assert cloud.point_step == 16 and len(cloud.data) == 32
    np.testing.assert_array_equal(point_cloud2.read_points_numpy(cloud), [[1, 2, 3], [4, 5, 6]])


def test_plain_arrays_and_xyz_clouds():
    points = np.arange(12, dtype=np.float32).reshape(4, 3)
    cloud = point_cloud2.create_cloud_xyz32(Header(), points)
    assert [f.name for f in cloud.fields] == ["x", "y", "z"]
    np.testing.assert_array_equal(point_cloud2.read_points_numpy(cloud), points)
    with pytest.raises(AssertionError):
        point_cloud2.create_cloud(Header(), FIELDS, points)


def test_organized_clouds_come_back_in_their_shape():
    fields = FIELDS[:2]
    rows = np.zeros((4, 3), point_cloud2.dtype_from_fields(fields))
    rows["x"] = np.arange(12).reshape(4, 3)
    cloud = point_cloud2.create_cloud(Header(), fields, rows)
    assert (cloud.width, cloud.height) == (4, 3)
    np.testing.assert_array_equal(point_cloud2.read_points(cloud, reshape_organized_cloud=True)["x"], rows["x"])


def test_big_endian_points_keep_their_values():
    cloud = point_cloud2.create_cloud_xyz32(Header(), np.ones((2, 3), np.float32))
    cloud.data = array.array("B", np.full((2, 3), 2.5, ">f4").tobytes())
    cloud.is_bigendian = True
    np.testing.assert_array_equal(point_cloud2.read_points_numpy(cloud), np.full((2, 3), 2.5))
