"""MTML's toy experiment (Lahoud et al., section 4.1): one task against two, on right and on wrong semantics, over several seeds."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from ..evaluation.voxels import Table, evaluate_components, evaluate_semantics, evaluate_voxels
from ..methods.model_directory import ModelDirectory
from ..methods.mtml.voxel_segmenter import VoxelSegmenter
from ..methods.segmenter import choose_device
from ..synthesis.voxel_samples import Voxels, load_scenes
from .cells import changed, finished_or, slug
from .fit_mtml import fit_mtml

BASELINES = {"semantic label as instance": evaluate_semantics, "connected components": evaluate_components}
TASKS: dict[str, dict[str, dict[str, Any]]] = {
    "embedding only": {"loss": {"direction": 0.0}, "thresholds": {"direction": False}},
    "multi-task": {},
}
"""What is trained, and what differs from the configuration."""
NOISES = (0.0, 0.1, 0.3)
"""Right semantics and two levels of noise."""


@dataclass(frozen=True)
class Plan:
    """What all cells of a run share.

    Attributes:
        config: of `instseg train mtml`. data: voxel scenes with the splits train and test.
        seeds: of the trainings. steps: optimiser steps of each, None = the configuration's epochs.
        noises: shares of the blocks of voxels whose semantics are wrong, in training and test alike.
        limit: test scenes, None = all. device: of the evaluation.
    """

    config: dict[str, Any]
    data: Path
    seeds: tuple[int, ...]
    steps: int | None = None
    noises: tuple[float, ...] = NOISES
    limit: int | None = None
    device: str = "auto"


def run_experiment(plan: Plan, out: Path, *, report: Callable[[list[dict[str, Any]]], Any]) -> list[dict[str, Any]]:
    """Train and score every cell (noise, method, seed) that ``out`` does not hold yet.

    The test scenes and their noise are the same in all cells of a noise.

    Args:
        report: called with all results so far after each cell.

    Returns:
        a result a cell: method, noise, seed (None of a baseline), scores (class or mean → AP, AP50, AP25), test_scenes,
        seconds of training.

    Raises:
        InputError: a cell in ``out`` was made with another plan, and what the training raises.
    """
    scenes = load_scenes(plan.data, "test")[: plan.limit]
    results: list[dict[str, Any]] = []
    for method, noise, seed in _cells(plan.seeds, plan.noises):
        folder = out / f"noise-{noise}" / slug(method) / ("" if seed is None else f"seed{seed}")
        request: dict[str, Any] = {"test_scenes": len(scenes), "data": str(plan.data.resolve())}
        if seed is None:
            work = partial(_baseline, method, noise, scenes)
        else:
            config = changed(plan.config, TASKS[method], {"data": {"noise": noise}, "trainer": {"validation_images": 0}})
            request |= {"config": config, "seed": seed, "steps": plan.steps}
            work = partial(_train, plan, config, method, noise, seed, folder, scenes)
        results.append(finished_or(folder, request, work))
        report(results)
    return results


def _cells(seeds: Sequence[int], noises: Sequence[float]) -> Iterator[tuple[str, float, int | None]]:
    """Seed by seed, so that an interrupted run has every method once before any twice."""
    for noise in noises:
        for method in BASELINES:
            yield method, noise, None
    for seed in seeds:
        for noise in noises:
            for method in TASKS:
                yield method, noise, seed


def _baseline(method: str, noise: float, scenes: Sequence[Voxels]) -> dict[str, Any]:
    return _result(method, noise, None, BASELINES[method](scenes, noise=noise), scenes, 0.0)


def _train(
    plan: Plan, config: dict[str, Any], method: str, noise: float, seed: int, folder: Path, scenes: Sequence[Voxels]
) -> dict[str, Any]:
    start = time.monotonic()
    if not (folder / "model.yaml").is_file():
        resume = (folder / "run" / "last.ckpt").is_file()
        fit_mtml(plan.data, folder, config, seed=seed, resume=resume, limit_steps=plan.steps)
    seconds = time.monotonic() - start
    segmenter = VoxelSegmenter.from_model(ModelDirectory.read(folder), choose_device(plan.device))
    scores = evaluate_voxels(segmenter, scenes, noise=noise)
    shutil.rmtree(folder / "run", ignore_errors=True)  # optimiser states: the model itself stays
    return _result(method, noise, seed, scores, scenes, seconds)


def _result(method: str, noise: float, seed: int | None, scores: Table, scenes: Sequence[Voxels], seconds: float) -> dict[str, Any]:
    return {"method": method, "noise": noise, "seed": seed, "scores": scores, "test_scenes": len(scenes), "seconds": round(seconds, 1)}
