"""Unlabelled depth → training images of InSeGAN: the distinct ones, normalised, in one memory-mapped file."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from ..errors import InputError
from ..files import read_json, write_json
from ..frame import Frame
from ..methods.insegan.normalisation import Normalisation
from ..region import Region
from .data import remove_empty
from .depth_sources import BagDepth, BopDepth, DepthSource
from .survey import FRAMES, fit_normalisation

LEAST_FRAMES = 200
"""Distinct frames without which a GAN learns the recording by heart; the paper used 3000 and more."""
COMPARED = 16  # cells along a side at which frames are compared
CHANGED = 0.15  # of the heights above the floor. D435 noise on a still pile of five bolts: up to 0.07, a new pile: 0.7 and more
LEAST_VALID = 0.2  # share of the region's pixels that must have a reading
MOST_INTRUDED = 0.01  # share of the region's pixels that something nearer than the parts may cover

Progress = Callable[[str, int], Callable[[int], Any]]
"""(name of the stage, frames) → what is called with each number of frames done; ``ProgressBars`` is one."""


@dataclass(frozen=True, eq=False)
class DepthImages:
    """Distinct working images of one camera over one bin.

    Attributes:
        images: (N, S, S) float32 in [−1, 1], read-only and memory-mapped, as ``Normalisation.apply`` makes them.
        normalisation: how they were made; belongs into ``model.yaml``.
        summary: plain values for the model card: ``source``, ``frames`` read, ``distinct`` ones kept, left out as
            ``duplicates``, ``empty``, ``intruded`` (a hand, an arm) or ``invalid`` (next to no reading), and
            ``missing_share`` of the region's readings in those kept.
    """

    images: np.ndarray
    normalisation: Normalisation
    summary: dict[str, Any]

    @property
    def K(self) -> np.ndarray:
        """(3, 3) float64 intrinsics of the camera's frames, pixels (those of the images: ``normalisation.working_K``)."""
        return self.normalisation.K

    def __len__(self) -> int:
        return len(self.images)

    def sample(self, share: float, seed: int) -> DepthImages:
        """A random share (0, 1] of the images, at least one, in their order; another seed, other images."""
        count = max(1, round(share * len(self)))
        chosen = np.sort(np.random.default_rng(seed).choice(len(self), count, replace=False))
        return replace(self, images=self.images[chosen], summary={**self.summary, "distinct": count})

    @classmethod
    def from_bop(cls, path: str | Path, split: str | None, folder: Path, **options: Any) -> DepthImages:
        """Images of a split of a BOP dataset of one fixed camera; reads scene_camera.json and depth/ only.

        Args:
            path, split: as for ``BopDataset``.
            folder: where the memory-mapped file goes.
            options: those of ``prepare``.
        """
        return cls.prepare(BopDepth(path, split), folder, **options)

    @classmethod
    def from_bag(cls, path: str | Path, topic: str | None, folder: Path, *, info: str | None = None, **options: Any) -> DepthImages:
        """Images of a rosbag2; reads one depth topic and its camera info only.

        Args:
            path: bag folder, .mcap or .db3 file.
            topic, info: names; None = found as ``find_topics`` does.
            folder: where the memory-mapped file goes.
            options: those of ``prepare``.
        """
        return cls.prepare(BagDepth(path, topic, info), folder, **options)

    @classmethod
    def prepare(
        cls,
        source: DepthSource,
        folder: Path,
        *,
        size: int = 64,
        roi: tuple[int, int, int, int] | None = None,
        depth_range: tuple[float, float] | None = None,
        normalisation: Normalisation | None = None,
        least: int = LEAST_FRAMES,
        progress: Progress = lambda name, frames: lambda done: None,
    ) -> DepthImages:
        """Look at some frames to fit the normalisation, then turn all of them into images, one at a time.

        What lies ready in ``folder`` from the same source and options is taken as it is.

        Args:
            size: S, working pixels along a side.
            roi: x, y, width, height in pixels of what matters; None = where parts turn out to lie.
            depth_range: metres; readings outside count as missing.
            normalisation: of another set of the same camera (validation); then ``size`` is its own, and the frames are
                neither searched nor compared.
            least: distinct frames without which this is an error.

        Raises:
            InputError: fewer frames than ``least``, nothing that moves, no reading, frames of several sizes, a full disk, and
                what the source raises; ``folder`` is removed.
        """
        region = Region(*(roi or (0, 0, 0, 0)), *(depth_range or (0.0, 0.0)))
        given = None if normalisation is None else normalisation.to_dict()
        request = {
            "source": source.key, "size": size, "roi": roi and list(roi), "depth_range": depth_range and list(depth_range),
            "normalisation": given,
        }  # fmt: skip
        ready = _read(folder, request)
        if ready is not None:
            return ready
        shutil.rmtree(folder, ignore_errors=True)
        try:
            folder.mkdir(parents=True)
            if normalisation is None:
                normalisation = _survey(source, region, size, progress)
            with (folder / "images.f32").open("wb") as file:
                summary = _write(file, source, region, normalisation, given is None, progress)
            if summary["distinct"] < least:
                raise InputError(_too_few(source, summary, least))
            write_json(folder / "images.json", {"request": request, "normalisation": normalisation.to_dict(), "summary": summary})
        except BaseException as error:
            remove_empty(folder)
            if isinstance(error, OSError):
                raise InputError(f"cannot write {folder}: {error.strerror or error}; choose an --out with space and permission") from error
            raise
        return _load(folder, normalisation, summary)


def _survey(source: DepthSource, region: Region, size: int, progress: Progress) -> Normalisation:
    if not len(source):
        raise InputError(f"{source.name} holds no depth image: record the depth topic")
    chosen = {int(i) for i in np.linspace(0, len(source) - 1, min(FRAMES, len(source))).round()}
    done = progress("finding the bin", len(chosen))
    try:
        return fit_normalisation(_counted(source.frames(chosen), done), region, size)
    except InputError as error:
        raise InputError(f"{source.name}: {error}") from None


def _write(file: Any, source: DepthSource, region: Region, n: Normalisation, compare: bool, progress: Progress) -> dict[str, Any]:
    """Write the images that are worth it, float32 one after the other; returns the summary."""
    count = dict.fromkeys(("frames", "distinct", "duplicates", "empty", "intruded", "invalid"), 0)
    missing, last = 0.0, None
    for frame in _counted(source.frames(), progress("reading depth", len(source))):
        count["frames"] += 1
        if compare and frame.shape[::-1] != tuple(n.image_size):
            raise InputError(
                f"{source.name}: the frames are {n.image_size[0]} x {n.image_size[1]} and {frame.shape[1]} x {frame.shape[0]} pixels: "
                "record one camera at one resolution"
            )
        seen = region.apply(frame) if region.near or region.far else frame
        reason = _useless(seen, n)
        image = n.apply(seen)
        if reason is None and (image <= -1).all():
            reason = "empty"
        if reason is None and compare and last is not None and not _differs(image, last):
            reason = "duplicates"
        if reason is not None:
            count[reason] += 1
            continue
        file.write(image.tobytes())
        missing += float(np.isnan(frame.depth[n.window(frame)]).mean())
        last = image
        count["distinct"] += 1
    share = round(missing / max(count["distinct"], 1), 4)
    return {"source": source.title, **count, "missing_share": share}


def _useless(frame: Frame, n: Normalisation) -> str | None:
    """Why a frame is no picture of the bin, if it is none."""
    if np.isfinite(frame.depth[n.window(frame)]).mean() < LEAST_VALID:
        return "invalid"
    return "intruded" if n.intrusion(frame) > MOST_INTRUDED else None


def _differs(a: np.ndarray, b: np.ndarray) -> bool:
    """Whether parts moved between two images, relative to what lies there; coarse, so that outlines may flicker."""
    a, b = (cv2.resize(image, (COMPARED, COMPARED), interpolation=cv2.INTER_AREA) + 1 for image in (a, b))
    return float(np.abs(a - b).sum()) > CHANGED * float(np.maximum(a.sum(), b.sum()))


def _too_few(source: DepthSource, summary: dict[str, Any], least: int) -> str:
    left_out = ", ".join(f"{summary[key]} {key}" for key in ("duplicates", "empty", "intruded", "invalid") if summary[key])
    return (
        f"{source.name} has {summary['distinct']} distinct frames of the {least} needed ({summary['frames']} frames"
        + (f", left out: {left_out}" if left_out else "")
        + "): record longer and stir the parts between frames, or allow it with --min-frames"
    )


def _counted(frames: Iterable[Frame], done: Callable[[int], Any]) -> Iterator[Frame]:
    for frame in frames:
        yield frame
        done(1)


def _read(folder: Path, request: dict[str, Any]) -> DepthImages | None:
    """The images of an earlier call with the same request, if they are whole."""
    file = folder / "images.json"
    if not file.is_file():
        return None
    stored = read_json(file)
    if not isinstance(stored, dict) or stored.get("request") != request:
        return None
    return _load(folder, Normalisation.from_dict(stored["normalisation"]), stored["summary"])


def _load(folder: Path, normalisation: Normalisation, summary: dict[str, Any]) -> DepthImages:
    shape = (summary["distinct"], normalisation.size, normalisation.size)
    return DepthImages(np.memmap(folder / "images.f32", np.float32, "r", shape=shape), normalisation, summary)
