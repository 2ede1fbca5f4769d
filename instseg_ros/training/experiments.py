"""InSeGAN's experiments (section 4.1): a grid of trainings, each a run directory that a second call takes up or reads back."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from ..evaluation.hard import kmeans_answer
from ..evaluation.image_set import ImageSet, evaluate_sets
from ..evaluation.kept import KeptAnswers
from ..files import read_json, write_json
from ..methods.insegan.network import network_config
from ..methods.model_directory import read_config
from ..methods.segmenter import load_segmenter
from .cells import changed, finished_or, slug
from .depth_images import DepthImages, Progress
from .fit_insegan import fit_insegan
from .remedies import OFF, answer_only, switch

KMEANS = "k-means (count and foreground given)"
UNCHANGED = "all remedies"


@dataclass(frozen=True)
class Variant:
    """One row of the table: what differs from the configuration, and the share of the training images that is used."""

    name: str
    change: dict[str, dict[str, Any]] = field(default_factory=dict)
    share: float = 1.0


@dataclass(frozen=True)
class Experiment:
    """Variants of one question. ``axis`` names what the variants' numbers mean where they are points of a curve; ``config`` is
    the shipped configuration that is varied unless another is given."""

    title: str
    variants: tuple[Variant, ...]
    axis: str = ""
    config: str = "insegan_faithful"


def _losses(name: str, matching: str, intermediate: float, perceptual: float, **network: Any) -> Variant:
    change = {"loss": {"matching": matching, "intermediate": intermediate, "perceptual": perceptual}}
    return Variant(name, change | ({"network": network} if network else {}))


EXPERIMENTS = {
    "insegan-ablation": Experiment(
        "Losses and matching of the encoder (InSeGAN, Table 2); 3-D and 2-D generator",
        (
            _losses("La (OT) + Li + Lp", "ot", 1.0, 1.0),
            _losses("La (Hungarian) + Li + Lp", "hungarian", 1.0, 1.0),
            _losses("La (greedy) + Li + Lp", "greedy", 1.0, 1.0),
            _losses("La (OT) + Li", "ot", 1.0, 0.0),
            _losses("La (OT)", "ot", 0.0, 0.0),
            _losses("2-D generator", "ot", 1.0, 1.0, kind="2d"),
        ),
    ),
    "insegan-instances": Experiment(
        "Number of instances that the model assumes (InSeGAN, Fig. 4b)",
        tuple(Variant(str(n), {"network": {"instances": n}}) for n in range(1, 8)),
        "instances of the model",
    ),
    "insegan-data": Experiment(
        "Share of the training images (InSeGAN, Fig. 4a)",
        tuple(Variant(str(share), share=share) for share in (0.1, 0.25, 0.5, 1.0)),
        "share of the training images",
    ),
    "insegan-remedies": Experiment(
        "Remedies of the improved configuration, each switched off alone",
        (Variant(UNCHANGED), *(Variant(name, change) for name, change in OFF.items())),
        config="insegan_improved",
    ),
}


@dataclass(frozen=True)
class PartImages:
    """One part: how to get its training images (depth only), and its labelled test images."""

    name: str
    train: Callable[[Path, int, Progress], DepthImages]
    test: ImageSet
    instances: int


@dataclass(frozen=True)
class Plan:
    """What all cells of a run share.

    Attributes:
        experiment: key of ``EXPERIMENTS``.
        config: configuration that the variants change.
        seeds: of the trainings.
        steps: optimiser steps of each training, None = the configuration's epochs.
        limit: test images of each part, None = all.
        device: of the segmenters.
        model: a trained model, which takes the place of the trainings; then only what changes answers alone is varied.
    """

    experiment: str
    config: dict[str, Any]
    seeds: tuple[int, ...]
    steps: int | None = None
    limit: int | None = None
    device: str = "auto"
    model: Path | None = None


def run_experiment(
    plan: Plan, parts: Sequence[PartImages], out: Path, *, progress: Progress, report: Callable[[list[dict[str, Any]]], Any]
) -> list[dict[str, Any]]:
    """Train and score every cell (part, variant, seed) that ``out`` does not hold yet.

    Args:
        progress: stages of reading depth.
        report: called with all results so far after each cell, and once at the beginning.

    Returns:
        one result a cell, k-means on the same images first: part, variant, seed, mIoU, mIoU_best, hard (the same keys, or
        None), train_images, test_images, seconds of training (0 where none was needed, None where nobody measured them).

    Raises:
        InputError: a cell in ``out`` was made with another plan, and what the training raises.
    """
    results: list[dict[str, Any]] = []
    for part, variant, seed in _cells(plan, parts):
        folder = out / part.name / (slug(variant.name) if variant else "kmeans") / (f"seed{seed}" if variant else "")
        work = partial(_kmeans, plan, part) if variant is None else partial(_train, plan, part, variant, seed, folder, out, progress)
        results.append(finished_or(folder, _request(plan, part, variant, seed), work))
        report(results)
    for part in parts:
        shutil.rmtree(out / part.name / "images", ignore_errors=True)
    return results


def _cells(plan: Plan, parts: Sequence[PartImages]) -> Iterator[tuple[PartImages, Variant | None, int]]:
    """Seed by seed, so that an interrupted run has every variant once before any twice."""
    for part in parts:
        yield part, None, 0
    for seed in plan.seeds:
        for part in parts:
            for variant in EXPERIMENTS[plan.experiment].variants:
                if plan.model is None or not variant.change or answer_only(variant.change):
                    yield part, variant, seed


def _train(
    plan: Plan, part: PartImages, variant: Variant, seed: int, folder: Path, out: Path, progress: Progress
) -> dict[str, Any]:
    if plan.model or answer_only(variant.change):
        source = plan.model or out / part.name / slug(UNCHANGED) / f"seed{seed}"
        made = {"train_images": switch(source, folder, variant.name, variant.change), "seconds": 0.0}
    else:
        made = _fit(plan, part, variant, seed, folder, out, progress)
    segmenter = load_segmenter(folder, plan.device)
    kept, request = folder / "answers.npz", _request(plan, part, variant, seed)
    scores = _score(plan, part, lambda frame, truth: segmenter.segment(frame), lambda _: KeptAnswers(kept, request))
    kept.unlink(missing_ok=True)
    shutil.rmtree(folder / "run", ignore_errors=True)  # optimiser states: the model itself stays
    return {"part": part.name, "variant": variant.name, "seed": seed, **scores, **made}


def _fit(
    plan: Plan, part: PartImages, variant: Variant, seed: int, folder: Path, out: Path, progress: Progress
) -> dict[str, Any]:
    """Train the model of a cell, or go on with it. Returns ``train_images`` and ``seconds``, None where nobody has measured them."""
    config, spent = changed(plan.config, variant.change), folder / "seconds.json"
    images = part.train(out / part.name / "images", network_config(config.get("network", {})).size, progress)
    if variant.share < 1:
        images = images.sample(variant.share, seed)
    if not (folder / "model.yaml").is_file():
        resume = any((folder / "run" / name).is_file() for name in ("last.ckpt", "template.safetensors"))
        with _clocked(spent):
            fit_insegan(images, folder, config, seed=seed, resume=resume, limit_steps=plan.steps)
    return {"train_images": len(images), "seconds": read_json(spent) if spent.is_file() else None}


@contextmanager
def _clocked(file: Path) -> Iterator[None]:
    """Add the seconds that the block takes to those in ``file``, also where it is broken off (a kill -9 costs its own part)."""
    before, start = read_json(file) if file.is_file() else 0.0, time.monotonic()
    try:
        yield
    finally:
        write_json(file, round(before + time.monotonic() - start, 1))


def _kmeans(plan: Plan, part: PartImages) -> dict[str, Any]:
    scores = _score(plan, part, kmeans_answer(part.instances))
    return {"part": part.name, "variant": KMEANS, "seed": 0, **scores, "train_images": 0, "seconds": 0.0}


def _score(plan: Plan, part: PartImages, answer: Any, keep: Callable[[ImageSet], KeptAnswers] | None = None) -> dict[str, Any]:
    evaluation, hard = evaluate_sets(answer, [part.test], limit=plan.limit, keep=keep)
    keys = ("mIoU", "mIoU_best", "count_accuracy", "images")
    of = lambda e: {key: result[key] for result in (e.result(intervals=False),) for key in keys}  # noqa: E731
    scores = of(evaluation)
    return {**scores, "test_images": scores.pop("images"), "hard": None if hard is None else of(hard)}


def _request(plan: Plan, part: PartImages, variant: Variant | None, seed: int) -> dict[str, Any]:
    """What a result depends on, as it comes back from JSON."""
    request: dict[str, Any] = {"limit": plan.limit, "of": len(part.test.dataset)}
    if plan.model is not None and variant is not None:
        request |= {"model": read_config(plan.model)["weights_sha256"], "change": variant.change}
    elif variant is not None:
        request |= {"config": changed(plan.config, variant.change), "share": variant.share, "seed": seed, "steps": plan.steps}
    return request
