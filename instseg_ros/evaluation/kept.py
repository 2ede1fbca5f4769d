"""Answers kept on disk, so that an evaluation that was killed, or gets another method, runs nothing twice."""

from __future__ import annotations

import json
import time
import zipfile
import zlib
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import InputError
from ..files import write_atomic
from ..frame import Frame
from ..instances import Instances

if TYPE_CHECKING:
    from ..bop import Truth

ROWS = [field.name for field in fields(Instances) if field.name not in ("labels", "layers", "ids")]
"""Arrays with one row an instance; ids belong to a sequence, and these images are none."""
EVERY = 60.0
"""Seconds between two writings of the file: what a kill can cost."""


class KeptAnswers:
    """The answers of one method on one set of images, in one ``.npz`` (no pickle); a context manager that saves at its end.

    Args:
        path: the file; made when the first answer is saved.
        settings: JSON-ready: all that decides an answer besides the image (method, what it is told, seed, version).

    Raises:
        InputError: the file is damaged or was made with other settings.
    """

    def __init__(self, path: str | Path, settings: dict[str, Any]) -> None:
        self.path, self.settings = Path(path), json.loads(json.dumps(settings))
        self._answers: dict[tuple[int, int], tuple[int, Instances, float]] = {}
        self._saved, self._dirty = time.monotonic(), False
        if self.path.exists():
            self._read()

    def __enter__(self) -> KeptAnswers:
        return self

    def __exit__(self, *_: object) -> None:
        self.save()

    def find(self, key: tuple[int, int], frame: Frame, truth: Truth) -> tuple[Instances, float] | None:
        """The answer to one image and its seconds; None where there is none, or the image has changed since."""
        mark, instances, seconds = self._answers.get(key, (None, None, 0.0))
        return (instances, seconds) if instances is not None and mark == fingerprint(frame, truth) else None

    def add(self, key: tuple[int, int], frame: Frame, truth: Truth, instances: Instances, seconds: float) -> None:
        """Keep an answer; the file is written now and then."""
        self._answers[key] = fingerprint(frame, truth), instances, seconds
        self._dirty = True
        if time.monotonic() - self._saved > EVERY:
            self.save()

    def save(self) -> None:
        """Write the file, atomically. InputError when that is not possible."""
        if not self._dirty:
            return
        marks, answers, seconds = zip(*self._answers.values())
        arrays = {name: np.concatenate([getattr(answer, name) for answer in answers]) for name in ROWS}
        arrays |= {f"layers_{i}": answer.layers for i, answer in enumerate(answers)}
        arrays |= {"key": np.array(list(self._answers)), "mark": np.array(marks, np.uint32), "seconds": np.array(seconds)}
        arrays |= {"number": np.array([len(answer) for answer in answers]), "settings": np.array(json.dumps(self.settings))}
        write_atomic(self.path, lambda temporary: np.savez_compressed(temporary, **arrays))
        self._saved, self._dirty = time.monotonic(), False

    def _read(self) -> None:
        try:
            with np.load(self.path, allow_pickle=False) as file:
                settings = json.loads(str(file["settings"]))
                ends = np.cumsum(file["number"])[:-1]
                rows = zip(*(np.split(file[name], ends) for name in ROWS))
                layers = [file[f"layers_{i}"] for i in range(len(file["key"]))]
                answers = [Instances(labels=stack[0], layers=stack, **dict(zip(ROWS, row))) for stack, row in zip(layers, rows)]
                keys = map(tuple, file["key"].tolist())
                self._answers = dict(zip(keys, zip(file["mark"].tolist(), answers, file["seconds"].tolist())))
        except (OSError, KeyError, ValueError, IndexError, EOFError, zipfile.BadZipFile, zlib.error) as error:
            raise InputError(f"{self.path} is damaged ({error}): delete it, its answers will be made again") from None
        differing = sorted(key for key in settings | self.settings if settings.get(key) != self.settings.get(key))
        if differing:
            raise InputError(f"{self.path} was made with another {', '.join(differing)}: choose another --keep or delete it")


def fingerprint(frame: Frame, truth: Truth) -> int:
    """Checksum of what a method may see of an image: depth and true labels."""
    return zlib.crc32(np.ascontiguousarray(truth.labels), zlib.crc32(np.ascontiguousarray(frame.depth)))
