"""One training run of ClusterNet: from a labelled dataset to the model directory."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from torch.utils.data import DataLoader
from tqdm import tqdm

from ..bop import BopDataset
from ..errors import InputError
from ..evaluation.run import spread
from ..methods.clusternet.network import ClusterNetConfig, add_inputs
from ..methods.clusternet.segmenter import Thresholds
from ..resources import find_model
from .clusternet import ClusterNetModule, LossConfig
from .clusternet_refiner import RefinerTraining, fit_refiner
from .clusternet_scorer import fit_scorer
from .config import SupervisedTrainerConfig
from .data import ClusterNetCrops, DataConfig, collate, remove_unpacked, unpack
from .optimizer import OptimizerConfig
from .segmenter_validation import validation_loader
from .supervised import CountEpochs, build_sections, check_run, fit, has_run, keep_config, start_from, validated
from .trained_model import write_trained


@dataclass(frozen=True, kw_only=True)
class TrainerConfig(SupervisedTrainerConfig):
    """A run of ClusterNet.

    Attributes:
        score_images: training images whose clusters teach the scorer at the end, where ``network.scored``.
    """

    score_images: int = 500


SECTIONS = {
    "network": ClusterNetConfig,
    "loss": LossConfig,
    "data": DataConfig,
    "optimizer": OptimizerConfig,
    "refiner": RefinerTraining,
    "trainer": TrainerConfig,
}


def fit_clusternet(data: Path, out: Path, config: dict[str, Any], *, seed: int, resume: bool, limit_steps: int | None = None) -> dict[str, Any]:
    """Train on the ``train`` split of a BOP dataset, validate on ``val``, write the model directory ``out``.

    ``out/run`` holds the configuration, the log and the checkpoints; ``resume`` goes on from the last of these.

    Args:
        config: sections network, loss, data, optimizer, refiner, trainer, thresholds; missing keys take their defaults.
        limit_steps: stop after so many optimiser steps; 0 = none, what the network's own clusters teach is taught all the same.

    Returns:
        the validation metrics.

    Raises:
        InputError: bad configuration or data; a run in ``out`` that ``resume`` would be needed for.
    """
    sections = build_sections(config, SECTIONS)
    network, samples, optimizer, run = (sections[name] for name in ("network", "data", "optimizer", "trainer"))
    thresholds = Thresholds.from_dict(config.get("thresholds", {}) or ({} if network.moments else {"features": "centroid"}))

    refining = out / "run" / "refiner"
    if limit_steps == 0 and has_run(refining) and not has_run(out):  # the network is that of --init, and has no checkpoint
        check_run(refining, resume=resume)
        checkpoint = None
    else:
        checkpoint = check_run(out, resume=resume)
    pl.seed_everything(seed, workers=True, verbose=False)
    training = BopDataset(data, "train")
    validation = BopDataset(data, "val") if (data / "val").is_dir() and run.validation_images else None
    if samples.flips and any(training.chiral.values()):
        raise InputError("config data.flips: a part of this dataset is chiral, its mirror image is another part: set flips to false")
    module = ClusterNetModule(network, sections["loss"], optimizer, thresholds, validation)
    if run.init and checkpoint is None:
        print(start_from(find_model(run.init), module.network, method="clusternet", adapt=add_inputs))
    views = unpack(training, out, color="rgb" in network.inputs)
    keep_config(out, sections | {"thresholds": thresholds}, seed)
    crops = ClusterNetCrops(views, network.inputs, network.moments, samples, seed)
    loader = DataLoader(
        crops, run.batch_size, shuffle=True, collate_fn=collate, num_workers=run.workers, drop_last=len(crops) >= run.batch_size,
        persistent_workers=run.workers > 0, pin_memory=torch.cuda.is_available(),
        generator=torch.Generator().manual_seed(seed),
    )  # fmt: skip
    trainer = fit(
        module, loader, out, run, clip=optimizer.clip, checkpoint=checkpoint, limit_steps=limit_steps, callbacks=[CountEpochs(crops)],
        validation=None if validation is None else validation_loader(validation, run.validation_images),
    )  # fmt: skip
    taught = network.refined and sections["refiner"].epochs > 0
    if taught:
        fit_refiner(
            module.segmenter(), views, sections["refiner"], samples, refining, run,
            seed=seed, resume=resume, limit_steps=limit_steps or None,
        )  # fmt: skip
    if network.scored:
        chosen = spread(len(views), run.score_images)
        clusters = fit_scorer(module.segmenter(), views, samples, tqdm(chosen, "scoring", disable=not sys.stderr.isatty()), seed=seed)
        print(f"the scorer learned from {clusters} clusters of {len(chosen)} training images")
    last = trainer
    if validation is not None and (taught or network.scored):
        # Not with ``trainer``: its average of the weights is from before refiner and scorer were taught.
        last = pl.Trainer(logger=False, enable_model_summary=False, accelerator="auto", devices="auto")
        last.validate(module, validation_loader(validation, run.validation_images), verbose=False)
    metrics = validated(last)
    if trainer.is_global_zero:
        remove_unpacked(out)
        facts = {
            "data": data.resolve().name, "images": len(training), "parts": sorted(set(training.part_names.values())),
            "steps": trainer.global_step, "batch_size": run.batch_size, "seed": seed,
        }  # fmt: skip
        write_trained(
            out, module.network, thresholds, method="clusternet", what=f"ClusterNet, inputs {', '.join(network.inputs)}",
            trained=f"Trained on {facts['images']} images of {', '.join(facts['parts'])} ({facts['steps']} steps of {run.batch_size}, seed {seed})",
            inputs={"modalities": list(network.inputs), "size": "any, padded to multiples of 32", "depth_range": [0.2, 2.0]},
            facts=facts, metrics=metrics,
        )  # fmt: skip
    return metrics
