"""One training run of MTML: from voxel scenes or images of bins to the model directory."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from torch.utils.data import DataLoader

from ..freed_memory import keep_freed_memory
from ..methods.mtml.network import MTMLConfig
from ..methods.mtml.voxel_segmenter import Thresholds, VoxelSegmenter
from ..resources import find_model
from .config import SupervisedTrainerConfig
from .mtml import LossConfig, MTMLModule
from .mtml_sources import DataConfig, open_source
from .optimizer import OptimizerConfig
from .supervised import CountEpochs, build_sections, check_run, fit, keep_config, start_from
from .trained_model import write_trained

SECTIONS = {
    "network": MTMLConfig, "loss": LossConfig, "data": DataConfig, "optimizer": OptimizerConfig, "trainer": SupervisedTrainerConfig,
}  # fmt: skip


def fit_mtml(data: Path, out: Path, config: dict[str, Any], *, seed: int, resume: bool, limit_steps: int | None = None) -> dict[str, Any]:
    """Train on the split ``train`` of voxel scenes or of a BOP dataset, validate on ``val`` or else ``test``, write the model directory.

    ``out/run`` holds the configuration, the log and the checkpoints; ``resume`` goes on from the last of these.

    Args:
        config: sections network, loss, data, input (of bins), optimizer, trainer, thresholds; missing keys take their defaults.
        limit_steps: stop after so many optimiser steps in all.

    Returns:
        metrics of the held-out data, of voxel scenes the mean AP, AP50 and AP25 over the classes; nothing where there are none.

    Raises:
        InputError: bad configuration or data; a run in ``out`` that ``resume`` would be needed for.
    """
    sections = build_sections(config, SECTIONS, others=("input", "thresholds"))
    network, loss, samples, optimizer, run = sections.values()
    checkpoint = check_run(out, resume=resume)
    source = open_source(data, samples, config.get("input", {}), seed)
    thresholds = Thresholds.from_dict({"usual": source.usual, **config.get("thresholds", {})})
    network = replace(network, channels=source.channels)
    pl.seed_everything(seed, workers=True, verbose=False)
    module = MTMLModule(network, loss, optimizer)
    if run.init and not resume:
        print(start_from(find_model(run.init), module.network, method="mtml"))
    keep_config(out, {**sections, "network": network, "thresholds": thresholds}, seed)
    dataset = source.dataset
    loader = DataLoader(
        dataset, run.batch_size, shuffle=True, collate_fn=source.collate, num_workers=run.workers,
        drop_last=len(dataset) >= run.batch_size, persistent_workers=run.workers > 0, generator=torch.Generator().manual_seed(seed),
    )  # fmt: skip
    keep_freed_memory()
    trainer = fit(
        module, loader, out, run, clip=optimizer.clip, checkpoint=checkpoint, limit_steps=limit_steps, callbacks=[CountEpochs(dataset)]
    )
    metrics: dict[str, Any] = {}
    if run.validation_images:
        segmenter = VoxelSegmenter(module.network, thresholds, torch.device("cuda" if torch.cuda.is_available() else "cpu"))
        metrics = {name: round(value, 4) for name, value in source.score(segmenter, run.validation_images).items()}
    if trainer.is_global_zero:
        facts = {**source.facts, "steps": trainer.global_step, "batch_size": run.batch_size, "seed": seed}
        told = ", ".join(f"{name} {', '.join(value) if isinstance(value, list) else value}" for name, value in facts.items())
        write_trained(
            out, module.network.cpu(), thresholds, method="mtml", what=f"MTML on voxels of {', '.join(source.inputs['modalities'])}",
            trained=f"Training: {told}", inputs=source.inputs, facts=facts, metrics=metrics,
        )  # fmt: skip
    return metrics
