"""librealsense's post-processing filters, in the order that it recommends: decimation, spatial, temporal, hole filling."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..parameters import Spec
from .realsense import load

OPTIONS: dict[str, dict[str, Spec]] = {
    "decimation_filter": {"filter_magnitude": Spec(2, "Factor by which width and height shrink.", 2, 8)},
    "disparity_filter": {},
    "spatial_filter": {
        "filter_magnitude": Spec(2, "Passes.", 1, 5),
        "filter_smooth_alpha": Spec(0.5, "Weight of the pixel itself; 1 = no smoothing.", 0.25, 1.0),
        "filter_smooth_delta": Spec(20, "Steps above this stay as they are, in units of depth (or disparity).", 1, 50),
        "holes_fill": Spec(0, "Widest hole to fill: none, 2, 4, 8, 16 pixels, any.", 0, 5),
    },
    "temporal_filter": {
        "filter_smooth_alpha": Spec(0.4, "Weight of the newest frame; 1 = no smoothing.", 0.0, 1.0),
        "filter_smooth_delta": Spec(20, "Changes above this pass as they are, in units of depth (or disparity).", 1, 100),
        "holes_fill": Spec(3, "How easily a lost pixel keeps its last value, 0 = never.", 0, 8),
    },
    "hole_filling_filter": {"holes_fill": Spec(1, "Fill with the pixel to the left, the farthest, or the nearest around.", 0, 2)},
}
"""Filter → its options as ``rs.option`` names them. Disparity is where spatial and temporal work when it is enabled."""
WHAT = {
    "decimation_filter": "Make the depth image smaller, by medians.",
    "disparity_filter": "Let the spatial and temporal filter work on disparity, whose noise is the same at all distances.",
    "spatial_filter": "Smooth the depth image, edges preserved.",
    "temporal_filter": "Smooth depth over time.",
    "hole_filling_filter": "Fill every hole of the depth image; what it fills in was not measured.",
}
FILTER_SPECS: dict[str, Spec] = {
    f"{name}.{option}": spec
    for name, options in OPTIONS.items()
    for option, spec in {"enable": Spec(False, WHAT[name]), **options}.items()
}


class FilterChain:
    """The filters that are enabled, with what they remember of earlier frames.

    Args:
        wanted: the node's parameters.
    """

    def __init__(self, wanted: Mapping[str, Any]) -> None:
        rs = load()
        make = {
            "decimation_filter": rs.decimation_filter,
            "spatial_filter": rs.spatial_filter,
            "temporal_filter": rs.temporal_filter,
            "hole_filling_filter": rs.hole_filling_filter,
        }
        self.settings = {name: wanted[name] for name in FILTER_SPECS}
        blocks = {name: _set(rs, make[name](), name, wanted) for name in make if wanted[f"{name}.enable"]}
        smoothing = blocks.keys() & {"spatial_filter", "temporal_filter"}
        if wanted["disparity_filter.enable"] and smoothing:
            blocks |= {"to_disparity": rs.disparity_transform(True), "to_depth": rs.disparity_transform(False)}
        order = ("decimation_filter", "to_disparity", "spatial_filter", "temporal_filter", "to_depth", "hole_filling_filter")
        self._blocks = [blocks[name] for name in order if name in blocks]

    def process(self, frames: Any) -> Any:
        """Frameset → frameset with its depth filtered. RuntimeError of librealsense."""
        for block in self._blocks:
            frames = block.process(frames).as_frameset()
        return frames


def _set(rs: Any, block: Any, name: str, wanted: Mapping[str, Any]) -> Any:
    for option in OPTIONS[name]:
        block.set_option(getattr(rs.option, option), float(wanted[f"{name}.{option}"]))
    return block
