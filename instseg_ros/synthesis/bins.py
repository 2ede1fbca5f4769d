"""Simulated bins as a data set: piles of parts, settled, rendered and measured by a depth camera."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from ..bop_writer import BopWriter, ModelInfo, SceneRecord
from ..errors import InputError
from ..files import read_json
from .camera import PRESETS, sample_camera
from .part import Part
from .parts import PARTS, load_part
from .physics import Bin, Settled, default_bin, drop, pile_height
from .render import Rendering, render
from .runner import Recipe, check
from .sensor import SensorParams, add_noise

PILES_PER_FOLDER = 20
"""Piles in one BOP scene folder, the unit that appears at once: few enough to lose little by a kill, many enough that
10 000 piles do not need 10 000 folders."""

REVISION = 1
"""To be raised whenever a change of physics, rendering or noise changes the images of a seed, so that no set mixes two."""

ATTEMPTS = 20
"""Tries to settle one pile before giving up."""

NOISES = ("d435", "none")


@dataclass(frozen=True)
class BinsRecipe(Recipe):
    """Everything that decides what a set of bins looks like.

    Attributes:
        parts: names; pile s shows part s modulo their number. Empty when ``mesh`` is given.
        scenes: number of settled piles.
        instances: smallest and largest number of parts in a pile.
        camera: name of a preset. views: cameras that look at each pile.
        noise: ``d435`` or ``none`` (exact depth, for training that adds noise on the fly).
        split: train, val or test; the same seed gives different piles in each.
        bin: half sides of the bin (m), or None for a random bin sized to part and number.
        mesh: file and unit of the user's own part.
    """

    parts: tuple[str, ...]
    scenes: int
    instances: tuple[int, int]
    camera: str = "d435"
    views: int = 1
    noise: str = "d435"
    split: str = "train"
    seed: int = 0
    bin: tuple[float, float] | None = None
    mesh: tuple[str, str] | None = None

    def __post_init__(self) -> None:
        low, high = self.instances
        self.check_common()
        check(self.scenes > 0, f"--scenes must be positive, got {self.scenes}")
        check(self.views > 0, f"--views must be positive, got {self.views}")
        check(1 <= low <= high <= 30, f"--instances must lie in 1…30, got {low}-{high}")
        check(self.camera in PRESETS, f"unknown camera {self.camera!r}: choose {', '.join(PRESETS)}")
        check(self.noise in NOISES, f"unknown noise {self.noise!r}: choose {', '.join(NOISES)}")
        check(bool(self.parts) != bool(self.mesh), "give either --part or --mesh")
        check(len(set(self.parts)) == len(self.parts), f"a part is named twice in {', '.join(self.parts)}")
        check(self.bin is None or min(self.bin) > 0, f"--bin must be positive half sides in metres, got {self.bin}")
        self.part_table()

    @property
    def units(self) -> int:
        return -(-self.scenes // PILES_PER_FOLDER)

    def images_in(self, unit: int) -> int:
        return min(PILES_PER_FOLDER, self.scenes - unit * PILES_PER_FOLDER) * self.views

    def bytes_per_image(self) -> int:
        h, w = PRESETS[self.camera].size
        depth = 0.6 if self.noise != "none" else 0.15  # bytes a pixel, measured; colour 1.25; masks one block each
        return int(h * w * (1.25 + depth) + (2 * self.instances[1] + 4) * 4096)

    def describe(self) -> dict[str, Any]:
        digest = hashlib.sha256()
        for _, part in self.part_table():
            digest.update(part.vertices.tobytes() + part.faces.tobytes() + b"".join(h.tobytes() for h in part.hulls))
        mesh = (Path(self.mesh[0]).name, self.mesh[1]) if self.mesh else None  # no paths of this machine in files
        plain = asdict(replace(self, mesh=None)) if mesh is None else {**asdict(self), "mesh": mesh}
        return json.loads(json.dumps({"kind": "bins", **plain, "geometry": digest.hexdigest()[:16], "revision": REVISION}))

    def start(self, root: Path) -> None:
        BopWriter(root, self.split).write_models({k: _model_info(part) for k, part in self.part_table()})

    def path(self, root: Path, unit: int) -> Path:
        return BopWriter(root, self.split).scene_folder(unit)

    def write(self, root: Path, unit: int) -> None:
        rejected = 0

        def records() -> Iterator[SceneRecord]:
            nonlocal rejected
            for scene in range(unit * PILES_PER_FOLDER, min((unit + 1) * PILES_PER_FOLDER, self.scenes)):
                settled, attempts = self.settle(scene)
                rejected += attempts
                for view in range(self.views):
                    yield self.look(settled, scene, view)

        BopWriter(root, self.split).write_scene(unit, records(), lambda: {"pile_info.json": {"rejected": rejected}})

    def summary(self, root: Path) -> dict[str, Any]:
        rejected = sum(int(read_json(self.path(root, unit) / "pile_info.json")["rejected"]) for unit in range(self.units))
        return {
            "scenes": self.scenes,
            "rejected_attempts": rejected,
            "accepted_share": self.scenes / (self.scenes + rejected),
        }

    def part_table(self) -> list[tuple[int, Part]]:
        """(BOP obj_id, part) in order of use. The ten parts keep their numbers 1…10 in every set; a user's part is 1."""
        if self.mesh:
            return [(1, _user_part(*self.mesh))]
        return [(list(PARTS).index(part.name) + 1, part) for part in map(load_part, self.parts)]

    def part_of(self, scene: int) -> tuple[int, Part]:
        """(obj_id, part) of a pile."""
        table = self.part_table()
        return table[scene % len(table)]

    def _given_bin(self, part: Part, n: int) -> Bin:
        half_x, half_y = self.bin
        return Bin(half_x, half_y, wall_height=max(1.75 * part.diameter, 1.1 * pile_height(part, n, 4 * half_x * half_y)))

    def settle(self, scene: int) -> tuple[Settled, int]:
        """Pile number ``scene`` at rest, and the number of attempts that were rejected before."""
        _, part = self.part_of(scene)
        for attempt in range(ATTEMPTS):
            rng = np.random.default_rng(self.entropy(scene, attempt))
            n = int(rng.integers(self.instances[0], self.instances[1] + 1))
            bin = default_bin(part, n, rng) if self.bin is None else self._given_bin(part, n)
            settled = drop(part, n, bin, rng)
            if settled is not None:
                return settled, attempt
        raise InputError(
            f"{n} × {part.name!r} did not come to rest in the bin in {ATTEMPTS} tries (scene {scene}): "
            "make the bin larger or the number of instances smaller"
        )

    def look(self, settled: Settled, scene: int, view: int) -> SceneRecord:
        """What camera number ``view`` sees of a pile, with the sensor's noise."""
        rng = np.random.default_rng(self.entropy(scene, ATTEMPTS + view))
        preset = PRESETS[self.camera]
        K, cam_T_bin = sample_camera(preset, settled.bin, rng)
        image: Rendering = render(settled, K, preset.size, cam_T_bin, rng)
        depth = image.depth
        if self.noise != "none":
            depth = add_noise(depth, K, rng, SensorParams().jittered(rng), image.rgb)
        return SceneRecord(
            K=K,
            depth=depth,
            color=image.rgb,
            cam_T_world=cam_T_bin,
            object_id=np.full(len(image.poses), self.part_of(scene)[0]),
            pose=image.poses,
            masks=image.masks,
            layers=image.layers,
            pixels=image.pixels,
            box=image.box,
            depth_order=image.depth_order,
        )


@lru_cache(maxsize=2)
def _user_part(path: str, units: str) -> Part:
    from .mesh import load_mesh

    return load_mesh(path, units)


def _model_info(part: Part) -> ModelInfo:
    return ModelInfo(
        name=part.name,
        vertices=part.vertices,
        faces=part.faces,
        diameter=part.diameter,
        chiral=part.chiral,
        surface_centroid=part.surface_centroid,
        surface_covariance=part.surface_covariance,
        rotations=part.symmetries.discrete,
        axes=part.symmetries.axes,
    )
