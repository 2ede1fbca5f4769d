"""Which topics of a bag are what: the names that are asked for, realsense2_camera's defaults, else by type and name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from ..errors import InputError
from .reader import Bag

DEPTH = "/camera/camera/aligned_depth_to_color/image_raw"
INFO = "/camera/camera/aligned_depth_to_color/camera_info"
COLOR = "/camera/camera/color/image_raw"
TRUTH_MASKS = "/truth/masks"
TRUTH_LAYERS = "/truth/amodal_layers"
TRUTH_INSTANCES = "/truth/instances"
TRUTH_PARTS = "/truth/part_names"

IMAGE = "sensor_msgs/msg/Image"
COMPRESSED = "sensor_msgs/msg/CompressedImage"
CAMERA_INFO = "sensor_msgs/msg/CameraInfo"
CLOUD = "sensor_msgs/msg/PointCloud2"
STRING = "std_msgs/msg/String"


@dataclass(frozen=True)
class TruthTopics:
    """Names of the truth's topics, None = not in the bag.

    Attributes:
        masks: Image 16UC1, visible labels.
        layers: Image 16UC<L>, amodal stack.
        instances: PointCloud2 as /instseg/instances, with object_id; one point for each label.
        parts: String, JSON object from object_id to the part's name.
    """

    masks: str | None = None
    layers: str | None = None
    instances: str | None = None
    parts: str | None = None


@dataclass(frozen=True)
class Topics:
    """Names of the camera's topics; ``color`` is None where there is none that fits the depth image."""

    depth: str
    info: str
    color: str | None
    truth: TruthTopics

    def names(self) -> list[str]:
        """All of them."""
        truth = self.truth
        every = (self.depth, self.info, self.color, truth.masks, truth.layers, truth.instances, truth.parts)
        return [name for name in every if name is not None]


def find_topics(bag: Bag, *, depth: str | None = None, info: str | None = None, color: str | None = None) -> Topics:
    """Find the camera's topics and, by their fixed names, those of the truth.

    Args:
        bag: the bag.
        depth, info, color: names that must be used; None = find one. ``color=""`` = no colour.

    Raises:
        InputError: no message at all; a topic is missing, of the wrong type, or there are several; the message lists what the bag holds.
    """
    if not any(bag.counts.values()):
        raise InputError(f"{bag.path} holds no message, only {bag.listing()}: record it again while the camera runs")
    images = {name: kind for name, kind in bag.types.items() if kind in (IMAGE, COMPRESSED) and bag.counts[name]}
    chosen = _given(bag, "depth", depth, (IMAGE, COMPRESSED)) or _find(
        bag, "depth", depth_topics(bag), [DEPTH, _is_aligned, _is_raw]
    )
    folder = _stream(chosen).rsplit("/", 1)[0]
    infos = [name for name, kind in bag.types.items() if kind == CAMERA_INFO and bag.counts[name]]
    own_info = _given(bag, "camera_info", info, (CAMERA_INFO,)) or _find(
        bag, "camera_info", infos, [f"{folder}/camera_info", lambda name: _stream(name).startswith(folder), INFO]
    )
    rgb: str | None = None
    if color is None:
        # Only depth aligned to colour shares its pixels: for any other, the user has to say that it does.
        candidates = [name for name, kind in images.items() if _is_color(name)] if _is_aligned(chosen) else []
        rgb = (
            _find(bag, "color", candidates, [COLOR, _is_raw, lambda name: _stream(name) == COLOR])
            if candidates
            else None
        )
    elif color:
        rgb = _given(bag, "color", color, (IMAGE, COMPRESSED))
    return Topics(chosen, own_info, rgb, _truth(bag))


def depth_topics(bag: Bag) -> list[str]:
    """Topics with depth images, by type and name."""
    return [name for name, kind in bag.types.items() if kind in (IMAGE, COMPRESSED) and bag.counts[name] and _is_depth(name, kind)]


def _truth(bag: Bag) -> TruthTopics:
    def present(name: str, kind: str) -> str | None:
        return name if bag.types.get(name) == kind and bag.counts[name] else None

    return TruthTopics(
        masks=present(TRUTH_MASKS, IMAGE),
        layers=present(TRUTH_LAYERS, IMAGE),
        instances=present(TRUTH_INSTANCES, CLOUD),
        parts=present(TRUTH_PARTS, STRING),
    )


def _given(bag: Bag, role: str, name: str | None, kinds: tuple[str, ...]) -> str | None:
    if not name:
        return None
    if name not in bag.types:
        raise InputError(f"{bag.path} has no {role} topic {name}; it holds {bag.listing()}")
    if bag.types[name] not in kinds:
        raise InputError(f"{bag.path}: {role} topic {name} is a {bag.types[name]}, not a {' or '.join(kinds)}")
    if not bag.counts[name]:
        raise InputError(f"{bag.path}: {role} topic {name} has no message; the bag holds {bag.listing()}")
    return name


def _find(bag: Bag, role: str, candidates: list[str], preferences: list[str | Callable[[str], bool]]) -> str:
    """The one candidate left when each preference (a name or a test) that some satisfy has been applied."""
    if not candidates:
        raise InputError(f"{bag.path} has no {role} topic; it holds {bag.listing()}: name yours with --{_option(role)}")
    left = candidates
    for preference in preferences:
        if len(left) > 1:
            left = [n for n in left if (n == preference if isinstance(preference, str) else preference(n))] or left
    if len(left) > 1:
        raise InputError(
            f"{bag.path} has several {role} topics ({', '.join(sorted(left))}): choose one with --{_option(role)}"
        )
    return left[0]


def _option(role: str) -> str:
    return {"camera_info": "info"}.get(role, role)


def _is_depth(name: str, kind: str) -> bool:
    if kind == COMPRESSED:
        return name.endswith("/compressedDepth")
    return "depth" in name and "/image" in name


def _is_color(name: str) -> bool:
    return ("color" in _own_part(name) or "rgb" in _own_part(name)) and not name.endswith("/compressedDepth")


def _own_part(name: str) -> str:
    """The name without ``aligned_depth_to_color``, which is a depth stream's."""
    return "" if "depth" in name else name


def _is_aligned(name: str) -> bool:
    return "aligned_depth_to_color" in name or "depth_registered" in name


def _is_raw(name: str) -> bool:
    return not name.endswith(("/compressed", "/compressedDepth"))


def _stream(name: str) -> str:
    """The image topic behind a compressed one."""
    return name.removesuffix("/compressedDepth").removesuffix("/compressed")
