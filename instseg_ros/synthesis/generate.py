"""Generating a dataset of simulated bins: deterministic, parallel, resumable."""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import shutil
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from ..bop_writer import BopWriter, ModelInfo, SceneRecord
from ..errors import InputError
from ..files import read_json, write_json
from .camera import PRESETS, sample_camera
from .part import Part
from .parts import PARTS, load_part
from .physics import Bin, default_bin, drop
from .render import render
from .sensor import SensorParams, add_noise

PILES_PER_FOLDER = 20
"""Piles in one BOP scene folder, the unit that appears at once: few enough to lose little by a kill, many enough that
10 000 piles do not need 10 000 folders. Part of the format of a seed: another number gives other files."""

ATTEMPTS = 20
"""Tries to settle one pile before giving up."""

REVISION = 1
"""To be raised whenever a change of physics, rendering or noise changes the images of a seed, so that no set mixes two."""

SPLITS = ("train", "val", "test")

NOISES = ("d435", "none")


@dataclass(frozen=True)
class Config:
    """Everything that decides what a split looks like; stored beside it and compared when a run is continued.

    Attributes:
        parts: names; pile s shows part s modulo their number. Empty when ``mesh`` is given.
        scenes: number of settled piles.
        instances: smallest and largest number of parts in a pile.
        camera: name of a preset. views: cameras that look at each pile.
        noise: ``d435`` or ``none`` (exact depth, for training that adds noise on the fly).
        split: train, val or test; the same seed gives different piles in each.
        bin: half sides of the bin (m), or None for a random bin sized to part and number.
        mesh: file and unit of the user's own part.
        geometry: hash of the parts' triangles and collision pieces, so that a changed part is not mixed with an older one.
        revision: of this program's pictures.
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
    geometry: str = ""
    revision: int = REVISION

    def __post_init__(self) -> None:
        low, high = self.instances
        for ok, problem in (
            (self.scenes > 0, f"--scenes must be positive, got {self.scenes}"),
            (self.views > 0, f"--views must be positive, got {self.views}"),
            (1 <= low <= high <= 30, f"--instances must lie in 1…30, got {low}-{high}"),
            (self.camera in PRESETS, f"unknown camera {self.camera!r}: choose {', '.join(PRESETS)}"),
            (self.noise in NOISES, f"unknown noise {self.noise!r}: choose {', '.join(NOISES)}"),
            (self.split in SPLITS, f"unknown split {self.split!r}: choose {', '.join(SPLITS)}"),
            (self.seed >= 0, f"--seed must not be negative, got {self.seed}"),
            (bool(self.parts) != bool(self.mesh), "give either --part or --mesh"),
            (self.bin is None or min(self.bin) > 0, f"--bin must be positive half sides in metres, got {self.bin}"),
        ):
            if not ok:
                raise InputError(problem)

    @property
    def folders(self) -> int:
        """Number of BOP scene folders."""
        return -(-self.scenes // PILES_PER_FOLDER)


@dataclass(frozen=True, eq=False)
class Sample:
    """One finished image, as it is written: what was rendered, with the sensor's noise."""

    record: SceneRecord
    visible_fraction: np.ndarray
    part: Part
    scene: int
    view: int


def prepare(config: Config) -> Config:
    """Load the parts (InputError if one is unknown or unusable) and fill in the hash of their geometry."""
    digest = hashlib.sha256()
    for _, part in part_table(config):
        digest.update(part.vertices.tobytes() + part.faces.tobytes() + b"".join(h.tobytes() for h in part.hulls))
    return Config(**{**asdict(config), "geometry": digest.hexdigest()[:16]})


def part_table(config: Config) -> list[tuple[int, Part]]:
    """(BOP obj_id, part) in order of use. The ten parts keep their numbers 1…10 in every set; a user's part is 1."""
    if config.mesh:
        return [(1, _user_part(*config.mesh))]
    names = list(PARTS)
    return [(names.index(name) + 1 if name in PARTS else 0, load_part(name)) for name in config.parts]


@lru_cache(maxsize=2)
def _user_part(path: str, units: str) -> Part:
    from .mesh import load_mesh

    return load_mesh(path, units)


def make_pile(config: Config, scene: int) -> tuple[Iterator[Sample], int]:
    """Settle pile number ``scene`` and render its views. Depends on nothing but the arguments.

    Returns:
        the samples, one a view, and the number of attempts that were rejected.
    """
    object_id, part = part_table(config)[scene % max(len(config.parts), 1)]
    seed = [config.seed, SPLITS.index(config.split), scene]
    for attempt in range(ATTEMPTS):
        rng = np.random.default_rng([*seed, attempt])
        n = int(rng.integers(config.instances[0], config.instances[1] + 1))
        bin = default_bin(part, n, rng) if config.bin is None else Bin(*config.bin, wall_height=1.75 * part.diameter)
        settled = drop(part, n, bin, rng)
        if settled is not None:
            break
    else:
        raise InputError(
            f"{n} × {part.name!r} did not come to rest in the bin in {ATTEMPTS} tries (scene {scene}): "
            "make the bin larger or the number of instances smaller"
        )

    def views() -> Iterator[Sample]:
        preset = PRESETS[config.camera]
        for view in range(config.views):
            rng = np.random.default_rng([*seed, ATTEMPTS + view])
            K, cam_T_bin = sample_camera(preset, bin, rng)
            image = render(settled, K, preset.size, cam_T_bin, rng)
            depth = image.depth
            if config.noise != "none":
                depth = add_noise(depth, K, rng, SensorParams().jittered(rng), image.rgb)
            record = SceneRecord(
                K=K,
                depth=depth,
                color=image.rgb,
                cam_T_world=cam_T_bin,
                object_id=np.full(n, object_id),
                pose=image.poses,
                masks=image.masks,
                layers=image.layers,
                pixels=image.pixels,
                box=image.box,
                depth_order=image.depth_order,
            )
            yield Sample(record, image.visible_fraction, part, scene, view)

    return views(), attempt


def generate(config: Config, root: str | Path, workers: int = 1, progress: Callable[[int], None] | None = None) -> dict[str, Any]:
    """Write one split of a dataset, or what is still missing of it.

    Args:
        config: from ``prepare``.
        root: folder of the dataset.
        workers: processes.
        progress: called with the number of images each time some are done; those found finished come first.

    Returns:
        the summary that is stored in dataset_<split>.json too.

    Raises:
        InputError: the folder holds another configuration, the disk is too small, a pile does not settle, ….
    """
    root = Path(root)
    writer = BopWriter(root, config.split)
    summary_path = root / f"dataset_{config.split}.json"
    done = _claim(config, root, summary_path, writer)
    _check_disk(config, root, config.folders - len(done))
    report = progress or (lambda images: None)
    report(sum(_images(config, folder) for folder in done))
    todo = [folder for folder in range(config.folders) if folder not in done]
    jobs = [(config, str(root), folder) for folder in todo]
    if workers <= 1 or len(jobs) <= 1:
        cv2.setNumThreads(1)
        for job in jobs:
            report(_write_folder(job))
    else:
        # spawn: a forked child would inherit the locks of OpenCV's and numba's threads.
        with multiprocessing.get_context("spawn").Pool(min(workers, len(jobs)), initializer=_quiet_worker) as pool:
            for images in pool.imap_unordered(_write_folder, jobs):
                report(images)
    rejected = sum(int(read_json(writer.scene_folder(folder) / "pile_info.json")["rejected"]) for folder in range(config.folders))
    summary = {
        "config": _plain(config),
        "complete": True,
        "images": config.scenes * config.views,
        "scenes": config.scenes,
        "rejected_attempts": rejected,
        "accepted_share": config.scenes / (config.scenes + rejected),
    }
    write_json(summary_path, summary)
    return summary


def _claim(config: Config, root: Path, summary_path: Path, writer: BopWriter) -> set[int]:
    """Make the folder ours, or recognise it as ours; returns the scene folders that are finished."""
    if summary_path.is_file():
        stored = read_json(summary_path).get("config")
        if stored != _plain(config):
            old = stored if isinstance(stored, dict) else {}
            differing = [key for key, value in _plain(config).items() if old.get(key) != value]
            raise InputError(
                f"{root} holds a {config.split} split made with another {', '.join(differing)}: choose another --out or delete it"
            )
    elif (root / config.split).exists():
        raise InputError(f"{root / config.split} exists but was not made by this command: choose another --out")
    writer.write_models({object_id: _model_info(part) for object_id, part in part_table(config)})
    if not summary_path.is_file():
        write_json(summary_path, {"config": _plain(config), "complete": False})
    writer.remove_leftovers()
    return {folder for folder in range(config.folders) if writer.has_scene(folder)}


def _write_folder(job: tuple[Config, str, int]) -> int:
    """Make one scene folder; returns its number of images."""
    config, root, folder = job
    rejected = 0

    def records() -> Iterator[SceneRecord]:
        nonlocal rejected
        for scene in range(folder * PILES_PER_FOLDER, min((folder + 1) * PILES_PER_FOLDER, config.scenes)):
            samples, attempts = make_pile(config, scene)
            rejected += attempts
            for sample in samples:
                yield sample.record

    BopWriter(root, config.split).write_scene(folder, records(), extra=lambda: {"pile_info.json": {"rejected": rejected}})
    return _images(config, folder)


def _quiet_worker() -> None:
    """Ctrl-C is the parent's business; one thread a worker."""
    import signal

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    cv2.setNumThreads(1)


def _images(config: Config, folder: int) -> int:
    return min(PILES_PER_FOLDER, config.scenes - folder * PILES_PER_FOLDER) * config.views


def bytes_per_image(config: Config) -> int:
    """Estimate of the disk space of one image with its masks, from measured sets."""
    h, w = PRESETS[config.camera].size
    depth = 0.6 if config.noise != "none" else 0.15
    return int(h * w * (1.25 + depth) + 2 * config.instances[1] * 4096 + 4 * 4096)


def _check_disk(config: Config, root: Path, folders: int) -> None:
    needed = folders * PILES_PER_FOLDER * config.views * bytes_per_image(config)
    free = shutil.disk_usage(root).free
    if needed > 0.95 * free:
        raise InputError(f"{root} needs about {needed / 1e9:.1f} GB but has {free / 1e9:.1f} GB free: choose another disk or fewer scenes")


def _model_info(part: Part) -> ModelInfo:
    return ModelInfo(
        name=part.name,
        vertices=part.vertices,
        faces=part.faces,
        diameter=part.diameter,
        chiral=part.chiral,
        surface_centroid=part.surface_centroid,
        surface_covariance=part.surface_covariance,
    )


def _plain(config: Config) -> dict[str, Any]:
    """As it comes back from JSON; the mesh by its name only: no paths of this machine in files."""
    plain = json.loads(json.dumps(asdict(config)))
    if config.mesh:
        plain["mesh"] = [Path(config.mesh[0]).name, config.mesh[1]]
    return plain
