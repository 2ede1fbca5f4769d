"""One training run of InSeGAN from unlabelled depth images to the model directory: the paper's GAN or the explicit network."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytorch_lightning as pl
import torch
import yaml
from pytorch_lightning.callbacks import ModelCheckpoint, TQDMProgressBar
from pytorch_lightning.loggers import CSVLogger
from torch.utils.data import DataLoader, Dataset, TensorDataset
from tqdm import tqdm

from .. import __version__
from ..errors import InputError
from ..files import write_atomic
from ..freed_memory import keep_freed_memory
from ..methods.insegan.generator import GeneratorConfig
from ..methods.insegan.network import ExplicitConfig, ExplicitNetwork, GanNetwork, network_config
from ..methods.insegan.segmenter import InSeGANSegmenter, Thresholds
from ..methods.insegan.working_camera import WorkingCamera
from .config import TrainerConfig, build, plain
from .insegan import GanLossConfig, GanOptimizerConfig, InSeGANModule
from .insegan_explicit import ExplicitModule, PoseLossConfig, PoseOptimizerConfig
from .insegan_pool import PoolConfig, find_template_and_poses
from .insegan_selection import choose_cut, choose_least, unexplained
from .insegan_template import TemplateConfig
from .supervised import CountSteps
from .trained_model import write_trained

if TYPE_CHECKING:
    from .depth_images import DepthImages

SECTIONS = ("network", "template", "pool", "loss", "optimizer", "trainer", "thresholds")


@dataclass(frozen=True)
class RunConfig:
    """The sections of a configuration, checked. ``template`` and ``pool`` belong to the explicit network alone."""

    network: GeneratorConfig | ExplicitConfig
    template: TemplateConfig
    pool: PoolConfig
    loss: GanLossConfig | PoseLossConfig
    optimizer: GanOptimizerConfig | PoseOptimizerConfig
    trainer: TrainerConfig
    thresholds: Thresholds

    @classmethod
    def read(cls, config: dict[str, Any]) -> RunConfig:
        """Check a configuration; missing keys take their defaults, unknown ones are an InputError."""
        unknown = config.keys() - set(SECTIONS)
        if unknown:
            raise InputError(f"config: unknown section {sorted(unknown)[0]!r}, known are {', '.join(SECTIONS)}")
        network = network_config(config.get("network", {}))
        explicit = isinstance(network, ExplicitConfig)
        if not explicit and config.keys() & {"template", "pool"}:
            raise InputError("config: sections template and pool go with network.kind explicit only: leave them out")
        trainer = build(TrainerConfig, "trainer", config.get("trainer", {}))
        if explicit:
            if trainer.precision == "bf16-mixed":
                raise InputError("config trainer.precision bf16-mixed is for the GAN: the explicit template needs 32-true (or auto)")
            trainer = replace(trainer, precision="32-true")
        return cls(
            network=network,
            template=build(TemplateConfig, "template", config.get("template", {})),
            pool=build(PoolConfig, "pool", config.get("pool", {})),
            loss=build(PoseLossConfig if explicit else GanLossConfig, "loss", config.get("loss", {})),
            optimizer=build(PoseOptimizerConfig if explicit else GanOptimizerConfig, "optimizer", config.get("optimizer", {})),
            trainer=trainer,
            thresholds=Thresholds.from_dict(config.get("thresholds", {})),
        )


def check_insegan(out: Path, config: dict[str, Any], *, resume: bool) -> int:
    """Check a configuration and the folder before any image is read.

    Returns:
        S, the side of the working images.

    Raises:
        InputError: bad configuration; a run in ``out`` that ``resume`` would be needed for, or none to resume.
    """
    size = RunConfig.read(config).network.size
    started = any((out / "run" / name).exists() for name in ("last.ckpt", "template.safetensors"))
    if started and not resume:
        raise InputError(f"{out} holds a training run: add --resume to go on with it or choose another --out")
    if resume and not started:
        raise InputError(f"{out / 'run'} holds no training run, there is nothing to resume: leave --resume out")
    return size


def fit_insegan(
    images: DepthImages, out: Path, config: dict[str, Any], *, seed: int, resume: bool, limit_steps: int | None = None,
    validation: DepthImages | None = None,
) -> dict[str, Any]:  # fmt: skip
    """Train on unlabelled depth images and write the model directory ``out``; labels are never asked for.

    ``out/run`` holds the configuration, the log and the checkpoints; ``resume`` goes on from the last of these.

    Args:
        config: see ``RunConfig``. limit_steps: stop after so many optimiser steps in all.
        validation: images of the same normalisation, on which threshold and figures are taken; None = training images.

    Returns:
        label-free figures: ``mismatch`` of hallucinated and observed depth, ``coverage`` of the observed parts, ``instances`` found.
    """
    check_insegan(out, config, resume=resume)
    run = RunConfig.read(config)
    pl.seed_everything(seed, workers=True, verbose=False)
    resolved = {**{name: asdict(getattr(run, name)) for name in SECTIONS}, "seed": seed, "version": __version__}
    write_atomic(out / "run" / "config.yaml", lambda file: file.write_text(yaml.safe_dump(plain(resolved), sort_keys=False)))
    if isinstance(run.network, ExplicitConfig):
        network, thresholds = _fit_explicit(images, out, run, seed, limit_steps), run.thresholds
    else:
        network = _fit_gan(images, validation, out, run, seed, limit_steps)
        thresholds = replace(run.thresholds, cut=choose_cut(network, _sample(validation or images, run.trainer.validation_images)))
    segmenter = InSeGANSegmenter(network, images.normalisation, thresholds, torch.device("cuda" if torch.cuda.is_available() else "cpu"))
    held_out = _sample(validation or images, run.trainer.validation_images)
    if isinstance(network, ExplicitNetwork):
        thresholds = replace(thresholds, least=choose_least(segmenter, held_out, run.network.instances))
        segmenter.thresholds = thresholds
    metrics = unexplained(segmenter, held_out)
    write_insegan(out, network.cpu(), images, thresholds, run, seed=seed, metrics=metrics)
    return metrics


def _fit_gan(images: DepthImages, validation: DepthImages | None, out: Path, run: RunConfig, seed: int, limit_steps: int | None) -> GanNetwork:
    module = InSeGANModule(run.network, run.loss, run.optimizer)
    held_out = TensorDataset(_sample(validation or images, run.trainer.validation_images)[:, None])
    keep_freed_memory()
    _train(module, _ImageSet(images), out, run, seed, limit_steps, optimizers=3, validation=held_out)
    best = out / "run" / "best.ckpt"
    if best.exists():
        module.load_state_dict(torch.load(best, map_location="cpu", weights_only=True)["state_dict"])
    network = GanNetwork(run.network)
    network.generator.load_state_dict(module.shipped_generator.state_dict())
    network.encoder.load_state_dict(module.encoder.state_dict())
    return network


def _fit_explicit(images: DepthImages, out: Path, run: RunConfig, seed: int, limit_steps: int | None) -> ExplicitNetwork:
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    view = WorkingCamera.of(images.normalisation, run.network, device)
    pool = find_template_and_poses(images.images, view.camera, run.network, run.template, run.pool, out / "run", seed, _progress)
    network = ExplicitNetwork(replace(run.network, grid=tuple(pool.shape.grid.shape[2:])), pool.shape)
    module = ExplicitModule(network, pool.images, pool.poses, pool.trust, view.camera, view.K, run.loss, run.optimizer)
    _train(module, TensorDataset(torch.arange(len(pool.images))), out, run, seed, limit_steps, optimizers=3 if run.loss.adversarial else 1)
    return network


class _ImageSet(Dataset):
    """(1, S, S) float32 tensors of the memory-mapped images."""

    def __init__(self, images: DepthImages) -> None:
        self.images = images

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, i: int) -> tuple[torch.Tensor]:
        return (torch.from_numpy(self.images.images[i].copy())[None],)


def _train(
    module: pl.LightningModule, data: Dataset, out: Path, run: RunConfig, seed: int, limit_steps: int | None, *, optimizers: int,
    validation: Dataset | None = None,
) -> None:  # fmt: skip
    """Lightning's loop with checkpoints, the last and (with ``validation``) the best; ``limit_steps`` counts batches."""
    t = run.trainer
    loader = DataLoader(
        data, t.batch_size, shuffle=True, drop_last=len(data) >= t.batch_size, generator=torch.Generator().manual_seed(seed),
        pin_memory=torch.cuda.is_available(),
    )  # fmt: skip
    checkpoint = out / "run" / "last.ckpt"
    callbacks = [
        CountSteps(optimizers),
        # Lightning counts a step for every optimiser of a batch.
        ModelCheckpoint(out / "run", filename="last", every_n_train_steps=t.checkpoint_every * optimizers, save_top_k=1, enable_version_counter=False),
        TQDMProgressBar(refresh_rate=1 if sys.stderr.isatty() else 100),
    ]
    if validation is not None:
        callbacks.append(ModelCheckpoint(out / "run", filename="best", monitor="val/explained", mode="max", enable_version_counter=False))
    trainer = pl.Trainer(
        max_epochs=t.epochs, max_steps=limit_steps * optimizers if limit_steps else -1, callbacks=callbacks, logger=CSVLogger(out / "run", "log"),
        precision=t.chosen_precision, log_every_n_steps=20, num_sanity_val_steps=0, enable_model_summary=False, accelerator="auto", devices=1,
    )  # fmt: skip
    held_out = None if validation is None else DataLoader(validation, len(validation))
    trainer.fit(module, loader, held_out, ckpt_path=str(checkpoint) if checkpoint.exists() else None, weights_only=True)
    if trainer.interrupted:
        raise KeyboardInterrupt
    trainer.save_checkpoint(checkpoint)


def write_insegan(
    out: Path, network: GanNetwork | ExplicitNetwork, images: DepthImages, thresholds: Thresholds, run: RunConfig, *, seed: int, metrics: dict[str, Any]
) -> None:
    """Write the model directory of a trained network, with a first model card."""
    facts = {**plain(images.summary), "epochs": run.trainer.epochs, "batch_size": run.trainer.batch_size, "seed": seed}
    n = images.normalisation
    what = "explicit template and pose encoder" if isinstance(network, ExplicitNetwork) else f"the paper's GAN ({network.config.kind})"
    write_trained(
        out, network, thresholds, method="insegan", what=f"InSeGAN, {what}; depth only, no labels",
        layers="yes. It fits the camera and the bin it was trained on", measured="Label-free validation",
        trained=f"Trained on {facts.get('distinct')} unlabelled depth images of {facts.get('source')} (seed {seed})",
        inputs={"modalities": ["depth"], "size": network.config.size, "depth_range": [round(n.near, 4), round(n.far, 4)]},
        facts=facts, metrics=metrics, more={"normalisation": n.to_dict()},
    )  # fmt: skip


def _sample(images: DepthImages, count: int) -> torch.Tensor:
    """Up to ``count`` images (V, S, S), spread evenly."""
    chosen = torch.linspace(0, len(images) - 1, min(max(count, 1), len(images))).round().long().unique()
    return torch.from_numpy(images.images[chosen.numpy()].copy())


def _progress(items: Iterable, name: str = "") -> Iterable:
    return tqdm(items, name, disable=not sys.stderr.isatty())
