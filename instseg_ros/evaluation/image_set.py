"""What is evaluated at once: one dataset, or the test splits of a benchmark, made where they are missing."""

from __future__ import annotations

import fcntl
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..bop import BopDataset
from ..errors import InputError
from .hard import read_hard, store_hard
from .run import Answer, OnImage, evaluate_dataset, spread

if TYPE_CHECKING:
    from ..synthesis.benchmark import Benchmark
    from .evaluation import Evaluation
    from .kept import KeptAnswers

Progress = Callable[[int], Any]


@dataclass(frozen=True)
class ImageSet:
    """One split with its hard images.

    Attributes:
        dataset: the split.
        hard: (scene, image) of the images on which k-means fails; empty where nobody has said.
        prefix: put before scene and image in the keys of results, where these alone would not be unique.
    """

    dataset: BopDataset
    hard: frozenset[tuple[int, int]] = frozenset()
    prefix: tuple[str, ...] = ()


def open_dataset(root: str | Path, split: str | None) -> ImageSet:
    """A dataset in BOP format; ``split`` None means ``test`` or the only one."""
    if split is None and (Path(root) / "test").is_dir():
        split = "test"
    dataset = BopDataset(root, split)
    return ImageSet(dataset, read_hard(dataset))


def open_benchmark(
    benchmark: Benchmark,
    parts: Sequence[str],
    root: str | Path | None = None,
    *,
    workers: int = 1,
    progress: Callable[[str, int], Progress] | None = None,
) -> list[ImageSet]:
    """Test splits of parts of a benchmark, with their hard images; what is missing is made first.

    Args:
        benchmark: the set.
        parts: which of its parts.
        root: where ``instseg synth benchmark`` wrote it; by default it is kept in the cache folder
            (``synthesis.convex.cache_folder``, $INSTSEG_CACHE), under a name that changes with the set's definition.
        workers: processes that make images.
        progress: (what is being done, how many images) → what to call with each number of images done.
    """
    from ..synthesis.convex import cache_folder
    from ..synthesis.runner import generate

    root = Path(root) if root else cache_folder() / "benchmarks" / f"{benchmark.name}-{benchmark.digest()}"
    sets = []
    for part in parts:
        folder, recipe = root / part, benchmark.recipe(part, "test")
        with _alone(folder):
            generate(recipe, folder, workers, progress and progress(f"{part}: images", recipe.images))
            dataset = BopDataset(folder, "test")
            hard = store_hard(
                dataset, benchmark.instances, benchmark.hard_share, progress and progress(f"{part}: k-means", recipe.images)
            )
        sets.append(ImageSet(dataset, hard, (part,)))
    return sets


def evaluate_sets(
    answer: Answer,
    sets: Sequence[ImageSet],
    *,
    limit: int | None = None,
    color: bool = False,
    on_image: OnImage | None = None,
    keep: Callable[[ImageSet], KeptAnswers] | None = None,
) -> tuple[Evaluation, Evaluation | None]:
    """Score ``answer`` on images of the sets.

    Args:
        limit: only so many images, spread evenly over the sets.
        color, on_image: as in ``evaluate_dataset``.
        keep: gives the kept answers to a set.

    Returns:
        the evaluation of all of them, and that of the hard ones, None where none is hard.
    """
    from .evaluation import Evaluation

    evaluation, hard = Evaluation(), set()
    images = [(number, i) for number, one in enumerate(sets) for i in range(len(one.dataset))]
    chosen = [images[i] for i in spread(len(images), limit)]
    for number, one in enumerate(sets):
        indices = [i for n, i in chosen if n == number]
        with keep(one) if keep else nullcontext() as kept:
            evaluate_dataset(
                answer, one.dataset, indices=indices, color=color, on_image=on_image, evaluation=evaluation,
                prefix=one.prefix, kept=kept,
            )  # fmt: skip
        hard |= {(*one.prefix, *one.dataset.keys[i]) for i in indices if one.dataset.keys[i] in one.hard}
    return evaluation, evaluation.subset(hard) if hard else None


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Hold a lock beside the folder: two evaluations must not make the same images at once."""
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        lock = (folder.parent / f".{folder.name}.lock").open("w")
    except OSError as error:
        raise InputError(
            f"cannot write {error.filename}: give a folder with space and permission by INSTSEG_CACHE or --data"
        ) from error
    with lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
