"""Bags: round trips, matching by stamps, finding topics, and files that are broken."""

from __future__ import annotations

import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
from bag_scenes import START_NS, scene, scenes, write_bag
from hypothesis import example, given, settings
from hypothesis import strategies as st

from instseg_ros import images
from instseg_ros.bags import Bag, BagFrames, BagWriter, Message, Topics, TruthTopics, bundles, find_topics, read_frames
from instseg_ros.bags import topics as names
from instseg_ros.bags.reader import typestore
from instseg_ros.errors import InputError

rosbag2 = pytest.importorskip("rosbags.rosbag2", reason="needs the package rosbags")
T = typestore().types


def header(stamp_ns: int = START_NS, frame_id: str = "cam"):
    return T["std_msgs/msg/Header"](T["builtin_interfaces/msg/Time"](*divmod(stamp_ns, 10**9)), frame_id)


def image(pixels: np.ndarray, encoding: str, stamp_ns: int = START_NS):
    return T[names.IMAGE](header=header(stamp_ns), **images.encode(pixels, encoding))


def camera_info(shape=(4, 6), fx: float = 50.0, stamp_ns: int = START_NS):
    k = np.array([fx, 0, 2.5, 0, fx, 1.5, 0, 0, 1])
    roi = T["sensor_msgs/msg/RegionOfInterest"](0, 0, 0, 0, False)
    return T[names.CAMERA_INFO](
        header(stamp_ns), *shape, "plumb_bob", np.zeros(5), k, np.eye(3).ravel(), np.zeros(12), 0, 0, roi
    )


def write_raw(path: Path, messages, storage: str = "MCAP", mode: str | None = None) -> Path:
    """A bag of (topic, log_ns, message) as another program could have written it."""
    writer = rosbag2.Writer(path, version=8, storage_plugin=rosbag2.StoragePlugin[storage])
    if mode:
        writer.set_compression(rosbag2.CompressionMode[mode], rosbag2.CompressionFormat.ZSTD)
    with writer:
        connections = {}
        for topic, log_ns, message in messages:
            kind = message.__msgtype__
            if topic not in connections:
                connections[topic] = writer.add_connection(topic, kind, typestore=typestore())
            writer.write(connections[topic], log_ns, typestore().serialize_cdr(message, kind))
    return path


DEPTH = np.arange(24, dtype=np.uint16).reshape(4, 6)


def camera_messages(depth=names.DEPTH, info=names.INFO, stamp_ns=START_NS):
    return [
        (info, stamp_ns, camera_info(stamp_ns=stamp_ns)),
        (depth, stamp_ns, image(DEPTH, "16UC1", stamp_ns)),
    ]


def test_frames_and_truth_come_back_as_they_were_written(tmp_path):
    bag = BagFrames(write_bag(tmp_path / "bag", 5))
    assert len(bag) == 5 and bag.has_truth
    read = list(bag)
    assert len(read) == 5
    for (frame, truth), (expected, known) in zip(read, scenes(5)):
        np.testing.assert_array_equal(frame.depth, expected.depth)
        np.testing.assert_array_equal(frame.color, expected.color)
        np.testing.assert_array_equal(frame.K, expected.K)
        assert (frame.stamp_ns, frame.frame_id) == (expected.stamp_ns, expected.frame_id)
        np.testing.assert_array_equal(truth.labels, known.labels)
        np.testing.assert_array_equal(truth.layers, known.layers)
        np.testing.assert_allclose(truth.centroid, known.centroid, atol=1e-6)
        np.testing.assert_allclose(truth.covariance, known.covariance, atol=1e-9)
        np.testing.assert_array_equal(truth.visible_fraction, known.visible_fraction)
        assert truth.part == known.part and truth.depth_order.tolist() == [0, 1]
        assert truth.object_id.tolist() == [3, 7]
    assert [f.stamp_ns for f, _ in bag] == [f.stamp_ns for f, _ in read], "a second pass reads the same"


def test_without_truth_and_without_color(tmp_path):
    bag = BagFrames(write_bag(tmp_path / "bag", 2, truth=False), use_color=False)
    assert not bag.has_truth
    assert [(frame.color, truth) for frame, truth in bag] == [(None, None)] * 2
    assert len(list(read_frames(tmp_path / "bag"))) == 2


def test_jpeg_color_is_small_and_near(tmp_path):
    write_bag(tmp_path / "bag", 2, jpeg=True)
    with Bag(tmp_path / "bag") as bag:
        assert bag.types[f"{names.COLOR}/compressed"] == names.COMPRESSED and names.COLOR not in bag.types
    for (frame, _), (expected, _) in zip(BagFrames(tmp_path / "bag"), scenes(2)):
        assert np.abs(frame.color.astype(int) - expected.color).mean() < 6


@pytest.mark.parametrize(
    ("storage", "mode"), [("SQLITE3", None), ("SQLITE3", "FILE"), ("SQLITE3", "MESSAGE"), ("MCAP", None)]
)
def test_every_storage(tmp_path, storage, mode):
    path = write_raw(tmp_path / "bag", camera_messages(), storage, mode)
    (frame,) = read_frames(path)
    assert np.isnan(frame.depth[0, 0]) and frame.depth[3, 5] == pytest.approx(0.023)
    if mode is None:  # the storage file alone is a bag, too
        file = next(p for p in path.iterdir() if p.suffix in (".mcap", ".db3"))
        assert len(list(read_frames(file))) == 1


def test_compressed_depth(tmp_path):
    message = T[names.COMPRESSED](
        header(), *(lambda f, d: (f, np.frombuffer(d, np.uint8)))(*images.encode_compressed_depth(DEPTH))
    )
    topic = f"{names.DEPTH}/compressedDepth"
    path = write_raw(tmp_path / "bag", [(names.INFO, START_NS, camera_info()), (topic, START_NS, message)])
    (frame,) = read_frames(path)
    np.testing.assert_allclose(np.nan_to_num(frame.depth * 1000), DEPTH, rtol=1e-6)


# Matching: made-up messages, so that only the stamps matter.
TOPICS = Topics("d", "i", "c", TruthTopics(masks="m"))
MS = 1_000_000


def message(topic: str, stamp_ms: float, log_ms: float | None = None) -> Message:
    return Message(topic, round((stamp_ms if log_ms is None else log_ms) * MS), round(stamp_ms * MS), b"")


def matched(messages):
    def stamp(part):
        return None if part is None else part.stamp_ns / MS

    return [tuple(stamp(part) for part in (b.depth, b.info, b.color, b.masks)) for b in bundles(messages, TOPICS)]


def test_companions_may_come_before_or_after_depth():
    late = [message("d", t, t) for t in (0, 33, 66)] + [
        message(topic, t + shift, t + 70) for t in (0, 33, 66) for topic, shift in (("i", 0), ("c", 5), ("m", 0))
    ]
    assert matched(late) == [(0, 0, 5, 0), (33, 33, 38, 33), (66, 66, 71, 66)]
    assert matched(sorted(late, key=lambda m: m.topic)) == matched(late)


def test_color_beyond_the_slop_and_truth_of_another_stamp_are_left_out():
    assert matched([message("i", 0), message("c", 25), message("m", 1), message("d", 0)]) == [(0, 0, None, None)]


def test_info_that_is_rare_serves_all_frames():
    stream = [message("i", 0)] + [message("d", t) for t in range(0, 3000, 100)]
    assert matched(stream) == [(t, 0, None, None) for t in range(0, 3000, 100)]


def test_no_info_at_all():
    with pytest.raises(InputError, match="1 depth images on d have no camera info on i"):
        matched([message("d", 0)])


def test_time_that_jumps_back():
    stream = [message(topic, t, log) for log, t in ((0, 500), (1, 533), (2, 0), (3, 33)) for topic in "icmd"]
    assert matched(stream) == [(t, t, t, t) for t in (500, 533, 0, 33)]


def test_other_topics_keep_their_place():
    stream = [
        message(topic, t) for topic, t in (("tf", 0), ("i", 0), ("d", 0), ("imu", 1), ("tf", 2), ("i", 33), ("d", 33))
    ]
    first, second = bundles(stream, Topics("d", "i", None, TruthTopics()))
    assert [m.topic for m in first.others] == ["tf"] and [m.topic for m in second.others] == ["imu", "tf"]


@given(st.lists(st.tuples(st.sampled_from("dicm"), st.integers(0, 200), st.integers(0, 400)), max_size=30))
@settings(max_examples=200, deadline=None)
def test_every_depth_image_comes_once_whatever_the_order(entries):
    stream = [message(topic, stamp, log) for topic, stamp, log in sorted(entries, key=lambda e: e[2])] + [
        message("i", 0, 500)
    ]
    found = list(bundles(stream, TOPICS))
    assert [id(b.depth) for b in found] == [id(m) for m in stream if m.topic == "d"]
    for bundle in found:
        assert bundle.masks is None or bundle.masks.stamp_ns == bundle.depth.stamp_ns
        assert bundle.color is None or abs(bundle.color.stamp_ns - bundle.depth.stamp_ns) <= 20 * MS


def topics_of(tmp_path, messages, **options):
    with Bag(write_raw(tmp_path / "bag", messages)) as bag:
        return find_topics(bag, **options)


def test_aligned_depth_wins_over_plain_depth(tmp_path):
    plain = camera_messages("/camera/camera/depth/image_rect_raw", "/camera/camera/depth/camera_info")
    rgb = [(names.COLOR, START_NS, image(np.zeros((4, 6, 3), np.uint8), "rgb8"))]
    rgb += [("/camera/camera/color/camera_info", START_NS, camera_info())]
    found = topics_of(tmp_path, plain + rgb + camera_messages())
    assert (found.depth, found.info, found.color) == (names.DEPTH, names.INFO, names.COLOR)


def test_depth_that_is_not_aligned_takes_no_color_by_itself(tmp_path):
    messages = camera_messages("/cam/depth/image_rect_raw", "/cam/depth/camera_info")
    messages += [("/cam/color/image_raw", START_NS, image(np.zeros((4, 6, 3), np.uint8), "rgb8"))]
    assert topics_of(tmp_path, messages).color is None
    with Bag(tmp_path / "bag") as bag:
        assert find_topics(bag, color="/cam/color/image_raw").color == "/cam/color/image_raw"


@pytest.mark.parametrize(
    ("messages", "options", "text"),
    [
        (lambda: [(names.INFO, START_NS, camera_info())], {}, f"no depth topic; it holds {names.INFO}.*--depth"),
        (
            lambda: camera_messages("/a/depth/image") + camera_messages("/b/depth/image"),
            {},
            "several depth.*/a/depth/image, /b",
        ),
        (camera_messages, {"depth": "/nope"}, "no depth topic /nope; it holds"),
        (camera_messages, {"depth": names.INFO}, "is a sensor_msgs/msg/CameraInfo, not a sensor_msgs/msg/Image"),
        (lambda: camera_messages()[1:], {}, "no camera_info topic.*--info"),
        (camera_messages, {"color": "/rgb"}, "no color topic /rgb"),
    ],
)
def test_topics_that_cannot_be_found(tmp_path, messages, options, text):
    with pytest.raises(InputError, match=text):
        topics_of(tmp_path, messages(), **options)


@pytest.mark.parametrize(
    ("messages", "text"),
    [
        (
            [(names.INFO, 0, camera_info((5, 6))), (names.DEPTH, 0, image(DEPTH, "16UC1"))],
            "camera_info describes 6 x 5",
        ),
        ([(names.INFO, 0, camera_info(fx=0.0)), (names.DEPTH, 0, image(DEPTH, "16UC1"))], "fx = 0"),
        ([(names.INFO, 0, camera_info()), (names.DEPTH, 0, image(DEPTH.astype(np.uint8), "mono8"))], "mono8"),
    ],
)
def test_frames_that_cannot_be_used_name_topic_and_stamp(tmp_path, messages, text):
    with pytest.raises(InputError, match=rf"{names.DEPTH} at 1700000000\.000 s: .*{text}"):
        list(read_frames(write_raw(tmp_path / "bag", messages)))


def test_files_that_are_no_bag(tmp_path):
    (tmp_path / "notes.txt").write_text("hello")
    (tmp_path / "old.bag").write_bytes(b"#ROSBAG V2.0\n")
    (tmp_path / "empty.mcap").write_bytes(b"")
    (tmp_path / "text.db3").write_text("hello")
    for name, text in (
        ("absent", "does not exist"),
        ("notes.txt", "not a rosbag2"),
        ("old.bag", "ROS 1"),
        ("empty.mcap", "truncated"),
        ("text.db3", "truncated"),
        (".", "metadata.yaml"),
    ):
        with pytest.raises(InputError, match=text):
            Bag(tmp_path / name)


def test_metadata_that_is_no_metadata(tmp_path):
    path = write_bag(tmp_path / "bag", 1)
    for content in ("", "[1, 2", "a: 1", "rosbag2_bagfile_information: {version: 99}"):
        (path / "metadata.yaml").write_text(content)
        with pytest.raises(InputError, match="corrupt"):
            Bag(path)
    with pytest.raises(InputError, match="give its folder"):
        Bag(path / "metadata.yaml")


@pytest.fixture(scope="module")
def bag_files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bags")
    sqlite = write_raw(folder / "sqlite", camera_messages(), "SQLITE3")
    return [write_bag(folder / "bag", 3) / "bag.mcap", next(sqlite.glob("*.db3"))]


def test_broken_part_names_are_refused_by_file_and_topic(tmp_path):
    broken = T["std_msgs/msg/String"](data='?"3": "nut"}')
    masks = image(np.zeros((4, 6), np.uint16), "16UC1")
    path = write_raw(tmp_path / "bag", [(names.TRUTH_PARTS, 0, broken), (names.TRUTH_MASKS, 0, masks), *camera_messages()])
    with pytest.raises(InputError, match=f"^{path}, {names.TRUTH_PARTS}: part names .* are not a JSON object"):
        list(BagFrames(path))


@given(
    which=st.integers(0, 1),
    keep=st.floats(0, 0.999),
    flips=st.lists(st.tuples(st.floats(0, 0.999), st.integers(1, 255)), max_size=3),
)
@example(which=0, keep=0.0, flips=[(0.62890625, 121)])  # a line break within the name of a type
@settings(max_examples=60, deadline=None)
def test_a_broken_file_is_read_or_refused_in_one_line(bag_files, tmp_path_factory, which, keep, flips):
    content = bag_files[which].read_bytes()
    broken = bytearray(content if flips else content[: int(len(content) * keep)])
    for position, change in flips:
        broken[int(position * len(broken))] ^= change
    path = tmp_path_factory.mktemp("broken") / bag_files[which].name
    path.write_bytes(broken)
    try:
        assert len(list(BagFrames(path))) <= 3
    except InputError as error:
        assert str(path) in str(error) and "\n" not in str(error)
    shutil.rmtree(path.parent)


def test_a_writer_that_fails_leaves_nothing_behind(tmp_path):
    frame, truth = scene(0)
    with pytest.raises(RuntimeError), BagWriter(tmp_path / "bag") as bag:
        bag.write(frame, truth)
        raise RuntimeError
    with pytest.raises(InputError, match="at least one frame"), BagWriter(tmp_path / "bag"):
        pass
    with pytest.raises(InputError, match="not later"), BagWriter(tmp_path / "bag") as bag:
        bag.write(frame)
        bag.write(frame)
    assert list(tmp_path.iterdir()) == []


def test_a_writer_overwrites_nothing(tmp_path):
    path = write_bag(tmp_path / "bag", 1)
    with pytest.raises(InputError, match="exists already"):
        BagWriter(path)
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot write"):
        BagWriter(tmp_path / "file" / "bag")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["bag", "file"]


def test_part_names_that_appear_later(tmp_path):
    from dataclasses import replace

    with BagWriter(tmp_path / "bag") as bag:
        for index, (frame, truth) in enumerate(scenes(3)):
            bag.write(frame, replace(truth, part=[f"a{index}", "b"], object_id=np.array([index, 9])))
    assert [truth.part for _, truth in BagFrames(tmp_path / "bag")] == [["a0", "b"], ["a1", "b"], ["a2", "b"]]


def test_jpeg_of_the_writer_is_what_opencv_reads(tmp_path):
    write_bag(tmp_path / "bag", 1, jpeg=True)
    with Bag(tmp_path / "bag") as bag:
        (jpeg,) = (bag.decode(m) for m in bag.messages([f"{names.COLOR}/compressed"]))
    assert cv2.imdecode(jpeg.data, cv2.IMREAD_COLOR).shape == (48, 64, 3)


@given(st.text())
def test_a_refusal_is_one_line_of_printable_text_whatever_it_quotes(text):
    message = str(InputError(f"bag has no {text}: name yours"))
    assert message.isprintable() and len(message.splitlines()) == 1
    if text.isprintable():
        assert message == f"bag has no {text}: name yours"
