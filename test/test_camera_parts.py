"""Parts of the camera node against arithmetic: clocks, units, parameters, pictures; no ROS graph."""

from __future__ import annotations

import sys
from fractions import Fraction
from itertools import pairwise

import numpy as np
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("rclpy", reason="ROS 2 is not on the path")

from bag_scenes import write_bag  # noqa: E402
from conftest import ROOT  # noqa: E402
from diagnostic_msgs.msg import DiagnosticStatus  # noqa: E402
from rclpy.time import Time  # noqa: E402
from small_bop import write_small_bop  # noqa: E402

from instseg_ros.errors import InputError  # noqa: E402
from instseg_ros.nodes.camera import realsense  # noqa: E402
from instseg_ros.nodes.camera.conversion import to_millimetres  # noqa: E402
from instseg_ros.nodes.camera.parameters import SPECS, CameraParameters  # noqa: E402
from instseg_ros.nodes.camera.scene import BoxScene  # noqa: E402
from instseg_ros.nodes.camera.stamps import HostClock  # noqa: E402
from instseg_ros.nodes.camera.statistics import CONNECTED, SEARCHING, Camera, CameraStatistics  # noqa: E402
from instseg_ros.nodes.camera.views import find_views  # noqa: E402

NOW = 1_790_000_000_000_000_000
DEFAULTS = {name: spec.default for name, spec in SPECS.items()}


# ---- clocks


def test_a_stamp_of_the_hosts_clock_is_kept_and_never_lies_ahead():
    clock = HostClock()
    assert clock.stamp(NOW * 1e-6 - 35, NOW, is_host_time=True) == pytest.approx(NOW - 35_000_000, abs=500)
    assert clock.stamp(NOW * 1e-6 + 5, NOW, is_host_time=True) == NOW


@given(st.integers(0, 2**32 - 1))
def test_device_time_is_put_on_the_hosts_clock_by_the_frame_that_was_delayed_least(seed):
    """Frames 1/30 s apart by a device clock of unknown begin, each delayed at random on its way."""
    rng = np.random.default_rng(seed)
    begin, delays = int(rng.integers(0, 10**15)), rng.integers(0, 40_000_000, 40).tolist()
    clock = HostClock()
    for i, delay in enumerate(delays):
        taken = NOW + i * 33_333_333
        stamp = clock.stamp((begin + taken - NOW) * 1e-6, taken + delay, is_host_time=False)
        assert stamp <= taken + delay
        assert stamp - taken == pytest.approx(min(delays[: i + 1]), abs=1000)  # device times are float milliseconds


def test_a_drifting_device_clock_is_followed():
    clock = HostClock()
    for i in range(60 * 30):  # ten minutes at 3 Hz, the device's clock slow by 100 ppm: 60 ms in the end
        taken = NOW + i * 333_333_333
        stamp = clock.stamp((taken - NOW) * (1 - 1e-4) * 1e-6, taken + 2_000_000, is_host_time=False)
        assert 0 <= taken + 2_000_000 - stamp < 5_000_000


def test_a_device_clock_that_begins_anew_or_stands_beside_a_changed_host_clock_is_taken_anew():
    clock = HostClock()
    assert clock.stamp(900_000.0, NOW, is_host_time=False) == NOW
    assert clock.stamp(5.0, NOW + 10**9, is_host_time=False) == NOW + 10**9
    later = NOW + 3600 * 10**9  # the host's clock was set
    assert clock.stamp(38.0, later, is_host_time=False) == later


def test_host_time_that_cannot_be_is_treated_as_a_device_clock():
    clock = HostClock()
    stamps = [clock.stamp(1_600_000_000_000.0 + 50 * i, NOW + 50_000_000 * i, is_host_time=True) for i in range(4)]
    assert stamps[0] == NOW and all(b - a == pytest.approx(50_000_000, abs=1000) for a, b in pairwise(stamps))


# ---- units


@pytest.mark.parametrize("units", ["0.001", "0.0001", "0.00025", "0.0005", "0.002", "0.0000625"])
def test_millimetres_are_exact_halves_up(units):
    raw = np.arange(65536, dtype=np.uint16).reshape(256, 256)
    found = to_millimetres(raw, float(np.float32(units))).reshape(-1)
    for value in (*range(200), 12345, 32767, 32768, 65534, 65535):
        exact = Fraction(units) * 1000 * value
        expected = (2 * exact + 1).__floor__() // 2
        assert found[value] == (expected if expected < 65536 else 0), value


# ---- parameters


def test_the_yaml_that_ships_names_every_parameter_with_its_default():
    text = (ROOT / "config" / "bin_picking.yaml").read_text()
    assert yaml.safe_load(text)["/**/camera"]["ros__parameters"] == {"autostart": True, **DEFAULTS}


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"spatial_filter.filter_magnitude": 6}, "must lie in"),
        ({"temporal_filter.filter_smooth_alpha": float("nan")}, "must lie in"),
        ({"decimation_filter.filter_magnitude": 1}, "must lie in"),
        ({"depth_module.depth_profile": "640x480"}, "640x480x30"),
        ({"software": "scene", "rosbag_filename": "a.db3"}, "give one"),
        ({"enable_color": False}, "align_depth.enable"),
    ],
)
def test_parameters_that_cannot_be_are_refused(changes, text):
    with pytest.raises(InputError, match=text):
        CameraParameters(DEFAULTS | changes)


@pytest.mark.parametrize(
    ("given_as", "serial"), [(147322070524, "147322070524"), ("_0147", "0147"), ("f1231322", "f1231322"), ("", "")]
)
def test_serial_numbers_come_as_text_or_number(given_as, serial):
    assert CameraParameters(DEFAULTS | {"serial_no": given_as})["serial_no"] == serial


def test_profiles_are_read_in_both_spellings():
    wanted = CameraParameters(DEFAULTS | {"depth_module.depth_profile": "848x480x30", "rgb_camera.color_profile": "1280, 720, 15"})
    assert str(wanted.depth_profile) == "848x480x30" and str(wanted.color_profile) == "1280x720x15"


# ---- what is missing


@pytest.mark.parametrize(
    ("reason", "text"),
    [
        ("libusb-1.0.so.0: cannot open shared object file: No such file or directory", "apt install libusb-1.0-0"),
        ("No module named 'pyrealsense2'", "pip install pyrealsense2"),
    ],
)
def test_what_is_missing_is_named_with_its_remedy(monkeypatch, reason, text):
    class Absent:
        def find_spec(self, name, *rest):
            if name == "pyrealsense2":
                raise ImportError(reason)

    for name in [name for name in sys.modules if name.split(".")[0] == "pyrealsense2"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(sys, "meta_path", [Absent(), *sys.meta_path])
    with pytest.raises(InputError, match=text):
        realsense.load()


# ---- pictures


def test_the_scene_is_one_world_in_two_imagers():
    scene = BoxScene()
    depth, color = scene.depth(0), scene.color(0)
    v, u = np.mgrid[0:480, 0:640]
    x = depth * (u - scene.depth_K[0, 2]) / scene.depth_K[0, 0] + scene.baseline[0]
    y = depth * (v - scene.depth_K[1, 2]) / scene.depth_K[1, 1]
    for distance, (left, top, width, height), rgb in scene.boxes(0)[2:]:
        here = np.isclose(depth, distance)
        inside = here & (x > left + 0.002) & (x < left + width - 0.002) & (y > top + 0.002) & (y < top + height - 0.002)
        size = (width - 0.004) * (height - 0.004) * (scene.depth_K[0, 0] / distance) ** 2
        assert inside.sum() == pytest.approx(size, rel=0.06)
        a = np.rint(scene.color_K[0, 0] * x[inside] / distance + scene.color_K[0, 2]).astype(int)
        b = np.rint(scene.color_K[1, 1] * y[inside] / distance + scene.color_K[1, 2]).astype(int)
        assert (color[b, a] == rgb).all()
    assert (scene.depth(0) != scene.depth(1)).any() and (scene.depth(0) == scene.depth(scene.period)).all()


def test_views_of_bags_and_data_sets(tmp_path):
    bag = find_views(str(write_bag(tmp_path / "bag", 3)))
    assert len(bag.images) == 3 and bag.images[0][0].shape == bag.depth.size == bag.images[0][1].shape[:2]
    bop = find_views(str(write_small_bop(tmp_path / "bop")))
    assert bop.images[0][0].dtype == np.uint16 and bop.images[0][0].max() > 100
    with pytest.raises(InputError, match="scene, bundled"):
        find_views(str(tmp_path / "none"))


# ---- diagnostics


def test_diagnostics_say_how_it_goes():
    now = iter(np.arange(0, 100, 0.1))
    statistics = CameraStatistics(lambda: float(next(now)))

    def told(state="active"):
        (status,) = statistics.diagnostics(name="camera/camera", state=state, extra={}, stamp=Time()).status
        return status.level, status.message, {pair.key: pair.value for pair in status.values}

    assert told("inactive")[:2] == (DiagnosticStatus.OK, "inactive")
    statistics.connect(SEARCHING, missing="no camera")
    assert told()[:2] == (DiagnosticStatus.ERROR, "no camera")
    statistics.connect(CONNECTED, Camera("D435", "123", "5.16", "3.2", "640x480x30 z16"))
    assert told()[:2] == (DiagnosticStatus.OK, "connected")
    for gap in (0, 0, 2):
        statistics.frame_received(gap)
        statistics.frame_published()
    level, message, values = told()
    assert level == DiagnosticStatus.OK and "D435 123" in message
    assert (values["connection"], values["frames"], values["published"], values["dropped"]) == ("streaming", "3", "3", "2")
    assert (values["firmware"], values["usb_type"]) == ("5.16", "3.2") and float(values["rate_hz"]) > 0
    statistics.frame_received(0)
    statistics.frame_failed("broken")
    assert told()[:2] == (DiagnosticStatus.WARN, "broken")
