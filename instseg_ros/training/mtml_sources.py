"""What MTML can be trained on: voxel scenes of `instseg synth voxels`, images of bins in BOP format, scans in ScanNet's format."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import Dataset

from ..bop import BopDataset
from ..errors import InputError
from ..evaluation.image_set import evaluate_sets, open_dataset
from ..evaluation.scannet import CLASSES as SCANNET
from ..evaluation.scannet import MESH, read_scan, scan_folders
from ..evaluation.scannet_voxels import VOXEL as SCAN_VOXEL
from ..evaluation.scannet_voxels import scan_voxels
from ..evaluation.voxels import evaluate_voxels
from ..methods.mtml.segmenter import MTMLSegmenter
from ..methods.mtml.views import VoxelInput
from ..methods.mtml.voxel_segmenter import VoxelSegmenter
from ..synthesis.voxel_samples import Voxels, load_scenes
from ..synthesis.voxels import CLASSES, VOXEL
from .config import build, plain
from .voxel_bins import BinVoxels, collate_grids, visible_sizes
from .voxel_scenes import VoxelSet, collate, usual_sizes


@dataclass(frozen=True, kw_only=True)
class DataConfig:
    """What the network sees.

    Attributes:
        noise: voxel scenes: share of the blocks of voxels whose class is wrong in the input, as a semantic segmentation errs.
        window: bins: longest side of a sample along x and y, in voxels, 0 = all of the view.
        flips: bins: mirror half of the samples.
        sensor_noise: bins: add D435-like noise, of another device each time, to the depth (for noise-free sets; off for real ones).
    """

    noise: float = 0.0
    window: int = 96
    flips: bool = False
    sensor_noise: bool = False

    def __post_init__(self) -> None:
        if not 0 <= self.noise <= 1:
            raise InputError(f"config data.noise must lie in [0, 1], got {self.noise}")
        if self.window < 0:
            raise InputError(f"config data.window must not be negative, got {self.window}")


@dataclass(frozen=True)
class Source:
    """Training data and what goes with them.

    Attributes:
        dataset: augmented samples, with ``epoch``. collate: samples → batch.
        channels: of a voxel. usual: mean and standard deviation of ln(voxels) of each class.
        inputs: section ``input`` of ``model.yaml``. facts: about the data, for the card.
        score: (network with thresholds, most samples) → metrics on held-out data; nothing where there are none.
    """

    dataset: Dataset
    collate: Callable[[Sequence[dict[str, torch.Tensor]]], dict[str, Any]]
    channels: int
    usual: tuple[tuple[float, float], ...]
    inputs: dict[str, Any]
    facts: dict[str, Any]
    score: Callable[[VoxelSegmenter, int], dict[str, float]]


def open_source(data: Path, config: DataConfig, inputs: dict[str, Any], seed: int) -> Source:
    """Recognise voxel scenes, ScanNet's scans or a BOP dataset in ``data``, by what lies in its split ``train``.

    Args:
        inputs: section ``input`` of the configuration, for bins.

    Raises:
        InputError: none of them, or a configuration that does not fit it.
    """
    scans = any((data / "train").glob(f"*/*{MESH}"))
    if scans or any((data / "train").glob("*.npz")) or not (data / "train").is_dir():
        if inputs:
            raise InputError("config input is for datasets in BOP format: leave it out, the voxels of scenes have their size")
        return _scans(data, config, seed) if scans else _scenes(data, config, seed)
    return _bins(data, config, build(VoxelInput, "input", inputs), seed)


def _scenes(data: Path, config: DataConfig, seed: int) -> Source:
    scenes = load_scenes(data, "train")

    def score(segmenter: VoxelSegmenter, limit: int) -> dict[str, float]:
        split = _held_out(data)
        return evaluate_voxels(segmenter, load_scenes(data, split)[:limit], noise=config.noise)["mean"] if split else {}

    return _of_semantics(data, scenes, list(CLASSES), VOXEL, config, seed, score)


def _scans(data: Path, config: DataConfig, seed: int) -> Source:
    """True semantics go in, as in the paper's pretraining; the held-out scans are scored by `instseg evaluate --scannet`."""
    scenes = [scan_voxels(read_scan(folder)).voxels for folder in scan_folders(data / "train")]
    return _of_semantics(data, scenes, list(SCANNET.values()), SCAN_VOXEL, config, seed, lambda segmenter, limit: {})


def _of_semantics(
    data: Path, scenes: list[Voxels], names: list[str], voxel: float, config: DataConfig, seed: int,
    score: Callable[[VoxelSegmenter, int], dict[str, float]],
) -> Source:  # fmt: skip
    seen = {"modalities": ["semantics"], "voxel": voxel, "classes": names}
    facts = {"data": data.resolve().name, "scenes": len(scenes), "noise": config.noise}
    dataset = VoxelSet(scenes, len(names), config.noise, seed)
    return Source(dataset, collate, len(names), usual_sizes(scenes, len(names)), seen, facts, score)


def _bins(data: Path, config: DataConfig, inputs: VoxelInput, seed: int) -> Source:
    dataset = BopDataset(data, "train")
    if config.noise:
        raise InputError(f"config data.noise is for voxel scenes, whose classes are known: set it to 0 for {data}")
    if config.flips and any(dataset.chiral.values()):
        raise InputError("config data.flips: a part of this dataset is chiral, its mirror image is another part: set flips to false")

    def score(segmenter: VoxelSegmenter, limit: int) -> dict[str, float]:
        split = _held_out(data)
        if not split:
            return {}
        whole = MTMLSegmenter(segmenter, inputs)
        evaluation, _ = evaluate_sets(lambda frame, truth: whole.segment(frame), [open_dataset(data, split)], limit=limit)
        result = evaluation.result(intervals=False)
        return {name: result[name] for name in ("AP", "AP50", "mIoU")}

    seen = {"modalities": ["depth"], **plain(asdict(inputs))}
    parts = sorted(set(dataset.part_names.values()))
    facts = {"data": data.resolve().name, "images": len(dataset), "parts": parts}
    samples = BinVoxels(dataset, inputs, config.window, config.flips, seed, sensor_noise=config.sensor_noise)
    return Source(samples, collate_grids, inputs.channels, visible_sizes(dataset, inputs), seen, facts, score)


def _held_out(data: Path) -> str | None:
    return next((name for name in ("val", "test") if (data / name).is_dir()), None)
