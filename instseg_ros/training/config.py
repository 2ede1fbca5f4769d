"""Training configuration files: shipped ones by name, a user's own by path, every key checked."""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, TypeVar

import torch
import yaml

from ..errors import InputError
from ..methods.half_precision import half_type
from ..resources import share_directory

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class TrainerConfig:
    """The run itself.

    Attributes:
        batch_size: samples a device and step. epochs: passes over the data. validation_images: whole images for validation.
        checkpoint_every: steps.
        precision: 32-true, bf16-mixed, or auto = bf16-mixed where the hardware is faster in it: a GPU, or a CPU that multiplies it
            (AMX or AVX512-BF16; there it takes 0.3 to 0.7 of the time, on others three times as long).
    """

    batch_size: int = 4
    epochs: int = 20
    validation_images: int = 50
    checkpoint_every: int = 200
    precision: str = "auto"

    def __post_init__(self) -> None:
        if self.precision not in ("auto", "32-true", "bf16-mixed"):
            raise InputError(f"config trainer.precision must be auto, 32-true or bf16-mixed, got {self.precision!r}")

    @property
    def chosen_precision(self) -> str:
        """What Lightning is to run in on this machine."""
        if self.precision != "auto":
            return self.precision
        return "bf16-mixed" if half_type("cuda" if torch.cuda.is_available() else "cpu") else "32-true"


@dataclass(frozen=True, kw_only=True)
class SupervisedTrainerConfig(TrainerConfig):
    """A run on labelled crops, one a view and epoch.

    Attributes:
        ema: decay of the exponential moving average of the weights, which is what is validated and shipped; 0 = off.
        workers: processes that prepare samples.
        init: model directory (or the name of a shipped one) to start from; tensors of other names or shapes stay random.
    """

    ema: float = 0.0
    workers: int = 1
    init: str = ""


def read_training_config(name_or_path: str | Path) -> dict[str, Any]:
    """Read a YAML of sections; a bare name such as ``clusternet_compact`` means the one that ships in ``config/train``."""
    path = Path(name_or_path)
    if path.suffix not in (".yaml", ".yml"):
        shipped = share_directory() / "config" / "train"
        path = shipped / f"{name_or_path}.yaml"
        if not path.is_file():
            raise InputError(f"config {name_or_path!r} is neither a YAML file nor one of {', '.join(sorted(p.stem for p in shipped.glob('*.yaml')))}")
    try:
        config = yaml.safe_load(path.read_text())
    except FileNotFoundError:
        raise InputError(f"config {path} does not exist") from None
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise InputError(f"config {path} is not valid YAML: {' '.join(str(error).split())[:200]}") from None
    if not isinstance(config, dict) or not all(isinstance(section, dict) for section in config.values()):
        raise InputError(f"config {path} must hold sections of keys and values")
    return config


def build(kind: type[T], section: str, values: dict[str, Any]) -> T:
    """Make a configuration dataclass from one section; unknown keys and wrong types are an InputError."""
    known = {f.name: f for f in fields(kind)}  # type: ignore[arg-type]
    for key, value in values.items():
        if key not in known:
            raise InputError(f"config {section}: unknown key {key!r}, known are {', '.join(known)}")
        wanted = str(known[key].type)
        number = {"int": int, "float": (int, float), "bool": bool, "str": str}.get(wanted)
        if number and (not isinstance(value, number) or (isinstance(value, bool) and wanted != "bool")):
            raise InputError(f"config {section}.{key} must be {wanted}, got {value!r}")
    return kind(**values)


def plain(value: Any) -> Any:
    """Tuples to lists, so that YAML stays readable by safe_load."""
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    return [plain(item) for item in value] if isinstance(value, (list, tuple)) else value
