"""Messages ↔ Frame and Instances → messages, against scenes whose truth is known."""

from __future__ import annotations

import array
import importlib.util
import sys
import types
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("rclpy", reason="ROS 2 is not on the path")

from ros_scenes import (  # noqa: E402
    FRAME_ID,
    HEIGHT,
    WIDTH,
    K,
    answer,
    big_endian,
    boxes,
    compressed_color,
    compressed_depth,
    messages,
    padded,
    quantised_depth,
)
from sensor_msgs.msg import CompressedImage, Image, RegionOfInterest  # noqa: E402
from sensor_msgs_py import point_cloud2  # noqa: E402
from visualization_msgs.msg import Marker  # noqa: E402

from instseg_ros.camera_info import distortion_pixels  # noqa: E402
from instseg_ros.errors import InputError  # noqa: E402
from instseg_ros.frame import Frame  # noqa: E402
from instseg_ros.geometry import deproject  # noqa: E402
from instseg_ros.instances import Instances  # noqa: E402
from instseg_ros.nodes import answers  # noqa: E402
from instseg_ros.nodes.markers import markers  # noqa: E402
from instseg_ros.nodes.messages import (  # noqa: E402
    BadFrame,
    frame_from_messages,
    frame_to_messages,
    image_message,
    intrinsics,
    labels_from_message,
    stamp_ns,
)

# ---- camera → Frame


@pytest.mark.parametrize("change", [lambda m: m, big_endian, padded, compressed_depth])
def test_millimetres_in_every_form_give_the_same_metres(change):
    truth, _ = boxes()
    depth, info, _ = messages()
    frame = frame_from_messages(change(depth), info)
    np.testing.assert_array_equal(frame.depth, truth.depth)
    np.testing.assert_array_equal(frame.K, K)
    assert (frame.stamp_ns, frame.frame_id, frame.color) == (truth.stamp_ns, FRAME_ID, None)


def test_mono16_counts_as_millimetres():
    depth, info, _ = messages()
    depth.encoding = "mono16"
    np.testing.assert_array_equal(frame_from_messages(depth, info).depth, boxes()[0].depth)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 0.0, -1.0])
def test_float_depth_is_metres_and_whatever_is_no_length_is_missing(bad):
    truth, _ = boxes()
    metres = truth.depth.copy()
    metres[10:20, 10:20] = bad
    depth, info, _ = messages()
    frame = frame_from_messages(image_message(metres, "32FC1", depth.header), info)
    metres[10:20, 10:20] = np.nan
    np.testing.assert_array_equal(frame.depth, metres)


def test_quantised_float_depth_is_restored_to_its_precision():
    truth, _ = boxes()
    depth, info, _ = messages()
    frame = frame_from_messages(quantised_depth(depth), info)
    # One step of q = a / d + b is d² / a metres.
    np.testing.assert_allclose(frame.depth, truth.depth, atol=0.8**2 / 1000.0)


@pytest.mark.parametrize("encoding", ["rgb8", "bgr8", "rgba8", "bgra8"])
def test_color_comes_out_as_rgb(encoding):
    truth, _ = boxes(color=True)
    depth, info, color = messages(color=True)
    order = ["rgba".index(c) for c in encoding[:-1]]
    pixels = np.dstack([truth.color, np.full((HEIGHT, WIDTH), 255, np.uint8)])[..., order]
    image = image_message(np.ascontiguousarray(pixels), encoding, color.header)
    np.testing.assert_array_equal(frame_from_messages(depth, info, image).color, truth.color)
    np.testing.assert_array_equal(frame_from_messages(depth, info, padded(image)).color, truth.color)


def test_bayer_color_goes_through_cv_bridge():
    depth, info, color = messages(color=True)
    mosaic = np.zeros((HEIGHT, WIDTH), np.uint8)
    mosaic[0::2, 0::2] = 210  # red, and no green or blue
    color = Image(header=color.header, height=HEIGHT, width=WIDTH, step=WIDTH, encoding="bayer_rggb8")
    color.data = array.array("B", mosaic.tobytes())
    inside = frame_from_messages(depth, info, color).color[2:-2, 2:-2]
    assert inside[..., 0].min() >= 200 and inside[..., 1:].max() == 0


@pytest.mark.parametrize(("extension", "tolerance"), [(".png", 0), (".jpg", 12)])
def test_compressed_color(extension, tolerance):
    truth, labels = boxes(color=True)
    depth, info, color = messages(color=True)
    rgb = frame_from_messages(depth, info, compressed_color(color, extension)).color
    inside = np.zeros(labels.shape, bool)
    inside[20:40, 20:40] = True  # away from edges, where JPEG rings
    assert np.abs(rgb[inside].astype(int) - truth.color[inside]).max() <= tolerance


def test_intrinsics_follow_region_of_interest_and_binning():
    _, info, _ = messages()
    info.width, info.height = 640, 480
    info.roi = RegionOfInterest(x_offset=100, y_offset=60, width=320, height=240)
    info.binning_x = info.binning_y = 2
    found = intrinsics(info, (HEIGHT, WIDTH))
    # A point that the full image shows at pixel (u, v) lies at ((u - 100 + 0.5) / 2 - 0.5, …) of this one.
    for x, y in ((0.1, 0.2), (-0.3, 0.05)):
        full = K[0, 0] * x + K[0, 2], K[1, 1] * y + K[1, 2]
        assert found[0, 0] * x + found[0, 2] == pytest.approx((full[0] - 100 + 0.5) / 2 - 0.5)
        assert found[1, 1] * y + found[1, 2] == pytest.approx((full[1] - 60 + 0.5) / 2 - 0.5)


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 7), st.integers(1, 9), st.booleans(), st.integers(0, 2**31 - 1), st.integers(0, 999_999_999))
def test_frames_survive_the_way_through_messages(height, width, color, seconds, nanoseconds):
    rng = np.random.default_rng(seconds)
    millimetres = rng.integers(0, 3000, (height, width))
    millimetres[0, 0] = 500
    rgb = rng.integers(0, 256, (height, width, 3), dtype=np.uint8) if color else None
    stamp = seconds * 10**9 + nanoseconds
    frame = Frame.from_raw(millimetres, K, depth_scale=1e-3, color=rgb, stamp_ns=stamp, frame_id="lens")
    for encoding in ("16UC1", "32FC1"):
        back = frame_from_messages(*frame_to_messages(frame, depth_encoding=encoding))
        np.testing.assert_allclose(back.depth, frame.depth, atol=1e-6)
        np.testing.assert_array_equal(back.K, frame.K)
        assert (back.color is None) == (rgb is None) and (rgb is None or (back.color == rgb).all())
        assert (back.stamp_ns, back.frame_id) == (stamp, "lens")


def _set(**fields):
    def change(message):
        for name, value in fields.items():
            setattr(message, name, value)
        return message

    return change


def _jpeg(depth):
    message = compressed_depth(depth)
    message.format = "16UC1; jpeg compressed "
    message.data = message.data[12:]
    message.data[:4] = array.array("B", b"\xff\xd8\xff\xe0")
    return message


def _cut(keep):
    def change(message):
        message.data = message.data[:keep]
        return message

    return change


BAD_DEPTH = {
    "8 bits": (_set(encoding="mono8", step=WIDTH), "depth", "mono8"),
    "unknown encoding": (_set(encoding="banana"), "depth", "banana"),
    "empty encoding": (_set(encoding=""), "depth", "encoding"),
    "color as depth": (_set(encoding="rgb8", step=3 * WIDTH), "depth", "rgb8"),
    "truncated": (_cut(1000), "depth", "truncated"),
    "no data": (_cut(0), "depth", "truncated"),
    "step too small": (_set(step=WIDTH), "depth", "step"),
    "zero height": (_set(height=0), "depth", "empty"),
    "zero width": (_set(width=0), "depth", "empty"),
    "size not as info": (_set(height=HEIGHT // 2), "size", f"{WIDTH} x {HEIGHT // 2}"),
    "other frame": (lambda m: _set_frame(m, "elsewhere"), "frame_id", "elsewhere"),
    "all zero": (lambda m: _fill(m, 0), "no_depth", "no valid reading"),
    "compressed depth truncated": (lambda m: _cut(200)(compressed_depth(m)), "depth", "PNG|decoded|truncated"),
    "compressed depth without data": (lambda m: _cut(0)(compressed_depth(m)), "depth", "PNG|decoded|truncated"),
    "compressed depth without PNG": (lambda m: _cut(12)(compressed_depth(m)), "depth", "PNG|decoded|truncated"),
    "PNG called RVL": (lambda m: _set(format="16UC1; compressedDepth rvl")(compressed_depth(m)), "depth", "corrupt|truncated"),
    "JPEG": (_jpeg, "depth", "PNG"),
    "8-bit PNG": (lambda m: _png8(m), "depth", "16-bit"),
    "compressed of unknown encoding": (
        lambda m: _set(format="64FC1; compressedDepth png")(compressed_depth(m)),
        "depth",
        "64FC1",
    ),
}


def _set_frame(message, frame_id):
    message.header.frame_id = frame_id
    return message


def _fill(message, value):
    message.data = array.array("B", bytes([value]) * len(message.data))
    return message


def _png8(depth):
    depth8 = Image(header=depth.header, height=HEIGHT, width=2 * WIDTH, step=2 * WIDTH, encoding="mono8")
    depth8.data = depth.data
    import cv2

    png = cv2.imencode(".png", np.frombuffer(depth.data, np.uint8).reshape(HEIGHT, 2 * WIDTH))[1].tobytes()
    message = CompressedImage(header=depth.header, format="16UC1; compressedDepth png")
    message.data = array.array("B", bytes(12) + png)
    return message


@pytest.mark.parametrize("fault", BAD_DEPTH)
def test_bad_depth_is_refused_with_reason_and_value(fault):
    change, reason, text = BAD_DEPTH[fault]
    depth, info, _ = messages()
    header = type(depth.header)(stamp=depth.header.stamp, frame_id=depth.header.frame_id)
    depth.header = header  # of its own: the fault must not reach the info
    with pytest.raises(BadFrame, match=text) as caught:
        frame_from_messages(change(depth), info)
    assert caught.value.reason == reason


BAD_COLOR = {
    "other size": (lambda m: _crop(m), "size"),
    "unknown encoding": (_set(encoding="banana"), "color"),
    "depth as color": (_set(encoding="16UC1", step=2 * WIDTH), "color"),
    "truncated": (_cut(1000), "color"),
    "other frame": (lambda m: _set_frame(m, "elsewhere"), "frame_id"),
    "JPEG without data": (lambda m: _cut(0)(compressed_color(m, ".jpg")), "color"),
    "JPEG truncated": (lambda m: _cut(300)(compressed_color(m, ".jpg")), "color"),
    "PNG truncated": (lambda m: _cut(100)(compressed_color(m, ".png")), "color"),
    "Bayer truncated": (lambda m: _cut(1000)(_set(encoding="bayer_rggb8", step=WIDTH)(m)), "color"),
}


def _crop(color):
    pixels = np.frombuffer(color.data, np.uint8).reshape(HEIGHT, WIDTH, 3)[:, :100]
    return image_message(np.ascontiguousarray(pixels), "rgb8", color.header)


@pytest.mark.parametrize("fault", BAD_COLOR)
def test_bad_color_is_refused_with_reason(fault):
    change, reason = BAD_COLOR[fault]
    depth, info, color = messages(color=True)
    color.header = type(color.header)(stamp=color.header.stamp, frame_id=color.header.frame_id)
    with pytest.raises(BadFrame) as caught:
        frame_from_messages(depth, info, change(color))
    assert caught.value.reason == reason


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda i: i.k.__setitem__(0, 0.0), "camera_info"),
        (lambda i: i.k.__setitem__(4, -5.0), "camera_info"),
        (lambda i: i.k.__setitem__(0, np.nan), "camera_info"),
        (lambda i: setattr(i, "width", 0), "size"),
        (lambda i: setattr(i, "width", 640), "size"),
        (lambda i: setattr(i, "binning_x", 2), "size"),
    ],
)
def test_bad_camera_info_is_refused_with_reason(change, reason):
    depth, info, _ = messages()
    change(info)
    with pytest.raises(BadFrame) as caught:
        frame_from_messages(depth, info)
    assert caught.value.reason == reason


@pytest.mark.parametrize("k1", [-0.2, 0.1])
def test_distortion_is_told_in_pixels_at_the_corners(k1):
    K = [100.0, 0, 50, 0, 100, 50, 0, 0, 1]
    info = SimpleNamespace(k=K, d=[k1, 0, 0, 0, 0], width=101, height=101, distortion_model="plumb_bob")
    seen = np.hypot(0.5, 0.5)
    real = min(root.real for root in np.roots([k1, 0, 1, -seen]) if abs(root.imag) < 1e-9 and root.real > 0)
    assert distortion_pixels(info) == pytest.approx(abs(real - seen) / np.sqrt(2) * 100, rel=0.01)
    info.d = [0.0] * 5
    assert distortion_pixels(info) == 0
    info.d = [1.0] * 3
    assert distortion_pixels(info) == np.inf


# ---- Instances → answers


@pytest.fixture
def scene():
    frame, labels = boxes()
    return frame, answer(frame, labels)


ALL = [
    answers.masks,
    answers.amodal_layers,
    answers.instances_cloud,
    answers.poses,
    answers.points,
    answers.overlay,
]


@pytest.mark.parametrize("make", ALL, ids=lambda f: f.__name__)
def test_every_answer_has_the_header_of_the_depth_image(make, scene):
    for instances in (scene[1], Instances.empty(scene[0].shape)):
        header = make(scene[0], instances).header
        assert (stamp_ns(header), header.frame_id) == (scene[0].stamp_ns, FRAME_ID)


def test_masks_hold_more_labels_than_a_byte(scene):
    frame, _ = scene
    labels = np.arange(HEIGHT * WIDTH, dtype=np.uint16).reshape(HEIGHT, WIDTH) // 20
    message = answers.masks(frame, answer(frame, labels))
    assert (message.encoding, message.step) == ("16UC1", 2 * WIDTH)
    np.testing.assert_array_equal(labels_from_message(message), labels[None])


def test_amodal_layers_have_a_channel_each_and_start_with_the_masks(scene):
    frame, instances = scene
    layers = np.zeros((5, HEIGHT, WIDTH), np.uint16)
    layers[0] = instances.labels
    layers[1, 20:40, 20:40] = 2
    layers[4, 0, 0] = 6
    message = answers.amodal_layers(frame, answer(frame, instances.labels, layers))
    assert message.encoding == "16UC5"
    np.testing.assert_array_equal(labels_from_message(message), layers)


def test_instances_cloud_carries_every_number(scene):
    frame, instances = scene
    cloud = answers.instances_cloud(frame, instances)
    rows = point_cloud2.read_points(cloud)
    names = "x y z cxx cxy cxz cyy cyz czz label score visible_fraction depth_order pixels"
    assert [field.name for field in cloud.fields] == names.split()
    np.testing.assert_array_equal(np.stack([rows[a] for a in "xyz"], -1), instances.centroid)
    np.testing.assert_array_equal(rows["cxy"], instances.covariance[:, 0, 1])
    np.testing.assert_array_equal(rows["czz"], instances.covariance[:, 2, 2])
    np.testing.assert_array_equal(rows["label"], np.arange(1, 7))
    np.testing.assert_array_equal(rows["score"], instances.score)
    np.testing.assert_array_equal(rows["depth_order"], [5, 4, 3, 2, 1, 0])
    np.testing.assert_array_equal(rows["pixels"], np.full(6, 34 * 40))
    assert np.isnan(rows["visible_fraction"]).all()


def test_poses_come_in_depth_order_with_x_along_the_longest_axis(scene):
    from scipy.spatial.transform import Rotation

    frame, instances = scene
    found = answers.poses(frame, instances).poses
    assert [p.position.z for p in found] == pytest.approx([0.69, 0.70, 0.71, 0.72, 0.73, 0.74], abs=1e-6)
    for pose in found:
        q = pose.orientation
        axes = Rotation.from_quat([q.x, q.y, q.z, q.w]).as_matrix()
        assert abs(axes[0, 0]) == pytest.approx(1, abs=1e-4)  # the boxes are widest along the image's x
        assert abs(axes[2, 2]) == pytest.approx(1, abs=1e-4)  # and flat along the depth


def test_points_are_the_valid_pixels_in_the_colors_of_their_labels():
    frame, labels = boxes(color=True)
    cloud = answers.points(frame, answer(frame, labels))
    rows = point_cloud2.read_points(cloud)
    valid = np.isfinite(frame.depth)
    np.testing.assert_array_equal(rows["label"], labels[valid])
    np.testing.assert_array_equal(np.stack([rows[a] for a in "xyz"], -1), deproject(frame.depth, frame.K)[valid])
    packed = np.ascontiguousarray(rows["rgb"]).view(np.uint32)
    assert (packed[rows["label"] == 0] == 0x5A5A5A).all()
    assert len(np.unique(packed[rows["label"] > 0])) == 6


def test_overlay_leaves_the_background_and_tells_the_parts_apart():
    frame, labels = boxes(color=True)
    message = answers.overlay(frame, answer(frame, labels))
    picture = np.frombuffer(message.data, np.uint8).reshape(HEIGHT, WIDTH, 3)
    assert message.encoding == "rgb8"
    np.testing.assert_array_equal(picture[labels == 0], frame.color[labels == 0])
    corners = {tuple(picture[15 + 50 * (i // 3) + 4, 12 + 48 * (i % 3) + 4]) for i in range(6)}
    assert len(corners) == 6


def test_markers_replace_the_last_ones_and_have_the_size_of_the_parts(scene):
    frame, instances = scene
    first, *rest = markers(frame, instances).markers
    assert first.action == Marker.DELETEALL
    ellipsoids = [m for m in rest if m.ns == "parts"]
    assert [m.id for m in ellipsoids] == [1, 2, 3, 4, 5, 6]
    width = 40 / 150 * 0.74  # 40 pixels at 0.74 m
    assert ellipsoids[0].scale.x == pytest.approx(width, rel=0.01)
    assert ellipsoids[0].scale.z > 0
    assert {m.text for m in rest if m.ns == "order"} >= {"1 #5", "6 #0"}
    assert [m.action for m in markers(frame, Instances.empty(frame.shape)).markers] == [Marker.DELETEALL]


@pytest.fixture
def vision_msgs(monkeypatch):
    """The real package where it is installed, else a double with the fields of vision_msgs 4, which has no wheel."""
    if importlib.util.find_spec("vision_msgs") is not None:
        return
    from geometry_msgs.msg import PoseWithCovariance, Vector3

    class Array(SimpleNamespace):
        def __init__(self, **fields):
            super().__init__(detections=[], **fields)

    class Detection(SimpleNamespace):
        def __init__(self, **fields):
            super().__init__(bbox=SimpleNamespace(center=None, size=Vector3()), **fields)

    class Hypothesis(SimpleNamespace):
        def __init__(self):
            super().__init__(hypothesis=SimpleNamespace(class_id="", score=0.0), pose=PoseWithCovariance())

    module = types.ModuleType("vision_msgs.msg")
    module.Detection3DArray, module.Detection3D, module.ObjectHypothesisWithPose = Array, Detection, Hypothesis
    monkeypatch.setitem(sys.modules, "vision_msgs", types.ModuleType("vision_msgs"))
    monkeypatch.setitem(sys.modules, "vision_msgs.msg", module)


def test_detections_fill_the_position_block_of_the_covariance(scene, vision_msgs):
    frame, instances = scene
    found = answers.detections(frame, instances).detections
    assert [d.id for d in found] == list("123456")
    pose = found[2].results[0].pose
    np.testing.assert_array_equal(np.reshape(pose.covariance, (6, 6))[:3, :3], instances.covariance[2])
    assert pose.pose.position.x == pytest.approx(instances.centroid[2, 0])
    assert found[0].bbox.size.x == pytest.approx(40 / 150 * 0.74, rel=0.01)


def test_labels_are_not_read_from_pictures(scene):
    with pytest.raises(InputError, match="rgb8"):
        labels_from_message(answers.overlay(*scene))
