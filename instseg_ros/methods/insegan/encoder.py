"""InSeGAN's instance pose encoder E = Gs⁻¹ ∘ Gr⁻¹ (section 3.4): depth image → features → latents."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from .generator import GeneratorConfig


class Whole(nn.Conv2d):
    """A convolution as large as its input, (B, c, k, k) → (B, outputs), as the matrix product it is: a quarter of the time."""

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x.flatten(1), self.weight.flatten(1), self.bias)


class Encoder(nn.Module):
    """Depth images (B, 1, S, S) → latents (B, n, d)."""

    def __init__(self, config: GeneratorConfig) -> None:
        super().__init__()
        self.config = config
        self.derenderer = nn.Sequential(*_down(1, config.features, config.doublings, last=False))
        width, steps = config.features, 2
        top = config.volume // 2**steps
        self.decoder = nn.Sequential(
            nn.LeakyReLU(0.2), *_down(width, 4 * width, steps, last=True),
            Whole(4 * width, config.instances * config.latent, top),
        )  # fmt: skip

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """→ latents (B, n, d) and Gr⁻¹(x) (B, c, v, v), which L_E^i compares with 𝓕̄."""
        features = self.derenderer(x)
        return self.decoder(features).view(len(x), self.config.instances, self.config.latent), features


def _down(inputs: int, outputs: int, steps: int, *, last: bool) -> list[nn.Module]:
    """Stride-2 convolutions whose widths double up to ``outputs``; ``last``: norm and activation after the last one too."""
    widths = [inputs, *(max(outputs >> (steps - 1 - i), 1) for i in range(steps))]
    layers: list[nn.Module] = []
    for i, (a, b) in enumerate(zip(widths, widths[1:])):
        layers.append(nn.Conv2d(a, b, 4, 2, 1))
        if i < steps - 1 or last:
            layers += [nn.InstanceNorm2d(b), nn.LeakyReLU(0.2, inplace=True)]
    return layers
