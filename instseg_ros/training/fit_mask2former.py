"""One training run of Mask2Former: from labelled datasets to the model directory."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from torch.utils.data import DataLoader

from ..freed_memory import keep_freed_memory
from ..methods.mask2former.network import LossConfig, NetworkConfig
from ..methods.mask2former.segmenter import Thresholds
from ..resources import find_model
from .config import SupervisedTrainerConfig
from .data import remove_unpacked, unpack
from .mask2former import Mask2FormerModule
from .mask2former_data import DataConfig, ManyDatasets, MaskViews, collate
from .optimizer import OptimizerConfig
from .segmenter_validation import validation_loader
from .supervised import CountEpochs, build_sections, check_run, fit, keep_config, start_from, validated
from .trained_model import write_trained

SECTIONS = {
    "network": NetworkConfig,
    "loss": LossConfig,
    "data": DataConfig,
    "optimizer": OptimizerConfig,
    "trainer": SupervisedTrainerConfig,
}


def fit_mask2former(
    data: Path, out: Path, config: dict[str, Any], *, seed: int, resume: bool, limit_steps: int | None = None
) -> dict[str, Any]:
    """Train on the ``train`` split of a BOP dataset, or of every one in a folder; validate on ``val``; write the model directory ``out``.

    ``out/run`` holds the configuration, the log and the checkpoints; ``resume`` goes on from the last of these.

    Args:
        config: sections network, loss, data, optimizer, trainer, thresholds; missing keys take their defaults.
        limit_steps: stop after so many optimiser steps in all; the learning rate falls to 0 there.

    Returns:
        the validation metrics.

    Raises:
        InputError: bad configuration or data; no package `transformers`; a run in ``out`` that ``resume`` would be needed for.
    """
    sections = build_sections(config, SECTIONS)
    network, samples, optimizer, run = (sections[name] for name in ("network", "data", "optimizer", "trainer"))
    thresholds = Thresholds.from_dict(config.get("thresholds", {}))
    checkpoint = check_run(out, resume=resume)
    pl.seed_everything(seed, workers=True, verbose=False)
    training = ManyDatasets.open(data, "train", samples.images)
    has_validation = (data / "val").is_dir() or any(data.glob("*/val"))
    validation = ManyDatasets.open(data, "val") if has_validation and run.validation_images else None
    module = Mask2FormerModule(network, sections["loss"], optimizer, thresholds, validation)
    if run.init and not resume:
        print(start_from(find_model(run.init), module.network, method="mask2former"))
    views = unpack(training, out)
    keep_config(out, sections | {"thresholds": thresholds}, seed)
    masks = MaskViews(views, training, samples, seed)
    loader = DataLoader(
        masks, run.batch_size, shuffle=True, collate_fn=collate, num_workers=run.workers, drop_last=len(masks) >= run.batch_size,
        persistent_workers=run.workers > 0, pin_memory=torch.cuda.is_available(), generator=torch.Generator().manual_seed(seed),
    )  # fmt: skip
    keep_freed_memory()
    trainer = fit(
        module, loader, out, run, clip=optimizer.clip, checkpoint=checkpoint, limit_steps=limit_steps,
        callbacks=[CountEpochs(masks)],
        validation=None if validation is None else validation_loader(validation, run.validation_images),
    )  # fmt: skip
    metrics = validated(trainer)
    if trainer.is_global_zero:
        remove_unpacked(out)
        facts = {
            "data": data.resolve().name, "images": len(training), "parts": training.part_names, "steps": trainer.global_step,
            "batch_size": run.batch_size, "seed": seed,
        }  # fmt: skip
        write_trained(
            out, module.network, thresholds, method="mask2former",
            what="Mask2Former (built by `transformers`, random weights to start with), depth only",
            trained=f"Trained on {facts['images']} images of {', '.join(facts['parts'])} ({facts['steps']} steps of {run.batch_size}, seed {seed})",
            inputs={"modalities": ["depth"], "size": "any, padded to multiples of 32", "depth_range": [0.2, 2.0]},
            facts=facts, metrics=metrics,
        )  # fmt: skip
    return metrics
