"""Experiments of Layered Embeddings (Liu et al., section 5): steps replaced by the truth, layers, dimension of the embedding."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from ..errors import InputError
from ..evaluation.shapes import IMAGES, Answer, ceiling, evaluate_shapes, of_segmenter, with_truth
from ..methods.layered.segmenter import LayeredSegmenter
from ..methods.segmenter import load_segmenter
from ..synthesis.shapes import SHAPES
from .cells import changed, finished_or, slug
from .fit_layered import fit_layered

Answers = Callable[[LayeredSegmenter | None, int], dict[str, Answer]]
"""Segmenter (None where the experiment needs none) and shapes of each class in an image → name → answer."""


@dataclass(frozen=True)
class Variant:
    """One training: what differs from the configuration. ``name`` heads its rows."""

    name: str
    change: dict[str, dict[str, Any]] = field(default_factory=dict)


@dataclass(frozen=True)
class Experiment:
    """What is trained and scored.

    Attributes:
        instances: shapes of each class in an image; each number has trainings and test images of its own.
        variants: trainings; none = ``answers`` are those of a model that is there, or of the truth.
        answers: what is scored of each, besides the plain answer of a variant.
        needs_model: whether ``answers`` looks at a model.
    """

    title: str
    instances: tuple[int, ...]
    variants: tuple[Variant, ...] = ()
    answers: Answers | None = None
    needs_model: bool = False


def _ceilings(_: LayeredSegmenter | None, __: int) -> dict[str, Answer]:
    return {f"{layers} layers": ceiling(layers) for layers in (2, 3, 4)}


def _replaced(segmenter: LayeredSegmenter | None, instances: int) -> dict[str, Answer]:
    assert segmenter is not None
    layers = segmenter.network.config.layers
    return {
        "network": of_segmenter(segmenter.segment),
        "true classes": with_truth(segmenter, instances, true_classes=True),
        "true clusters": with_truth(segmenter, instances, true_clusters=True),
        f"both: {layers} layers": ceiling(layers),
    }


def _dimension(c: int) -> Variant:
    alone = {"classes": ["rectangle"]}
    network = {**alone, "embedding": c} | ({"position": 0.0} if c == 1 else {})  # position takes two channels
    return Variant(f"C = {c}", {"network": network, "data": alone})


EXPERIMENTS = {
    "layered-ceilings": Experiment("Perfect labels cut to L layers (Layered Embeddings, Table 2)", (6, 12), answers=_ceilings),
    "layered-truth": Experiment(
        "Steps of the network replaced by the truth (Layered Embeddings, section 5)", (6, 12), answers=_replaced, needs_model=True
    ),
    "layered-layers": Experiment(
        "Number of layers", (6, 12), tuple(Variant(f"{layers} layers", {"network": {"layers": layers}}) for layers in (2, 3, 4))
    ),
    "layered-embedding": Experiment(
        "Dimension of the embedding, rectangles alone (Layered Embeddings, Fig. 3)", (6, 12, 18, 24, 30),
        tuple(_dimension(c) for c in (1, 2, 3, 4, 5, 6, 16)),
    ),
}  # fmt: skip


@dataclass(frozen=True)
class Plan:
    """What all cells of a run share.

    Attributes:
        experiment: key of ``EXPERIMENTS``.
        config: of `instseg train layered`, which the variants change.
        model: directory that experiments without trainings look at.
        instances: shapes of each class in an image, None = the experiment's.
        seeds: of the trainings. steps: optimiser steps of each, None = the configuration's epochs.
        images: test images. device: of the segmenters.
    """

    experiment: str
    config: dict[str, Any]
    model: Path | None = None
    instances: tuple[int, ...] | None = None
    seeds: tuple[int, ...] = (0,)
    steps: int | None = None
    images: int = IMAGES
    device: str = "auto"


def run_experiment(plan: Plan, out: Path, *, report: Callable[[list[dict[str, Any]]], Any]) -> list[dict[str, Any]]:
    """Train and score every cell (variant, instances, seed) that ``out`` does not hold yet.

    The test images are the same in all cells of a number of instances.

    Args:
        report: called with all rows so far after each cell.

    Returns:
        rows: variant, instances, seed (None where nothing is trained), figures (of ``ShapesEvaluation``), steps, seconds of training.

    Raises:
        InputError: a cell in ``out`` was made with another plan, and what the training raises.
    """
    rows: list[dict[str, Any]] = []
    for instances, variant, seed in _cells(plan):
        name = "answers" if variant is None else slug(variant.name)
        folder = out / name / f"n{instances}" / ("" if variant is None else f"seed{seed}")
        request: dict[str, Any] = {"images": plan.images, "instances": instances}
        if variant is not None:
            config = changed(plan.config, variant.change, {"data": {"instances": [instances]}})
            request |= {"config": config, "seed": seed, "steps": plan.steps}
            work = partial(_train, plan, config, variant.name, instances, seed, folder)
        else:
            request |= {"model": plan.model and str(plan.model)}
            work = partial(_look, plan, instances)
        rows += finished_or(folder, request, work)["rows"]
        report(rows)
    return rows


def _cells(plan: Plan) -> Iterator[tuple[int, Variant | None, int]]:
    """Seed by seed, so that an interrupted run has every variant once before any twice."""
    experiment = EXPERIMENTS[plan.experiment]
    numbers = plan.instances or experiment.instances
    if not experiment.variants:
        yield from ((instances, None, 0) for instances in numbers)
    for seed in plan.seeds if experiment.variants else ():
        for instances in numbers:
            for variant in experiment.variants:
                yield instances, variant, seed


def _look(plan: Plan, instances: int) -> dict[str, Any]:
    experiment = EXPERIMENTS[plan.experiment]
    segmenter = load_segmenter(plan.model, plan.device) if plan.model is not None and experiment.needs_model else None
    classes = tuple(SHAPES)
    if experiment.needs_model:
        if not isinstance(segmenter, LayeredSegmenter):
            raise InputError(f"{plan.model} is not a model of Layered Embeddings: give one that `instseg train layered --shapes` made")
        classes = segmenter.network.config.classes
        if set(classes) - set(SHAPES):
            raise InputError(f"{plan.model} knows {', '.join(classes)}, not the shapes {', '.join(SHAPES)}: give a model of shapes")
    assert experiment.answers is not None
    figures = evaluate_shapes(experiment.answers(segmenter, instances), instances, plan.images, classes=classes)
    return {"rows": [_row(name, instances, None, found, 0, 0.0) for name, found in figures.items()]}


def _train(plan: Plan, config: dict[str, Any], name: str, instances: int, seed: int, folder: Path) -> dict[str, Any]:
    start = time.monotonic()
    if not (folder / "model.yaml").is_file():
        fit_layered(None, folder, config, seed=seed, resume=(folder / "run" / "last.ckpt").is_file(), limit_steps=plan.steps)
    seconds = time.monotonic() - start
    segmenter = load_segmenter(folder, plan.device)
    classes = tuple(segmenter.network.config.classes)
    figures = evaluate_shapes({name: of_segmenter(segmenter.segment)}, instances, plan.images, classes=classes)[name]
    shutil.rmtree(folder / "run", ignore_errors=True)  # optimiser states: the model itself stays
    return {"rows": [_row(name, instances, seed, figures, plan.steps or 0, seconds)]}


def _row(name: str, instances: int, seed: int | None, figures: dict[str, Any], steps: int, seconds: float) -> dict[str, Any]:
    return {"variant": name, "instances": instances, "seed": seed, "figures": figures, "steps": steps, "seconds": round(seconds, 1)}
