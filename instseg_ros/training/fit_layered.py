"""One training run of Layered Embeddings: from drawn shapes or a dataset to the model directory."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from torch.utils.data import DataLoader

from ..bop import BopDataset
from ..errors import InputError
from ..methods.layered.network import LayeredConfig
from ..methods.layered.segmenter import PAD, Thresholds
from ..resources import find_model
from .config import SupervisedTrainerConfig, build
from .data import CropConfig, remove_unpacked, unpack
from .layered import LayeredModule, LossConfig
from .layered_data import DataConfig, LayeredCrops, LayeredShapes, LayeredViews, collate
from .optimizer import OptimizerConfig
from .supervised import CountEpochs, build_sections, check_run, fit, keep_config, start_from
from .trained_model import write_trained

SECTIONS = {
    "network": LayeredConfig,
    "loss": LossConfig,
    "data": DataConfig,
    "optimizer": OptimizerConfig,
    "trainer": SupervisedTrainerConfig,
}


@dataclass(frozen=True)
class RunConfig:
    """The sections of a configuration, checked.

    ``data`` is for shapes; ``crops`` for a dataset, whose views are taken whole without it.
    """

    network: LayeredConfig
    loss: LossConfig
    data: DataConfig
    crops: CropConfig | None
    optimizer: OptimizerConfig
    trainer: SupervisedTrainerConfig
    thresholds: Thresholds

    @classmethod
    def read(cls, config: dict[str, Any]) -> RunConfig:
        """Check a configuration; missing keys take their defaults, unknown ones are an InputError."""
        built = build_sections(config, SECTIONS, others=("crops", "thresholds"))
        crops = build(CropConfig, "crops", config["crops"]) if "crops" in config else None
        return cls(**built, crops=crops, thresholds=Thresholds.from_dict(config.get("thresholds", {})))


def fit_layered(data: Path | None, out: Path, config: dict[str, Any], *, seed: int, resume: bool, limit_steps: int | None = None) -> dict[str, Any]:
    """Train on shapes, or on the ``train`` split of a BOP dataset, and write the model directory ``out``.

    ``out/run`` holds the configuration, the log and the checkpoints; ``resume`` goes on from the last of these.

    Args:
        data: None = shapes, drawn as they are needed.
        config: see ``RunConfig``. limit_steps: stop after so many optimiser steps in all.

    Returns:
        the last means of the losses.

    Raises:
        InputError: bad configuration or data; a run in ``out`` that ``resume`` would be needed for.
    """
    run = RunConfig.read(config)
    checkpoint = check_run(out, resume=resume)
    samples = _samples(data, run, seed, out)

    pl.seed_everything(seed, workers=True, verbose=False)
    module = LayeredModule(run.network, run.loss, run.optimizer)
    if run.trainer.init and not resume:
        print(start_from(find_model(run.trainer.init), module.network, method="layered"))
    keep_config(out, {name: section for name, section in vars(run).items() if section is not None}, seed)
    t = run.trainer
    loader = DataLoader(
        samples, t.batch_size, shuffle=data is not None, collate_fn=collate, num_workers=t.workers, drop_last=len(samples) >= t.batch_size,
        persistent_workers=t.workers > 0, pin_memory=torch.cuda.is_available(), generator=torch.Generator().manual_seed(seed),
    )  # fmt: skip
    callbacks = [] if isinstance(samples, LayeredViews) else [CountEpochs(samples)]
    trainer = fit(module, loader, out, t, clip=run.optimizer.clip, checkpoint=checkpoint, limit_steps=limit_steps, callbacks=callbacks)
    metrics = {name: round(float(value), 4) for name, value in trainer.callback_metrics.items()}
    if trainer.is_global_zero:
        remove_unpacked(out)
        c, steps = run.network, trainer.global_step
        facts = {"data": data.resolve().name if data else "shapes", "images": steps * t.batch_size if data is None else len(samples),
                 "parts": list(c.classes), "steps": steps, "batch_size": t.batch_size, "seed": seed}  # fmt: skip
        write_trained(
            out, module.network, run.thresholds, method="layered", layers=c.layers, measured="Last losses",
            what=f"Layered Embeddings, inputs {', '.join(c.inputs)}, {c.layers} layers, {c.embedding}-dimensional embedding, {c.backbone} backbone",
            trained=f"Trained on {facts['images']} images of {facts['data']} ({', '.join(c.classes)}; {steps} steps of {t.batch_size}, seed {seed})",
            inputs={"modalities": list(c.inputs), "size": "any, padded to multiples of 16", "depth_range": [0.2, 2.0]},
            facts=facts, metrics=metrics,
        )  # fmt: skip
    return metrics


def _samples(data: Path | None, run: RunConfig, seed: int, out: Path) -> LayeredShapes | LayeredCrops | LayeredViews:
    network = run.network
    if data is None:
        if network.classes != run.data.classes:
            raise InputError(f"config network.classes {list(network.classes)} and data.classes {list(run.data.classes)} must agree to train on shapes")
        return LayeredShapes(run.data, network.inputs, network.layers, seed)
    dataset = BopDataset(data, "train")
    unknown = sorted(set(dataset.part_names.values()) - set(network.classes))
    if len(network.classes) > 1 and unknown:
        raise InputError(f"config network.classes lacks {unknown[0]!r} of {data}: name every part, or one class for all")
    if run.crops is not None:
        if run.crops.flips and any(dataset.chiral.values()):
            raise InputError("config crops.flips: a part of this dataset is chiral, its mirror image is another part: set flips to false")
        views = unpack(dataset, out, layers=network.layers, color="rgb" in network.inputs)
        return LayeredCrops(views, network.inputs, network.classes, run.crops, seed)
    height, width = dataset.frame(0, color=False).shape
    if height % PAD or width % PAD:
        raise InputError(f"{data} has images of {width} × {height} pixels, training takes multiples of {PAD}: add a section crops")
    return LayeredViews(dataset, network.inputs, network.classes, network.layers)
