"""One training run of MTML on voxel scenes: from `instseg synth voxels` to the model directory."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from torch.utils.data import DataLoader

from ..errors import InputError
from ..evaluation.voxels import evaluate_voxels
from ..methods.model_directory import write_model
from ..methods.mtml.network import MTML, MTMLConfig
from ..methods.mtml.voxel_segmenter import Thresholds, VoxelSegmenter
from ..resources import find_model
from ..synthesis.voxel_samples import load_scenes
from ..synthesis.voxels import CLASSES, VOXEL
from .config import SupervisedTrainerConfig, build, plain
from .memory import keep_freed_memory
from .mtml import LossConfig, MTMLModule
from .optimizer import OptimizerConfig
from .supervised import CountEpochs, check_run, check_sections, fit, keep_config, start_from
from .voxel_scenes import VoxelSet, collate, usual_sizes


@dataclass(frozen=True, kw_only=True)
class DataConfig:
    """What the network sees.

    Attributes:
        noise: share of the blocks of voxels whose class is wrong in the input, as a semantic segmentation errs; in [0, 1].
    """

    noise: float = 0.0

    def __post_init__(self) -> None:
        if not 0 <= self.noise <= 1:
            raise InputError(f"config data.noise must lie in [0, 1], got {self.noise}")


SECTIONS = {
    "network": MTMLConfig, "loss": LossConfig, "data": DataConfig, "optimizer": OptimizerConfig, "trainer": SupervisedTrainerConfig,
}  # fmt: skip


def fit_mtml(data: Path, out: Path, config: dict[str, Any], *, seed: int, resume: bool, limit_steps: int | None = None) -> dict[str, Any]:
    """Train on the split ``train`` of a set of voxel scenes, validate on ``val`` or else ``test``, write the model directory ``out``.

    ``out/run`` holds the configuration, the log and the checkpoints; ``resume`` goes on from the last of these.

    Args:
        config: sections network, loss, data, optimizer, trainer, thresholds; missing keys take their defaults.
        limit_steps: stop after so many optimiser steps in all.

    Returns:
        mean AP, AP50 and AP25 over the classes of the validation scenes; nothing where there are none.

    Raises:
        InputError: bad configuration or data; a run in ``out`` that ``resume`` would be needed for.
    """
    check_sections(config, [*SECTIONS, "thresholds"])
    sections = {name: build(kind, name, config.get(name, {})) for name, kind in SECTIONS.items()}
    network, loss, samples, optimizer, run = sections.values()
    checkpoint = check_run(out, resume=resume)
    scenes = load_scenes(data, "train")
    thresholds = Thresholds.from_dict({"usual": usual_sizes(scenes, len(CLASSES)), **config.get("thresholds", {})})
    network = replace(network, channels=len(CLASSES))
    pl.seed_everything(seed, workers=True, verbose=False)
    module = MTMLModule(network, loss, optimizer)
    if run.init and not resume:
        print(start_from(find_model(run.init), module.network, method="mtml"))
    keep_config(out, {**sections, "network": network, "thresholds": thresholds}, seed)
    dataset = VoxelSet(scenes, len(CLASSES), samples.noise, seed)
    loader = DataLoader(
        dataset, run.batch_size, shuffle=True, collate_fn=collate, num_workers=run.workers, drop_last=len(dataset) >= run.batch_size,
        persistent_workers=run.workers > 0, generator=torch.Generator().manual_seed(seed),
    )  # fmt: skip
    keep_freed_memory()
    trainer = fit(
        module, loader, out, run, clip=optimizer.clip, checkpoint=checkpoint, limit_steps=limit_steps, callbacks=[CountEpochs(dataset)]
    )
    metrics: dict[str, Any] = {}
    split = next((name for name in ("val", "test") if (data / name).is_dir()), None)
    if split and run.validation_images:
        segmenter = VoxelSegmenter(module.network, thresholds, torch.device("cuda" if torch.cuda.is_available() else "cpu"))
        held_out = load_scenes(data, split)[: run.validation_images]
        mean = evaluate_voxels(segmenter, held_out, noise=samples.noise, seed=seed)["mean"]
        metrics = {name: round(value, 4) for name, value in mean.items()}
    if trainer.is_global_zero:
        facts = {"data": data.resolve().name, "scenes": len(scenes), "noise": samples.noise, "epochs": run.epochs,
                 "batch_size": run.batch_size, "seed": seed}  # fmt: skip
        write_mtml(out, module.network.cpu(), thresholds, facts=facts, metrics=metrics)
    return metrics


def write_mtml(
    out: Path, network: MTML, thresholds: Thresholds, *, facts: dict[str, Any], metrics: dict[str, Any]
) -> None:
    """Write the model directory of a network that was trained on the toy scenes, with a first model card."""
    config = {
        "method": "mtml",
        "name": out.name,
        "network": plain(asdict(network.config)),
        "input": {"modalities": ["semantics"], "voxel": VOXEL, "classes": list(CLASSES)},
        "thresholds": plain(asdict(thresholds)),
        "amodal": False,
        "training": facts,
        "metrics": metrics,
    }
    rows = "\n".join(f"| {name} | {value} |" for name, value in metrics.items())
    card = (
        f"# {out.name}\n\nMTML on voxel grids of semantic labels; {sum(p.numel() for p in network.parameters()) / 1e6:.2f} M parameters.\n\n"
        f"Trained on {facts['scenes']} scenes of {facts['data']} ({facts['epochs']} epochs, batch {facts['batch_size']}, seed {facts['seed']}).\n\n"
        f"| Validation, mean of the classes | Value |\n| --- | --- |\n{rows}\n"
    )
    write_model(out, config=config, weights=network.state_dict(), card=card)
