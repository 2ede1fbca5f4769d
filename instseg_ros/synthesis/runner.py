"""Running a recipe for simulated data: in parallel, resumable, the same bytes whatever the number of workers."""

from __future__ import annotations

import multiprocessing
import shutil
import signal
from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2

from ..errors import InputError
from ..files import read_json, write_json

SPLITS = ("train", "val", "test")


class Recipe(ABC):
    """One split of a data set: what it holds, and how each of its units (a folder or file that appears at once) is made.

    A unit depends on nothing but the recipe and its number. Instances are sent to worker processes.
    """

    split: str
    seed: int

    @property
    @abstractmethod
    def units(self) -> int:
        """Number of units."""

    @abstractmethod
    def images_in(self, unit: int) -> int:
        """Images (or scenes) of a unit."""

    @abstractmethod
    def bytes_per_image(self) -> int:
        """Estimate of the disk space of one image."""

    @abstractmethod
    def describe(self) -> dict[str, Any]:
        """Everything that decides what the split looks like, as JSON; compared when a run is continued."""

    @abstractmethod
    def start(self, root: Path) -> None:
        """Write what all splits share (models); InputError if the folder holds something else."""

    @abstractmethod
    def path(self, root: Path, unit: int) -> Path:
        """Where a unit lies once it is complete."""

    @abstractmethod
    def write(self, root: Path, unit: int) -> None:
        """Make one unit; it appears under its name when it is complete."""

    def summary(self, root: Path) -> dict[str, Any]:
        """Further facts for dataset_<split>.json when all units are there."""
        return {}

    @property
    def images(self) -> int:
        """Images of the split."""
        return sum(self.images_in(unit) for unit in range(self.units))

    def check_common(self) -> None:
        """Checks that every recipe shares."""
        check(self.split in SPLITS, f"unknown split {self.split!r}: choose {', '.join(SPLITS)}")
        check(self.seed >= 0, f"--seed must not be negative, got {self.seed}")

    def entropy(self, *numbers: int) -> list[int]:
        """Seed of ``numpy.random.default_rng`` for one item: differs between splits."""
        return [self.seed, SPLITS.index(self.split), *numbers]


def check(ok: bool, problem: str) -> None:
    """InputError with ``problem`` unless ``ok``."""
    if not ok:
        raise InputError(problem)


def generate(
    recipe: Recipe, root: str | Path, workers: int = 1, progress: Callable[[int], object] | None = None
) -> dict[str, Any]:
    """Write one split of a dataset, or what is still missing of it.

    Args:
        recipe: what to make.
        root: folder of the dataset.
        workers: processes.
        progress: called with a number of images each time some are done; those found finished come first.

    Returns:
        the summary that is stored in dataset_<split>.json too.

    Raises:
        InputError: the folder holds another configuration, the disk is too small, a pile does not settle, ….
    """
    check(workers >= 1, f"--workers must be positive, got {workers}")
    root, report = Path(root), progress or (lambda images: None)
    summary_path = root / f"dataset_{recipe.split}.json"
    todo = _claim(recipe, root, summary_path)
    report(recipe.images - sum(recipe.images_in(unit) for unit in todo))
    jobs = [(recipe, str(root), unit) for unit in todo]
    if workers == 1 or len(jobs) <= 1:
        cv2.setNumThreads(1)
        for job in jobs:
            report(_write(job))
    else:
        # spawn: a forked child would inherit the locks of OpenCV's and numba's threads.
        context = multiprocessing.get_context("spawn")
        with context.Pool(min(workers, len(jobs)), initializer=_start_worker) as pool:
            for images in pool.imap_unordered(_write, jobs):
                report(images)
    summary = {"config": recipe.describe(), "complete": True, "images": recipe.images, **recipe.summary(root)}
    write_json(summary_path, summary)
    return summary


def _claim(recipe: Recipe, root: Path, summary_path: Path) -> list[int]:
    """Make the folder ours, or recognise it as ours; returns the units that are missing."""
    config = recipe.describe()
    if summary_path.is_file():
        stored = read_json(summary_path)
        old = stored.get("config", {}) if isinstance(stored, dict) else {}
        differing = [key for key in config | old if old.get(key) != config.get(key)]
        if differing:
            raise InputError(
                f"{root} holds a {recipe.split} split made with another {', '.join(differing)}: choose another --out or delete it"
            )
    elif (root / recipe.split).exists():
        raise InputError(f"{root / recipe.split} exists but was not made by this command: choose another --out")
    todo = [unit for unit in range(recipe.units) if not recipe.path(root, unit).exists()]
    _check_disk(recipe, root, todo)
    recipe.start(root)
    if not summary_path.is_file():
        write_json(summary_path, {"config": config, "complete": False})
    for leftover in (root / recipe.split).glob(".*"):  # half-written by a killed run
        try:
            shutil.rmtree(leftover) if leftover.is_dir() else leftover.unlink()
        except OSError as error:
            raise InputError(f"cannot delete {leftover}, which a killed run left behind: {error.strerror or error}") from error
    return todo


def _check_disk(recipe: Recipe, root: Path, todo: list[int]) -> None:
    needed = sum(recipe.images_in(unit) for unit in todo) * recipe.bytes_per_image()
    folder = next((path for path in (root, *root.absolute().parents) if path.is_dir()), Path("/"))
    free = shutil.disk_usage(folder).free
    if needed > 0.95 * free:
        raise InputError(f"{root} needs about {_size(needed)} but has {_size(free)} free: choose another disk or fewer scenes")


def _size(number: float) -> str:
    return f"{number / 1e9:.1f} GB" if number >= 1e9 else f"{number / 1e6:.1f} MB"


def _write(job: tuple[Recipe, str, int]) -> int:
    recipe, root, unit = job
    recipe.write(Path(root), unit)
    return recipe.images_in(unit)


def _start_worker() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's business
    cv2.setNumThreads(1)
