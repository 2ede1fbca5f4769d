"""InSeGAN's training step: the template branch computed once, against a straightforward version that computes it per sample."""

from __future__ import annotations

import time

import torch
from torch import Tensor, nn

from ..methods.insegan.generator import GeneratorConfig, Instances3d
from ..methods.segmenter import choose_device
from ..training.insegan import GanLossConfig, GanOptimizerConfig, InSeGANModule
from . import Options

BATCH = 16
STEPS = 3


class PerSample(nn.Module):
    """The same features with the template's layers run for every latent, as when the template is a part of each sample."""

    def __init__(self, instances: Instances3d) -> None:
        super().__init__()
        self.instances = instances

    def forward(self, z: Tensor) -> Tensor:
        branch = self.instances.template
        x = branch.tensor.expand(len(z), -1, -1, -1, -1)
        for size, block in zip(branch.sizes, branch.blocks):
            x = block(nn.functional.interpolate(x, size=(size,) * 3, mode="trilinear", align_corners=False))
        return self.instances.project(x, z)


def run(options: Options) -> dict:
    """Keys: batch, steps, once_s and per_sample_s (median seconds a step), images_per_second of both, speedup, difference (largest
    of the two generators' images for the same latents). ``--frames`` sets the batch.
    """
    device = choose_device(options.device)
    batch = options.frames or BATCH
    torch.manual_seed(options.seed)
    module = InSeGANModule(GeneratorConfig(), GanLossConfig(), GanOptimizerConfig()).to(device)
    optimizers = module.configure_optimizers()
    module.optimizers = lambda: optimizers  # type: ignore[method-assign]
    module.manual_backward = lambda loss: loss.backward()  # type: ignore[method-assign]
    module.log_dict = lambda *args, **kwargs: None  # type: ignore[method-assign]
    images = torch.rand(batch, 1, 64, 64, device=device) * 2 - 1
    z = torch.randn(2, 5, 128, device=device)
    once = module.generator.instances
    each = PerSample(once)
    with torch.no_grad():
        first = module.generator(z)[0]
        module.generator.instances = each
        difference = float((module.generator(z)[0] - first).abs().max())
    seconds: dict[str, list[float]] = {"once": [], "per_sample": []}
    for step in range(STEPS + 1):  # by turns, so that a busy machine is unfair to both; the first turn warms up
        for name, instances in (("once", once), ("per_sample", each)):
            module.generator.instances = instances
            start = time.perf_counter()
            module.training_step([images], step)
            if device.type == "cuda":
                torch.cuda.synchronize()
            if step:
                seconds[name].append(time.perf_counter() - start)
    a, b = (sorted(seconds[name])[STEPS // 2] for name in ("once", "per_sample"))
    return {
        "batch": batch,
        "steps": STEPS,
        "once_s": round(a, 4),
        "per_sample_s": round(b, 4),
        "images_per_second_once": round(batch / a, 2),
        "images_per_second_per_sample": round(batch / b, 2),
        "speedup": round(b / a, 2),
        "difference": difference,
    }
