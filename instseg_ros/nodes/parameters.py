"""Parameters of the segmenter node: declared once, with description and range, checked on every change."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from typing import Any

from rcl_interfaces.msg import FloatingPointRange, IntegerRange, ParameterDescriptor
from rclpy.node import Node

from ..bin_volume import half_spaces
from ..errors import InputError
from ..region import Region
from ..tracking import TrackingOptions
from .transforms import check_target_frame


@dataclass(frozen=True)
class Spec:
    """One parameter: default (which sets the type), description, allowed values."""

    default: Any
    description: str
    low: float | None = None
    high: float | None = None
    choices: tuple[str, ...] = ()

    @property
    def is_real(self) -> bool:
        """Whether the value is a double, or several."""
        return isinstance(self.default, float) or (isinstance(self.default, list) and isinstance(self.default[0], float))


SPECS = {
    "model": Spec("", "Model directory, or the name of a shipped model; empty = the shipped default."),
    "amodal_model": Spec("", "Model that gives layers (layered) to the answers of ``model``; empty = layers are those of ``model``."),
    "device": Spec("auto", "Where the network runs: auto (GPU where there is one), cpu, cuda or cuda:N."),
    "roi": Spec([0, 0, 0, 0], "Pixel rectangle [x, y, width, height] that is looked at; all 0 = the whole image."),
    "depth_range": Spec([0.0, 0.0], "Metres [near, far]; readings outside count as missing; 0 = no limit."),
    "bin_volume": Spec(
        [0.0, 0.0, 0.0, 0.0],
        "Where parts may be, metres in the camera frame: a plane [a, b, c, d] (a x + b y + c z + d > 0 is inside) or a box "
        "[centre x, y, z, quaternion x, y, z, w, size x, y, z]; all 0 = everywhere.",
    ),
    "background_file": Spec("", "Where ~/learn_background keeps the empty bin, read at the start; what is not in front of it is no part."),
    "background_margin": Spec(0.005, "Metres in front of the learned background that still belong to it.", 0.0, 1.0),
    "tracking": Spec(False, "Ids stay with their part from frame to frame (camera at rest); false = 1 to n in every frame."),
    "tracking_max_move": Spec(
        0.75, "How far a part may move between two frames and keep its id, in its own radii (root mean square).", 0.01, 10.0
    ),
    "tracking_max_missed": Spec(30, "Frames for which a part that is not found keeps its id.", 0, 10_000),
    "max_rate": Spec(0.0, "Frames per second to process at most; 0 = as many as arrive.", 0.0, 1000.0),
    "sync_slop": Spec(0.02, "Seconds by which the stamps of depth, info and color may differ.", 1e-4, 1.0),
    "min_pixels": Spec(0, "Instances with fewer visible pixels are dropped.", 0, 10_000_000),
    "min_score": Spec(0.0, "Instances with a lower score are dropped.", 0.0, 1.0),
    "stale_after": Spec(2.0, "Seconds; older frames are dropped, a longer silence is reported; 0 = never.", 0.0, 3600.0),
    "target_frame": Spec("", "tf2 frame of poses, instances, detections, points and markers; empty = the camera's."),
    "depth_transport": Spec(
        "raw", "How depth arrives: raw, or compressedDepth (topic + /compressedDepth).", choices=("raw", "compressedDepth")
    ),
    "color_transport": Spec("raw", "How color arrives: raw, or compressed (topic + /compressed).", choices=("raw", "compressed")),
}

NEED_RELOAD = {"model", "amodal_model", "device"}
NEED_OTHER_SETS = {"sync_slop"}
NEED_RESUBSCRIBE = {"depth_transport", "color_transport"}


@dataclass(frozen=True)
class Parameters:
    """Checked values of the node's parameters; the meaning of each stands in ``SPECS``.

    Raises:
        InputError: a value that cannot be used, with the reason.
    """

    model: str
    amodal_model: str
    device: str
    roi: tuple[int, ...]
    depth_range: tuple[float, ...]
    bin_volume: tuple[float, ...]
    background_file: str
    background_margin: float
    tracking: bool
    tracking_max_move: float
    tracking_max_missed: int
    max_rate: float
    sync_slop: float
    min_pixels: int
    min_score: float
    stale_after: float
    target_frame: str
    depth_transport: str
    color_transport: str

    def __post_init__(self) -> None:
        check({name: getattr(self, name) for name in SPECS}, SPECS)
        if len(self.roi) != 4:
            raise InputError(f"roi must be four integers [x, y, width, height], got {list(self.roi)}")
        if len(self.depth_range) != 2:
            raise InputError(f"depth_range must be two numbers [near, far] in metres, got {list(self.depth_range)}")
        check_target_frame(self.target_frame)
        _ = self.region, self.tracking_options, half_spaces(self.bin_volume)  # raise for values that make none

    @property
    def region(self) -> Region:
        """What of a frame is looked at."""
        return Region(*map(int, self.roi), *map(float, self.depth_range))

    @property
    def tracking_options(self) -> TrackingOptions:
        """When an instance is the part of an earlier frame."""
        return TrackingOptions(self.tracking_max_move, self.tracking_max_missed)

    def changed(self, new: Parameters) -> set[str]:
        """Names whose values differ in ``new``."""
        return {field.name for field in fields(self) if getattr(self, field.name) != getattr(new, field.name)}


def check(values: Mapping[str, Any], specs: Mapping[str, Spec]) -> None:
    """InputError for the first value outside its range or choices."""
    for name, spec in specs.items():
        value = values[name]
        if spec.low is not None and not spec.low <= value <= spec.high:
            raise InputError(f"{name} must lie in [{spec.low:g}, {spec.high:g}], got {value:g}")
        if spec.choices and value not in spec.choices:
            raise InputError(f"{name} must be one of {', '.join(spec.choices)}, got {value!r}")


def declare(node: Node, specs: Mapping[str, Spec] = SPECS, *, read_only: bool = False) -> None:
    """Declare every parameter with its description and range."""
    for name, spec in specs.items():
        # A typed double refuses a whole number such as max_rate:=10; what else comes is refused by ``values``.
        descriptor = ParameterDescriptor(description=spec.description, read_only=read_only, dynamic_typing=spec.is_real)
        if spec.choices:
            descriptor.additional_constraints = f"one of {', '.join(spec.choices)}"
        elif isinstance(spec.default, float) and spec.low is not None:
            descriptor.floating_point_range = [FloatingPointRange(from_value=spec.low, to_value=spec.high, step=0.0)]
        elif isinstance(spec.default, int) and spec.low is not None:
            descriptor.integer_range = [IntegerRange(from_value=int(spec.low), to_value=int(spec.high), step=1)]
        node.declare_parameter(name, spec.default, descriptor)


def values(node: Node, specs: Mapping[str, Spec], changes: Iterable[Any] = ()) -> dict[str, Any]:
    """The node's parameters, with those of ``changes`` (``rclpy.Parameter``) in place of the present ones: doubles as floats, whole
    numbers among them, too, and lists as tuples. InputError: one is unset, or no number where one is wanted."""
    found: dict[str, Any] = {
        **{name: node.get_parameter(name).value for name in specs},
        **{parameter.name: parameter.value for parameter in changes if parameter.name in specs},
    }
    unset = [name for name, value in found.items() if value is None]
    if unset:
        raise InputError(f"{unset[0]} has no value: {specs[unset[0]].description}")
    return {name: _typed(name, value, specs[name]) for name, value in found.items()}


def _typed(name: str, value: Any, spec: Spec) -> Any:
    several = isinstance(spec.default, list)
    if not spec.is_real:
        return tuple(value) if several else value
    numbers = list(value) if hasattr(value, "__iter__") and not isinstance(value, str) else value
    if isinstance(numbers, list) != several or not all(map(_is_number, numbers if several else [numbers])):
        raise InputError(f"{name} must be {'numbers in brackets' if several else 'a number'}, got {numbers!r}")
    return tuple(map(float, numbers)) if several else float(numbers)


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def read(node: Node, changes: Iterable[Any] = ()) -> Parameters:
    """The node's parameters, checked; ``changes`` as in ``values``. InputError as above."""
    return Parameters(**values(node, SPECS, changes))
