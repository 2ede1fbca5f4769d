"""InSeGAN's training step, from a straightforward one to ours, remedy by remedy; all rungs compute the same losses and gradients."""

from __future__ import annotations

import time
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..freed_memory import keep_freed_memory
from ..methods.half_precision import half_type
from ..methods.insegan.generator import Generator, GeneratorConfig
from ..methods.segmenter import choose_device
from ..training.insegan import GanLossConfig, GanOptimizerConfig, InSeGANModule
from . import Options

BATCH = 32
STEPS = 3


class PlainGenerator(nn.Module):
    """G as Eqs. 1 and 2 are written: features of every instance, then their mean, in PyTorch's own layout.

    Args:
        each: run the template's layers for every latent, as when the template is a part of each sample.
    """

    def __init__(self, generator: Generator, *, each: bool) -> None:
        super().__init__()
        self.generator, self.each = generator, each

    def forward(self, z: Tensor) -> tuple[Tensor, Tensor]:
        flat, g = z.flatten(0, 1), self.generator.instances
        moved = g.move(self._template(len(flat)) if self.each else g.template(), flat).contiguous()
        mean = g.last(g.project3d(moved).flatten(1, 2)).unflatten(0, z.shape[:2]).mean(1)
        return self.generator.renderer(mean), mean

    def _template(self, count: int) -> Tensor:
        branch = self.generator.instances.template
        x = branch.tensor.expand(count, -1, -1, -1, -1)
        for size, block in zip(branch.sizes, branch.blocks):
            x = block(F.interpolate(x, size=(size,) * 3, mode="trilinear", align_corners=False))
        return x


@dataclass(frozen=True)
class Rung:
    """A step of the ladder. ``each``: see ``PlainGenerator``; ``redraw``: every loss renders its own fakes; ``plain``: that
    generator and PyTorch's default Adam; ``keep``: freed memory stays with the process; ``half``: bfloat16 where autocast allows it.
    """

    each: bool = False
    redraw: bool = False
    plain: bool = False
    keep: bool = False
    half: bool = False


LADDER = {
    "straightforward": Rung(each=True, redraw=True, plain=True),
    "fakes rendered once": Rung(each=True, plain=True),
    "and template once": Rung(plain=True),
    "and layouts, means and Adam": Rung(),
    "ours": Rung(keep=True),
    "ours, bfloat16": Rung(keep=True, half=True),
    "straightforward, bfloat16": Rung(each=True, redraw=True, plain=True, half=True),
}
"""Name → what it does. From ``straightforward`` to ``ours`` the arithmetic is the same but for rounding."""


class Step(InSeGANModule):
    """Training steps outside of Lightning, by a rung of the ladder."""

    def __init__(self, rung: Rung, network: GeneratorConfig | None = None, loss: GanLossConfig | None = None) -> None:
        super().__init__(network or GeneratorConfig(), loss or GanLossConfig(), GanOptimizerConfig())
        self.rung = rung
        self.drawer = PlainGenerator(self.generator, each=rung.each) if rung.plain else self.generator
        o = self.optimizer
        modules = ((self.discriminator, o.discriminator), (self.generator, o.generator), (self.encoder, o.encoder))
        self.each_optimizer: list[torch.optim.Optimizer] = self.configure_optimizers()
        if rung.plain:
            self.each_optimizer = [torch.optim.Adam(m.parameters(), lr=rate, betas=(o.beta1, o.beta2)) for m, rate in modules]
        self.losses: dict[str, Tensor] = {}

    @property
    def shipped_generator(self) -> nn.Module:
        return self.drawer

    def optimizers(self) -> list[torch.optim.Optimizer]:
        return self.each_optimizer

    def manual_backward(self, loss: Tensor) -> None:
        loss.backward()

    def log_dict(self, losses: dict[str, Tensor], **_: object) -> None:
        self.losses = losses

    def training_step(self, batch: list[Tensor], index: int) -> None:
        with torch.autocast(batch[0].device.type, torch.bfloat16, enabled=self.rung.half):
            super().training_step(batch, index)

    def all_gradients(self, real: Tensor, z: Tensor, index: int) -> dict[str, Tensor]:
        if not self.rung.plain:
            return super().all_gradients(real, z, index)
        drawn = None if self.rung.redraw else self.drawer(z)
        with torch.no_grad():
            fake = (drawn or self.drawer(z))[0].detach()
        losses = self.discriminator_step(real, fake, index) | self.generator_gradient((drawn or self.drawer(z))[0])
        return losses | self.encoder_gradient(real, z, drawn)


def run(options: Options) -> dict:
    """Keys: batch, steps, rungs: name → seconds (median; of the processor, on a GPU of the clock), images_per_second and
    speedup over the straightforward step in 32 bits; chosen, the rung that ``trainer.precision: auto`` means here, and its speedup.
    ``--frames`` sets the batch.
    """
    device = choose_device(options.device)
    batch = options.frames or BATCH
    images = torch.rand(batch, 1, 64, 64, generator=torch.Generator().manual_seed(options.seed)) * 2 - 1
    median = {name: _seconds(rung, images.to(device), options.seed) for name, rung in LADDER.items()}
    keep_freed_memory(False)
    rungs = {
        name: {"seconds": round(s, 4), "images_per_second": round(batch / s, 2), "speedup": round(median["straightforward"] / s, 2)}
        for name, s in median.items()
    }
    chosen = "ours, bfloat16" if half_type(device.type) else "ours"
    return {"batch": batch, "steps": STEPS, "rungs": rungs, "chosen": chosen, "speedup": rungs[chosen]["speedup"]}


def _seconds(rung: Rung, images: Tensor, seed: int) -> float:
    """Median of a step: time of all cores together on a CPU, which other programs stretch least; of the clock on a GPU."""
    torch.manual_seed(seed)
    keep_freed_memory(rung.keep)
    step = Step(rung).to(images.device)
    clock = time.perf_counter if images.is_cuda else time.process_time
    spent = []
    for index in range(STEPS + 1):
        start = clock()
        step.training_step([images], index)
        if images.is_cuda:
            torch.cuda.synchronize()
        spent.append(clock() - start)
    return sorted(spent[1:])[STEPS // 2]  # the first warms up
