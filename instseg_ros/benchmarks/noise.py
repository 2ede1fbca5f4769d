"""Real depth frames and simulated ones side by side: noise against range, its correlation, holes, width of edges.

The simulated frames show piles of the built-in parts through a camera with the real one's resolution, intrinsics, range,
unit of depth and f · B. What is measured, and how, is defined in
``synthesis/plane_noise.py`` and ``synthesis/edge_noise.py``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import islice
from pathlib import Path

import numpy as np

from ..bags import BagFrames
from ..depth_files import parse_intrinsics, read_frame
from ..errors import InputError
from ..files import write_atomic
from ..frame import Frame
from ..synthesis.bins import BinsRecipe
from ..synthesis.camera import look_at
from ..synthesis.edge_noise import EdgeShape, HoleRates, edge_shape, hole_rates
from ..synthesis.parts import PARTS
from ..synthesis.plane_noise import PlaneNoise, correlation_length, disparity_constant, plane_residuals
from ..synthesis.render import render
from ..synthesis.sensor import SensorParams, add_noise
from . import Options

FRAMES = 10
RANGES = (0.2, 0.35, 0.5, 0.65, 0.8, 1.0, 1.3, 1.7, 2.2)
"""Metres: borders of the intervals of range."""
FARTHEST = 2.0
"""Metres: farther things are not the scene."""
BAG_FRAMES, BAG_STEP = 20, 15
"""Of a bag: so many frames, one in so many."""
TILT = np.radians(50)
"""Largest angle between the simulated camera and the vertical."""


@dataclass(frozen=True)
class Measured:
    """All measures of one set of frames, as ``plane_noise.py`` and ``edge_noise.py`` define them.

    Attributes:
        along_rows, along_columns: (LAGS + 1,) autocorrelation of the plane residuals.
        sample: (WINDOW, WINDOW) residuals of the plane at the median range, px of disparity.
    """

    frames: int
    noise: list[PlaneNoise]
    along_rows: np.ndarray
    along_columns: np.ndarray
    equal_neighbours: float
    holes: HoleRates
    edges: EdgeShape
    sample: np.ndarray


def run(options: Options) -> dict:
    """Keys: markdown (the table), real and simulated (the figures in it), focal_baseline_px_m and where it is from, picture.

    Raises:
        InputError: no or unreadable files, frames of different sizes, no planes in sight.
    """
    depths, K = _real(options)
    params, source = device(options, depths)
    sets = {"real": measure(depths, params), "simulated": measure(simulate(options, depths, K, params), params)}
    if options.picture:
        from .noise_figure import draw

        write_atomic(options.picture, lambda path: draw(sets, params, path))
    return {
        "markdown": table(sets),
        "focal_baseline_px_m": round(params.focal * params.baseline, 3),
        "focal_baseline_from": source,
        **{name: _figures(found) for name, found in sets.items()},
        "picture": options.picture or None,
    }


def measure(depths: Sequence[np.ndarray], params: SensorParams) -> Measured:
    """Everything about the frames (H, W) float32 m of a camera."""
    constant = params.focal * params.baseline
    residuals = plane_residuals(depths, constant)
    if not len(residuals.z):
        raise InputError("no flat surface of 41 × 41 pixels without holes is in sight: record a scene with a table or a bin's floor")
    middle = int(np.argsort(residuals.z)[len(residuals.z) // 2])
    return Measured(
        frames=len(depths),
        noise=residuals.noise(RANGES, constant),
        along_rows=residuals.correlation(1),
        along_columns=residuals.correlation(0),
        equal_neighbours=residuals.equal_neighbours(params.disparity_step),
        holes=hole_rates(depths, FARTHEST),
        edges=edge_shape(depths, FARTHEST),
        sample=residuals.patch[middle],
    )


def _real(options: Options) -> tuple[list[np.ndarray], np.ndarray]:
    """Depth of the frames, (H, W) float32 m each, and K (3, 3)."""
    if not options.real:
        raise InputError("give real depth frames of one camera: --real FILE… --intrinsics fx,fy,cx,cy, or --real BAG")
    K = parse_intrinsics(options.intrinsics) if options.intrinsics else None
    frames: list[Frame] = []
    for file in options.real:
        if Path(file).is_dir() or Path(file).suffix in (".mcap", ".db3"):
            frames += [frame for frame, _ in islice(BagFrames(file), 0, BAG_FRAMES * BAG_STEP, BAG_STEP)]
        else:
            frames.append(read_frame(file, intrinsics=K, depth_scale=options.depth_scale))
    sizes = {frame.shape for frame in frames}
    if len(sizes) != 1:
        raise InputError(f"the frames are of sizes {', '.join(map(str, sizes)) or 'none'}: give frames of one camera")
    return [frame.depth for frame in frames], frames[0].K


def unit_of_depth(depths: Sequence[np.ndarray]) -> float:
    """The unit (m) that all readings are multiples of: 1 mm or 0.1 mm; 0 for others."""
    values = np.unique(np.concatenate([depth[np.isfinite(depth)] for depth in depths])).astype(np.float64)
    for unit in (1e-3, 1e-4):
        if np.abs(values / unit - np.rint(values / unit)).max(initial=0) < 0.02:
            return unit
    return 0.0


def device(options: Options, depths: Sequence[np.ndarray]) -> tuple[SensorParams, str]:
    """The noise model of a camera with the real one's f · B and unit of depth, and where these come from."""
    model, unit = SensorParams(), unit_of_depth(depths)
    if options.stereo:
        try:
            focal, baseline = (float(word) for word in options.stereo.split(","))
        except ValueError:
            focal = baseline = float("nan")
        if not (np.isfinite((focal, baseline)).all() and focal > 0 and 0 < baseline < 1):
            raise InputError(f"--stereo must be the imagers' focal length in px and their baseline in m like 424,0.05, got {options.stereo!r}")
        return replace(model, focal=focal, baseline=baseline, depth_unit=unit), "--stereo"
    constant = disparity_constant(depths, unit) if unit else None
    if constant is None:
        return replace(model, depth_unit=unit), "assumed"
    return replace(model, focal=constant * model.disparity_step / model.baseline, depth_unit=unit), "the steps of its depth"


def simulate(options: Options, depths: Sequence[np.ndarray], K: np.ndarray, params: SensorParams) -> list[np.ndarray]:
    """Piles of five parts on a floor, seen at the real one's ranges by a camera that is held upright, with noise."""
    scene = np.concatenate([depth[depth < FARTHEST] for depth in depths])
    if not scene.size:
        raise InputError(f"the frames hold nothing nearer than {FARTHEST:g} m: give them in metres by --depth-scale")
    near, far = np.percentile(scene, (10, 90))
    recipe = BinsRecipe(tuple(PARTS), options.frames or FRAMES, (5, 5), noise="none", seed=options.seed)
    images = []
    for number in range(recipe.scenes):
        settled = recipe.settle(number)[0]
        rng = np.random.default_rng([options.seed, number])
        distance, tilt = rng.uniform(near, far), rng.uniform(0, TILT)
        # Tilted about the image's x axis, as most cameras are: so planes are cut by the steps of disparity as in real frames.
        cam_T_bin = look_at(distance * np.array([0, -np.sin(tilt), np.cos(tilt)]), np.zeros(3))
        exact = render(settled, K, depths[0].shape, cam_T_bin, rng)
        images.append(add_noise(exact.depth, K, rng, params, exact.rgb))
    return images


def table(sets: dict[str, Measured]) -> str:
    """Markdown: a row a measure, a column a set of frames."""
    rows = [["", *(f"{name} ({found.frames} frames)" for name, found in sets.items())]]
    rows.append(["---"] * len(rows[0]))
    for low, high in zip(RANGES, RANGES[1:]):
        here = [next((row for row in found.noise if row.low == low), None) for found in sets.values()]
        if any(here):
            cells = [f"{row.px:.3f} px = {row.mm:.2f} mm ({row.windows} planes)" if row else "–" for row in here]
            rows.append([f"plane noise at {low:g}–{high:g} m", *cells])
    for title, cell in MEASURES.items():
        rows.append([title, *(cell(found) for found in sets.values())])
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


MEASURES: dict[str, Callable[[Measured], str]] = {
    "correlation with the next pixel, along rows; columns": lambda m: f"{m.along_rows[1]:.2f}; {m.along_columns[1]:.2f}",
    "correlation length, along rows; columns": lambda m: f"{_length(m.along_rows)}; {_length(m.along_columns)} px",
    "neighbours in a row of the same disparity": lambda m: f"{m.equal_neighbours:.0%}",
    "holes next to edges; away": lambda m: f"{m.holes.next_to_edges:.1%}; {m.holes.away:.2%}",
    "edge width, 10–90 %, median": lambda m: f"{np.median(m.edges.width):.2f} px ({len(m.edges.width)} edges)" if len(m.edges.width) else "–",
    "edges wider than 2 px": lambda m: f"{(m.edges.width > 2).mean():.1%}" if len(m.edges.width) else "–",
    "edge jitter from line to line": lambda m: f"{m.edges.jitter:.2f} px",
}
"""Row of the table → its cell."""


def _length(correlation: np.ndarray) -> str:
    length = correlation_length(correlation)
    return f"{length:.1f}" if np.isfinite(length) else f"above {len(correlation) - 1}"


def _figures(found: Measured) -> dict:
    """The measures as JSON-ready values."""
    widths = np.percentile(found.edges.width, (25, 50, 75)).round(3).tolist() if len(found.edges.width) else None
    return {
        "frames": found.frames,
        "noise": [asdict(row) for row in found.noise],
        "correlation": {"rows": found.along_rows.round(4).tolist(), "columns": found.along_columns.round(4).tolist()},
        "correlation_length_px": {
            name: length if np.isfinite(length := correlation_length(along)) else None
            for name, along in (("rows", found.along_rows), ("columns", found.along_columns))
        },
        "equal_neighbours": found.equal_neighbours,
        "holes": asdict(found.holes),
        "edge_width_px_quartiles": widths,
        "edge_jitter_px": found.edges.jitter,
        "edges": len(found.edges.width),
    }
