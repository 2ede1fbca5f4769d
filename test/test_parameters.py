"""Parameters as people write them, from the command line and from YAML: doubles without a decimal point."""

from __future__ import annotations

import pytest

pytest.importorskip("rclpy", reason="ROS 2 is not on the path")

from rclpy.node import Node  # noqa: E402
from rclpy.parameter import Parameter  # noqa: E402

from instseg_ros.errors import InputError  # noqa: E402
from instseg_ros.nodes import bag_player, evaluator, grasp_planner, parameters, soak, swapper  # noqa: E402
from instseg_ros.nodes.camera.parameters import SPECS as CAMERA_SPECS  # noqa: E402
from instseg_ros.nodes.parameters import Spec, declare, values  # noqa: E402
from instseg_ros.nodes.segmenter import SegmenterNode  # noqa: E402

ALL = {
    "segmenter": parameters.SPECS,
    "camera": {name: spec for name, spec in CAMERA_SPECS.items() if name != "serial_no"},
    "grasp_planner": grasp_planner.SPECS,
    **{module.__name__.rsplit(".", 1)[1]: module.SPECS for module in (bag_player, evaluator, soak, swapper)},
}
SOME = {"rate": Spec(0.5, "One.", 0.0, 9.0), "box": Spec([0.5, 0.5], "Two."), "count": Spec(1, "Whole.")}


def whole(spec):
    """The default as whole numbers; 1 lies in the range of every single one."""
    return [int(value) for value in spec.default] if isinstance(spec.default, list) else 1


def command_line(given, tmp_path):
    return [word for name, value in given.items() for word in ("-p", f"{name}:={value}")]


def yaml_file(given, tmp_path):
    path = tmp_path / "params.yaml"
    path.write_text("/**:\n  ros__parameters:\n" + "".join(f"    {name}: {value}\n" for name, value in given.items()))
    return ["--params-file", str(path)]


@pytest.mark.parametrize("write", [command_line, yaml_file])
@pytest.mark.parametrize("node", ALL)
def test_whole_numbers_are_doubles_wherever_one_is_wanted(ros_context, tmp_path, node, write):
    specs = ALL[node]
    given = {name: whole(spec) for name, spec in specs.items() if spec.is_real}
    made = Node("node", context=ros_context, cli_args=["--ros-args", *write(given, tmp_path)])
    declare(made, specs)
    found = values(made, specs)
    for name, value in given.items():
        expected = tuple(map(float, value)) if isinstance(value, list) else float(value)
        assert repr(found[name]) == repr(expected)
    made.destroy_node()


def test_every_node_with_doubles_is_tried():
    assert {name for name, specs in ALL.items() if any(spec.is_real for spec in specs.values())} == set(ALL)


@pytest.mark.parametrize(
    ("name", "given", "says"),
    [
        ("rate", "fast", "rate must be a number, got 'fast'"),
        ("rate", "true", "rate must be a number, got True"),
        ("rate", "[1, 2]", r"rate must be a number, got \[1, 2\]"),
        ("box", "1", "box must be numbers in brackets, got 1"),
        ("box", "[a, b]", r"box must be numbers in brackets, got \['a', 'b'\]"),
        ("box", "[true, false]", "box must be numbers in brackets"),
    ],
)
def test_what_is_no_number_is_refused_with_its_name(ros_context, name, given, says):
    made = Node("node", context=ros_context, cli_args=["--ros-args", "-p", f"{name}:={given}"])
    declare(made, SOME)
    with pytest.raises(InputError, match=says):
        values(made, SOME)
    made.destroy_node()


def test_a_running_segmenter_takes_whole_numbers_and_keeps_its_ranges(ros_context):
    node = SegmenterNode(context=ros_context, cli_args=["--ros-args", "-p", "max_rate:=10", "-p", "depth_range:=[0, 2]"])
    assert (node._wanted.max_rate, node._wanted.depth_range) == (10.0, (0.0, 2.0))
    (result,) = node.set_parameters([Parameter("max_rate", value=5)])
    assert result.successful and repr(node._wanted.max_rate) == "5.0"
    for value, says in ((2000, "[0, 1000], got 2000"), ("fast", "must be a number")):
        (result,) = node.set_parameters([Parameter("max_rate", value=value)])
        assert not result.successful and says in result.reason
    assert node._wanted.max_rate == 5.0
    node.destroy_node()
