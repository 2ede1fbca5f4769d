"""The two networks that a model directory may hold: the paper's GAN with its encoder, and the explicit one."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

from torch import nn

from ...errors import InputError
from ..yaml_values import lists_to_tuples
from .encoder import Encoder
from .generator import Generator, GeneratorConfig
from .pose_encoder import STRIDE, PoseEncoder
from .shape import Shape

COMPOSITIONS = ("z-buffer", "mean")


@dataclass(frozen=True, kw_only=True)
class ExplicitConfig:
    """The explicit network.

    Attributes:
        kind: always ``explicit``.
        size: S, working pixels along a side, a multiple of 16.
        instances: the usual number of parts; the answer may hold fewer or more.
        width, hypotheses: of ``PoseEncoder``.
        perspective: whether parts are seen by the true camera; otherwise by one so far away that its rays are parallel.
        composition: of ``Camera``: z-buffer or mean.
        grid: voxels of the template along z, y, x; known once it is learned.
    """

    kind: str = "explicit"
    size: int = 64
    instances: int = 5
    width: int = 32
    hypotheses: int = 2
    perspective: bool = True
    composition: str = "z-buffer"
    grid: tuple[int, int, int] = (32, 32, 32)

    def __post_init__(self) -> None:
        lists_to_tuples(self)
        if self.size < 32 or self.size % (4 * STRIDE):
            raise InputError(f"network.size must be a multiple of {4 * STRIDE}, at least 32, got {self.size}")
        if self.instances < 1:
            raise InputError(f"network.instances must be at least 1, got {self.instances}")
        if self.hypotheses < 1 or self.width < 2:
            raise InputError(f"network.hypotheses and width must be positive, got {self.hypotheses} and {self.width}")
        if self.composition not in COMPOSITIONS:
            raise InputError(f"network.composition must be one of {', '.join(COMPOSITIONS)}, got {self.composition!r}")
        if not isinstance(self.perspective, bool):
            raise InputError(f"network.perspective must be true or false, got {self.perspective!r}")
        if len(self.grid) != 3 or min(self.grid) < 2:
            raise InputError(f"network.grid must be three numbers of voxels, got {self.grid}")


class GanNetwork(nn.Module):
    """Generator and encoder of the paper."""

    def __init__(self, config: GeneratorConfig) -> None:
        super().__init__()
        self.config, self.generator, self.encoder = config, Generator(config), Encoder(config)


class ExplicitNetwork(nn.Module):
    """Template and pose encoder."""

    def __init__(self, config: ExplicitConfig, shape: Shape | None = None) -> None:
        super().__init__()
        self.config = config
        self.shape = shape if shape is not None else Shape(grid=config.grid)
        self.encoder = PoseEncoder(config.width, config.hypotheses)


def network_config(values: dict[str, Any]) -> GeneratorConfig | ExplicitConfig:
    """Section ``network`` of a configuration or of ``model.yaml`` → its class, by ``kind``; unknown keys are an InputError."""
    kind = ExplicitConfig if values.get("kind") == "explicit" else GeneratorConfig
    known = {f.name: f for f in fields(kind)}
    for key, value in values.items():
        if key not in known:
            raise InputError(f"network: unknown key {key!r}, known are {', '.join(known)}")
        if known[key].type == "int" and (not isinstance(value, int) or isinstance(value, bool)):
            raise InputError(f"network.{key} must be int, got {value!r}")
    return kind(**values)


def build_network(config: GeneratorConfig | ExplicitConfig) -> GanNetwork | ExplicitNetwork:
    """An untrained network."""
    return ExplicitNetwork(config) if isinstance(config, ExplicitConfig) else GanNetwork(config)
