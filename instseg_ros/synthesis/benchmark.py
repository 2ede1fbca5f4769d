"""The standard sets of ``config/insta10_sim.yaml``: which bins each of them holds."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from ..errors import InputError
from ..resources import share_directory
from .bins import BinsRecipe
from .parts import PARTS
from .runner import SPLITS, check

FILE = "insta10_sim.yaml"
KEYS = {"sets", "instances", "camera", "seed", "hard_share", "parts"}


@dataclass(frozen=True)
class BenchmarkPart:
    """One part of a benchmark.

    Attributes:
        bin: half side of its square bin, metres.
        seed: of its piles.
        kmeans_paper: mIoU of k-means on the part of that name in Insta-10 (InSeGAN, Table 1), what ``bin`` is calibrated to.
        reached: what k-means reaches here, by name of the figure; empty before the calibration.
    """

    name: str
    bin: float
    seed: int
    kmeans_paper: float
    reached: dict[str, float]


@dataclass(frozen=True)
class Benchmark:
    """A standard set: a folder with one BOP dataset a part, ``<root>/<part>``.

    Attributes:
        name: of the set.
        counts: images of a part by split.
        instances: parts in a pile. camera, noise: as in ``BinsRecipe``.
        hard_share: share of each part's images that count as hard.
        parts: by name, in the order of the paper's tables.
    """

    name: str
    counts: dict[str, int]
    instances: int
    camera: str
    noise: str
    hard_share: float
    parts: dict[str, BenchmarkPart]

    def recipe(self, part: str, split: str, *, bin: float | None = None, scenes: int | None = None) -> BinsRecipe:
        """What one split of one part holds; another bin (m) or number of scenes is for calibration and tests.

        Raises:
            InputError: a part or split that the set lacks.
        """
        check(split in self.counts, f"unknown split {split!r}: choose {', '.join(self.counts)}")
        entry = self.parts[self.select([part])[0]]
        half = entry.bin if bin is None else bin
        return BinsRecipe(
            parts=(part,),
            scenes=scenes or self.counts[split],
            instances=(self.instances, self.instances),
            camera=self.camera,
            noise=self.noise,
            split=split,
            seed=entry.seed,
            bin=(half, half),
        )

    def select(self, parts: str | Sequence[str] | None) -> list[str]:
        """Names of parts, from ``nut,bolt``, a list, or None and ``all`` for every part; InputError for unknown ones."""
        if parts is None or parts == "all":
            return list(self.parts)
        names = parts.split(",") if isinstance(parts, str) else list(parts)
        for name in names:
            check(name in self.parts, f"{self.name} has no part {name!r}: it has {', '.join(self.parts)}")
        return list(dict.fromkeys(names))

    def digest(self) -> str:
        """Eight hex digits that change with anything that changes a test image."""
        text = json.dumps([self.recipe(part, "test").describe() for part in self.parts])
        return hashlib.sha256(text.encode()).hexdigest()[:8]


def benchmark_names(path: str | Path | None = None) -> list[str]:
    """Names of the sets that the file defines."""
    return list(_read(path)["sets"])


def read_benchmark(name: str, path: str | Path | None = None) -> Benchmark:
    """One of the sets of a benchmark file.

    Args:
        name: ``insta10-sim``, ``insta10-sim-small``, or one of them with ``-d435`` added, with that camera's noise.
        path: the file; the one that ships in ``config/`` by default.

    Raises:
        InputError: unknown name, or what is wrong with the file.
    """
    config = _read(path)
    if name not in config["sets"]:
        raise InputError(f"unknown benchmark {name!r}: choose {', '.join(config['sets'])}")
    try:
        counts = {split: int(config["sets"][name][split]) for split in SPLITS}
        parts = {}
        for number, (part, entry) in enumerate(config["parts"].items()):
            figures = {str(key): float(value) for key, value in entry.items()}
            half, paper = figures.pop("bin"), figures.pop("kmeans_paper")
            parts[str(part)] = BenchmarkPart(str(part), half, int(config["seed"]) + number, paper, figures)
        benchmark = Benchmark(
            name=name,
            counts=counts,
            instances=int(config["instances"]),
            camera=str(config["camera"]),
            noise=str(config["sets"][name]["noise"]),
            hard_share=float(config["hard_share"]),
            parts=parts,
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise InputError(
            f"{_file(path)}: {name} or one of the parts is not as it should be ({error!r}): compare with the one that ships"
        ) from None
    unknown = set(benchmark.parts) - set(PARTS)
    check(not unknown, f"{_file(path)}: unknown part {min(unknown, default='')!r}: choose {', '.join(PARTS)}")
    check(0 < benchmark.hard_share < 1, f"{_file(path)}: hard_share must lie between 0 and 1, got {benchmark.hard_share}")
    return benchmark


def _file(path: str | Path | None) -> Path:
    return Path(path) if path else share_directory() / "config" / FILE


def _read(path: str | Path | None) -> dict[str, Any]:
    file = _file(path)
    try:
        config = yaml.safe_load(file.read_text())
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise InputError(f"{file} cannot be read: {' '.join(str(error).split())[:200]}") from None
    whole = isinstance(config, dict) and config.keys() == KEYS
    if not whole or not all(isinstance(config[key], dict) for key in ("sets", "parts")):
        raise InputError(f"{file} must hold the keys {', '.join(sorted(KEYS))}: compare with the one that ships")
    return config
