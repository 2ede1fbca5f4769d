"""Bring-up of ``bin_picking.launch.py`` by a lifecycle manager, with launch_testing (runs where that is installed)."""

from __future__ import annotations

import tempfile
import unittest
from pathlib import Path

import pytest

for package in ("rclpy", "launch", "launch_ros", "launch_testing"):
    pytest.importorskip(package, reason=f"{package} is not installed")

import launch_testing  # noqa: E402
import launch_testing.actions  # noqa: E402
import launch_testing.asserts  # noqa: E402
from bring_up import bring_down, bring_up  # noqa: E402
from conftest import ROOT, new_domain, node_environment, open_context  # noqa: E402
from launch import LaunchDescription  # noqa: E402
from launch.actions import GroupAction, IncludeLaunchDescription, SetEnvironmentVariable  # noqa: E402
from launch.launch_description_sources import PythonLaunchDescriptionSource  # noqa: E402
from launch_prefix import make_prefix  # noqa: E402
from node_rig import Client  # noqa: E402
from ros_scenes import boxes  # noqa: E402

from instseg_ros.methods.classical.segmenter import write_classical_model  # noqa: E402
from instseg_ros.nodes.messages import labels_from_message  # noqa: E402

DOMAIN = new_domain()
FOLDER = tempfile.TemporaryDirectory(prefix="instseg_launch_")


@pytest.mark.launch_test
def generate_test_description():
    folder = Path(FOLDER.name)
    write_classical_model(folder / "model")
    env = {**node_environment(DOMAIN), "AMENT_PREFIX_PATH": make_prefix(folder / "prefix")}
    arguments = {"model": str(folder / "model"), "autostart": "false", "namespace": "cell", "camera_namespace": "cell"}
    group = GroupAction(  # its environment is this launch's only
        [
            *(SetEnvironmentVariable(name, value) for name, value in env.items()),
            IncludeLaunchDescription(
                PythonLaunchDescriptionSource(str(ROOT / "launch" / "bin_picking.launch.py")), launch_arguments=arguments.items()
            ),
        ]
    )
    return LaunchDescription([group, launch_testing.actions.ReadyToTest()])


class TestBringUp(unittest.TestCase):
    """While the launch runs."""

    def test_a_lifecycle_manager_brings_the_node_up_and_down(self, proc_output):
        topics = {
            "/cell/camera/aligned_depth_to_color/image_raw": "depth/image",
            "/cell/camera/aligned_depth_to_color/camera_info": "depth/camera_info",
        }
        with open_context(DOMAIN) as context:
            client = Client(context, namespace="/cell", remappings=topics)
            try:
                bring_up(client)
                proc_output.assertWaitFor("segmenting what arrives on /cell/camera/aligned_depth_to_color/image_raw", timeout=30)
                client.hear("masks")
                answer = client.ask(lambda stamp: boxes(stamp_ns=stamp)[0])
                self.assertEqual(labels_from_message(answer)[0].max(), 6)
                bring_down(client)
            finally:
                client.end()


@launch_testing.post_shutdown_test()
class TestEnd(unittest.TestCase):
    """After the launch was ended."""

    def test_the_node_ends_cleanly(self, proc_info, proc_output):
        launch_testing.asserts.assertExitCodes(proc_info)
        self.assertFalse([line for process in proc_output for line in [process.text.decode()] if "Traceback" in line])
