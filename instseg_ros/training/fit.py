"""One training run of ClusterNet: data, Lightning trainer, checkpoints, and the model directory at the end."""

from __future__ import annotations

import os
import shutil
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
import yaml
from pytorch_lightning.callbacks import Callback, EMAWeightAveraging, ModelCheckpoint, TQDMProgressBar
from pytorch_lightning.loggers import CSVLogger
from torch.utils.data import DataLoader, TensorDataset
from tqdm import tqdm

from .. import __version__
from ..bop import BopDataset
from ..errors import InputError
from ..files import write_atomic
from ..methods.clusternet.network import ClusterNetConfig
from ..methods.clusternet.segmenter import Thresholds
from ..methods.model_directory import ModelDirectory, write_model
from ..resources import find_model
from .clusternet import ClusterNetModule, LossConfig, OptimizerConfig
from .config import SupervisedTrainerConfig, build, plain
from .data import ClusterNetCrops, DataConfig, PackedViews, collate

SECTIONS = ("network", "loss", "data", "optimizer", "trainer", "thresholds")


class _CountEpochs(Callback):
    """Tells the data which epoch it is, so that every epoch draws other crops, also after a resume."""

    def __init__(self, crops: ClusterNetCrops) -> None:
        self.crops = crops

    def on_train_epoch_start(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        self.crops.epoch.fill_(trainer.current_epoch)


def fit_clusternet(data: Path, out: Path, config: dict[str, Any], *, seed: int, resume: bool, limit_steps: int | None = None) -> dict[str, Any]:
    """Train on the ``train`` split of a BOP dataset, validate on ``val``, write the model directory ``out``.

    ``out/run`` holds the configuration, the log and the checkpoints; ``resume`` goes on from the last of these.

    Args:
        config: sections network, loss, data, optimizer, trainer, thresholds; missing keys take their defaults.
        limit_steps: stop after so many optimiser steps (tests).

    Returns:
        the validation metrics.

    Raises:
        InputError: bad configuration or data; a run in ``out`` that ``resume`` would be needed for.
    """
    unknown = config.keys() - set(SECTIONS)
    if unknown:
        raise InputError(f"config: unknown section {sorted(unknown)[0]!r}, known are {', '.join(SECTIONS)}")
    network = build(ClusterNetConfig, "network", config.get("network", {}))
    loss = build(LossConfig, "loss", config.get("loss", {}))
    samples = build(DataConfig, "data", config.get("data", {}))
    optimizer = build(OptimizerConfig, "optimizer", config.get("optimizer", {}))
    run = build(SupervisedTrainerConfig, "trainer", config.get("trainer", {}))
    thresholds = Thresholds.from_dict(config.get("thresholds", {}) or ({} if network.moments else {"features": "centroid"}))

    checkpoint = out / "run" / "last.ckpt"
    if checkpoint.exists() and not resume:
        raise InputError(f"{out} holds a training run: add --resume to go on with it or choose another --out")
    if resume and not checkpoint.exists():
        raise InputError(f"{checkpoint} does not exist, there is nothing to resume: leave --resume out")

    pl.seed_everything(seed, workers=True, verbose=False)
    training = BopDataset(data, "train")
    validation = BopDataset(data, "val") if (data / "val").is_dir() and run.validation_images else None
    if samples.flips and any(training.chiral.values()):
        raise InputError("config data.flips: a part of this dataset is chiral, its mirror image is another part: set flips to false")
    module = ClusterNetModule(network, loss, optimizer, thresholds, validation)
    if run.init and not resume:
        print(start_from(find_model(run.init), module.network, method="clusternet"))
    rank = os.environ.get("LOCAL_RANK", "0")
    views = PackedViews(training, out / "run" / f"cache{rank}", lambda x: tqdm(x, "unpacking", disable=not sys.stderr.isatty()))
    resolved = {
        "network": asdict(network), "loss": asdict(loss), "data": asdict(samples), "optimizer": asdict(optimizer),
        "trainer": asdict(run), "thresholds": asdict(thresholds), "seed": seed, "version": __version__,
    }  # fmt: skip
    write_atomic(out / "run" / "config.yaml", lambda file: file.write_text(yaml.safe_dump(plain(resolved), sort_keys=False)))
    crops = ClusterNetCrops(views, network.inputs, network.moments, samples, seed)
    loader = DataLoader(
        crops, run.batch_size, shuffle=True, collate_fn=collate, num_workers=run.workers, drop_last=len(crops) >= run.batch_size,
        persistent_workers=run.workers > 0, pin_memory=torch.cuda.is_available(),
        generator=torch.Generator().manual_seed(seed),
    )  # fmt: skip
    callbacks: list[Callback] = [
        _CountEpochs(crops),
        ModelCheckpoint(out / "run", filename="last", every_n_train_steps=run.checkpoint_every, save_top_k=1, enable_version_counter=False),
        TQDMProgressBar(refresh_rate=1 if sys.stderr.isatty() else 100),
    ]
    if run.ema:
        callbacks.append(EMAWeightAveraging(decay=run.ema))
    precision = run.precision if run.precision != "auto" else ("bf16-mixed" if torch.cuda.is_available() else "32-true")
    trainer = pl.Trainer(
        max_epochs=run.epochs, max_steps=limit_steps or -1, precision=precision, callbacks=callbacks,
        gradient_clip_val=optimizer.clip or None, logger=CSVLogger(out / "run", "log"), log_every_n_steps=20,
        num_sanity_val_steps=0, enable_model_summary=False, accelerator="auto", devices="auto",
    )  # fmt: skip
    validation_loader = None
    if validation is not None:
        # Spread over the whole split: BOP sets are ordered by scene, and scenes by part.
        chosen = torch.linspace(0, len(validation) - 1, min(run.validation_images, len(validation))).round().long().unique()
        validation_loader = DataLoader(TensorDataset(chosen), 1, collate_fn=lambda rows: torch.stack([row[0] for row in rows]))
    trainer.fit(module, loader, validation_loader, ckpt_path=str(checkpoint) if resume else None, weights_only=True)
    if trainer.interrupted:
        raise KeyboardInterrupt
    if trainer.is_global_zero:
        for folder in (out / "run").glob("cache*"):
            shutil.rmtree(folder, ignore_errors=True)
    metrics = {name.removeprefix("val/"): round(float(value), 4) for name, value in trainer.callback_metrics.items() if name.startswith("val/")}
    if trainer.is_global_zero:
        facts = {
            "data": data.resolve().name, "images": len(training), "parts": sorted(set(training.part_names.values())),
            "epochs": run.epochs, "batch_size": run.batch_size, "seed": seed,
        }  # fmt: skip
        write_clusternet(out, module.network, thresholds, facts=facts, metrics=metrics)
    return metrics


def start_from(directory: Path, network: torch.nn.Module, *, method: str) -> str:
    """Copy the weights of a model directory into ``network`` wherever name and shape agree; returns a line that says how many.

    Raises:
        InputError: no model directory, another method, or nothing that fits.
    """
    model = ModelDirectory.read(directory)
    if model.method != method:
        raise InputError(f"cannot start from {directory}: it is a model of {model.method}, not of {method}")
    own = network.state_dict()
    fitting = {name: value for name, value in model.weights.items() if name in own and own[name].shape == value.shape}
    if not fitting:
        raise InputError(f"cannot start from {directory}: no tensor has the shape that config network asks for")
    network.load_state_dict(fitting, strict=False)
    return f"starting from {directory}: {len(fitting)} of {len(own)} tensors"


def write_clusternet(out: Path, network: torch.nn.Module, thresholds: Thresholds, *, facts: dict[str, Any], metrics: dict[str, Any]) -> None:
    """Write the model directory of a trained network, with a first model card."""
    config = {
        "method": "clusternet",
        "name": out.name,
        "network": plain(asdict(network.config)),
        "input": {"modalities": list(network.config.inputs), "size": "any, padded to multiples of 32", "depth_range": [0.2, 2.0]},
        "thresholds": asdict(thresholds),
        "amodal": False,
        "training": facts,
        "metrics": metrics,
    }
    rows = "\n".join(f"| {name} | {value} |" for name, value in metrics.items())
    card = (
        f"# {out.name}\n\nClusterNet, inputs {', '.join(network.config.inputs)}; {sum(p.numel() for p in network.parameters()) / 1e6:.2f} M parameters.\n"
        f"Layers: layer 0 only (no amodal output).\n\nTrained on {facts['images']} images of {', '.join(facts['parts'])} "
        f"({facts['epochs']} epochs, batch {facts['batch_size']}, seed {facts['seed']}).\n\n| Validation metric | Value |\n| --- | --- |\n{rows}\n"
    )
    write_model(out, config=config, weights=network.state_dict(), card=card)
