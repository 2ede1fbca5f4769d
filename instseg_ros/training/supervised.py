"""What every supervised training run shares: the folder it is kept in, Lightning's trainer, checkpoints and resume."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Protocol

import pytorch_lightning as pl
import torch
import yaml
from pytorch_lightning.callbacks import Callback, ModelCheckpoint, TQDMProgressBar, WeightAveraging
from pytorch_lightning.loggers import CSVLogger
from torch import Tensor
from torch.utils.data import DataLoader

from .. import __version__
from ..errors import InputError
from ..files import write_atomic
from ..methods.model_directory import ModelDirectory
from .config import SupervisedTrainerConfig, build, plain


class Epochwise(Protocol):
    """Data that are drawn anew every epoch: ``epoch`` is a shared integer, which loader processes see."""

    epoch: Tensor


def moving_average(decay: float) -> Callable[[Tensor, Tensor, Tensor | int], Tensor]:
    """Exponential moving average for ``WeightAveraging``; over the first steps the decay is (1 + n) / (10 + n), as long as that is
    less: else a run of a few hundred steps would ship mostly what it began with."""

    def update(average: Tensor, current: Tensor, count: Tensor | int) -> Tensor:
        return average + (current - average) * max(1 - decay, 9 / (10 + int(count)))

    return update


class CountEpochs(Callback):
    """Tells the data which epoch it is, so that every epoch draws other samples, also after a resume."""

    def __init__(self, data: Epochwise) -> None:
        self.data = data

    def on_train_epoch_start(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        self.data.epoch.fill_(trainer.current_epoch)


class CountSteps(Callback):
    """Ends a run after the steps that its epochs have, whatever was cut short on the way.

    Lightning counts an epoch that a kill interrupted as whole after the resume: the run would miss steps, and end before its
    learning rate does.

    Args:
        optimizers: of a batch, where the module steps them itself; Lightning counts a step for each.
    """

    def __init__(self, optimizers: int = 1) -> None:
        self.optimizers = optimizers
        self.validated_at = -1
        self.started = False

    def on_fit_start(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        trainer.fit_loop.setup_data()
        planned = int(trainer.max_epochs * trainer.num_training_batches) * self.optimizers
        trainer.fit_loop.epoch_loop.max_steps = planned if trainer.max_steps == -1 else min(planned, trainer.max_steps)
        trainer.fit_loop.max_epochs = -1

    def on_train_start(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        self.started = True

    def on_validation_end(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        self.validated_at = trainer.global_step


def build_sections(config: dict[str, Any], kinds: Mapping[str, type], others: Sequence[str] = ("thresholds",)) -> dict[str, Any]:
    """The configuration's dataclasses by section; missing keys take their defaults.

    Args:
        kinds: section → dataclass.
        others: sections that the configuration may have besides.

    Raises:
        InputError: a section or key that the method does not have, a value of the wrong type.
    """
    known = [*kinds, *others]
    if unknown := sorted(config.keys() - set(known)):
        raise InputError(f"config: unknown section {unknown[0]!r}, known are {', '.join(known)}")
    return {name: build(kind, name, config.get(name, {})) for name, kind in kinds.items()}


def has_run(out: Path) -> bool:
    """Whether ``out`` holds a checkpoint to go on from."""
    return (out / "run" / "last.ckpt").exists()


def check_run(out: Path, *, resume: bool) -> Path | None:
    """Checkpoint to go on from, None = a new run.

    Raises:
        InputError: a run in ``out`` that ``resume`` would be needed for, or none to resume.
    """
    checkpoint = out / "run" / "last.ckpt"
    if has_run(out) and not resume:
        raise InputError(f"{out} holds a training run: add --resume to go on with it or choose another --out")
    if resume and not has_run(out):
        raise InputError(f"{checkpoint} does not exist, there is nothing to resume: leave --resume out")
    return checkpoint if resume else None


def keep_config(out: Path, sections: dict[str, Any], seed: int) -> None:
    """Write the whole configuration of a run, dataclasses by section, to ``out/run/config.yaml``."""
    resolved = {**{name: asdict(section) for name, section in sections.items()}, "seed": seed, "version": __version__}
    write_atomic(out / "run" / "config.yaml", lambda file: file.write_text(yaml.safe_dump(plain(resolved), sort_keys=False)))


def start_from(
    directory: Path, network: torch.nn.Module, *, method: str, adapt: Callable[[Any, dict[str, Tensor]], dict[str, Tensor]] | None = None
) -> str:
    """Copy the weights of a model directory into ``network`` wherever name and shape agree; returns a line that says how many.

    Args:
        adapt: ``adapt(network, weights)`` → the weights to copy, where a method knows more than names and shapes.

    Raises:
        InputError: no model directory, another method, or nothing that fits.
    """
    model = ModelDirectory.read(directory)
    if model.method != method:
        raise InputError(f"cannot start from {directory}: it is a model of {model.method}, not of {method}")
    own = network.state_dict()
    weights = adapt(network, model.weights) if adapt else model.weights
    fitting = {name: value for name, value in weights.items() if name in own and own[name].shape == value.shape}
    if not fitting:
        raise InputError(f"cannot start from {directory}: no tensor has the shape that config network asks for")
    network.load_state_dict(fitting, strict=False)
    return f"starting from {directory}: {len(fitting)} of {len(own)} tensors"


def validated(trainer: pl.Trainer) -> dict[str, float]:
    """The metrics of the last validation."""
    logged = trainer.callback_metrics.items()
    return {name.removeprefix("val/"): round(float(value), 4) for name, value in logged if name.startswith("val/")}


def fit(
    module: pl.LightningModule,
    loader: DataLoader,
    out: Path,
    run: SupervisedTrainerConfig,
    *,
    clip: float = 0.0,
    checkpoint: Path | None = None,
    limit_steps: int | None = None,
    callbacks: Sequence[Callback] = (),
    validation: DataLoader | None = None,
) -> pl.Trainer:
    """Lightning's loop, validated at the end of each epoch and of the run; log and last checkpoint go to ``out/run``.

    Args:
        clip: largest gradient norm, 0 = off.
        checkpoint: to go on from.
        limit_steps: stop after so many optimiser steps in all.

    Raises:
        KeyboardInterrupt: Ctrl-C; Lightning has returned from it in order.
    """
    count = CountSteps()
    every: list[Callback] = [
        *callbacks,
        count,
        ModelCheckpoint(out / "run", filename="last", every_n_train_steps=run.checkpoint_every, save_top_k=1, enable_version_counter=False),
        ModelCheckpoint(out / "run", filename="last", save_on_train_epoch_end=True, save_top_k=1, enable_version_counter=False),
        TQDMProgressBar(refresh_rate=1 if sys.stderr.isatty() else 100),
    ]
    if run.ema:
        every.append(WeightAveraging(avg_fn=moving_average(run.ema)))
    trainer = pl.Trainer(
        max_epochs=run.epochs, max_steps=-1 if limit_steps is None else limit_steps, precision=run.chosen_precision, callbacks=every, gradient_clip_val=clip or None,
        logger=CSVLogger(out / "run", "log"), log_every_n_steps=20, num_sanity_val_steps=0, enable_model_summary=False,
        accelerator="auto", devices="auto",
    )  # fmt: skip
    trainer.fit(module, loader, validation, ckpt_path=None if checkpoint is None else str(checkpoint), weights_only=True)
    if trainer.interrupted:
        raise KeyboardInterrupt
    if checkpoint is not None and not count.started:  # nothing was left to do, so Lightning kept the weights that the average is of
        module.load_state_dict(torch.load(checkpoint, weights_only=True, map_location="cpu")["state_dict"])
    if validation is not None and count.validated_at != trainer.global_step:  # the run ended within an epoch
        trainer.validate(module, validation, verbose=False)
    return trainer
