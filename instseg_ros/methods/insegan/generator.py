"""InSeGAN's generator (section 3.2): latents → poses → moved template → single-instance features → depth image.

Depth images are (B, 1, S, S) in [−1, 1]: near = bright, the floor = −1 (``Normalisation``).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ...errors import InputError
from .rotations import exponential_map


@dataclass(frozen=True, kw_only=True)
class GeneratorConfig:
    """Shape of the generator and of its inverse, the encoder.

    Attributes:
        kind: ``3d`` (the paper) or ``2d`` (its ablation: no template, no pose, no transformer).
        size: side S of the images; S / ``volume`` must be a power of two.
        instances: n, latents of an image.
        latent: d, length of a latent.
        template, template_channels: the learned tensor has side and channels of these.
        volume, volume_channels: the template after its shared layers, which is what is moved.
        features: channels of a single-instance feature map, a multiple of ``volume``.
    """

    kind: str = "3d"
    size: int = 64
    instances: int = 5
    latent: int = 128
    template: int = 4
    template_channels: int = 64
    volume: int = 16
    volume_channels: int = 16
    features: int = 128

    def __post_init__(self) -> None:
        if self.kind not in ("3d", "2d"):
            raise InputError(f"network.kind must be 3d or 2d, got {self.kind!r}")
        if self.instances < 1:
            raise InputError(f"network.instances must be at least 1, got {self.instances}")
        ratio = self.size // self.volume
        if self.volume < 8 or self.size % self.volume or ratio & (ratio - 1) or ratio < 2:
            raise InputError(f"network.size must be a power of two (2 or more) times network.volume, got {self.size} and {self.volume}")
        if self.features % self.volume:
            raise InputError(f"network.features must be a multiple of network.volume, got {self.features} and {self.volume}")

    @property
    def doublings(self) -> int:
        """How often the renderer doubles the side of the feature map."""
        return (self.size // self.volume).bit_length() - 1


class PoseDecoder(nn.Module):
    """Gp with Λ: latents (M, d) → rotations (M, 3, 3) and translations (M, 3), in half sides of the volume."""

    def __init__(self, latent: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(latent, 64, bias=False), nn.LeakyReLU(0.2), nn.Linear(64, 32, bias=False), nn.LeakyReLU(0.2),
            nn.Linear(32, 6, bias=False),
        )  # fmt: skip

    def forward(self, z: Tensor) -> tuple[Tensor, Tensor]:
        six = self.layers(z)
        return exponential_map(six[:, :3]), six[:, 3:]


class Residual3d(nn.Module):
    """Two 3 × 3 × 3 convolutions beside a 1 × 1 × 1 shortcut."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv3d(inputs, outputs, 3, padding=1), nn.LeakyReLU(0.2, inplace=True), nn.Conv3d(outputs, outputs, 3, padding=1)
        )
        self.shortcut = nn.Conv3d(inputs, outputs, 1)

    def forward(self, x: Tensor) -> Tensor:
        return F.leaky_relu(self.layers(x) + self.shortcut(x), 0.2)


class Template(nn.Module):
    """The learned tensor T and the layers that all instances share: → (1, C, v, v, v). It depends on no latent."""

    def __init__(self, config: GeneratorConfig) -> None:
        super().__init__()
        c, v = config.template_channels, config.volume
        self.tensor = nn.Parameter(torch.randn(1, c, config.template, config.template, config.template))
        self.sizes = (max(v // 2, config.template), v)
        widths = (c, max(c // 2, config.volume_channels), config.volume_channels)
        self.blocks = nn.ModuleList(Residual3d(a, b) for a, b in zip(widths, widths[1:]))

    def forward(self) -> Tensor:
        # Twice the same: PyTorch gives small batches of one to a convolution that is twenty times slower on CPUs.
        x = self.tensor.expand(2, -1, -1, -1, -1).contiguous(memory_format=torch.channels_last_3d)
        for size, block in zip(self.sizes, self.blocks):
            x = block(F.interpolate(x, size=(size,) * 3, mode="trilinear", align_corners=False))
        return x[:1]


class Instances3d(nn.Module):
    """𝓕 of Eq. 1 but for its last layer: latents (M, d) → (M, c, v, v). ``last`` makes single-instance features of these."""

    def __init__(self, config: GeneratorConfig) -> None:
        super().__init__()
        depth = config.features // config.volume
        self.pose = PoseDecoder(config.latent)
        self.template = Template(config)
        self.project3d = nn.Sequential(
            nn.Conv3d(config.volume_channels, config.volume_channels, 3, padding=1), nn.LeakyReLU(0.2, inplace=True),
            nn.Conv3d(config.volume_channels, depth, 3, padding=1), nn.LeakyReLU(0.2, inplace=True),
        )  # fmt: skip
        self.last = nn.Conv2d(config.features, config.features, 3, padding=1)

    def forward(self, z: Tensor) -> Tensor:
        """The template is computed once for all M: no latent enters it, so the result is that of M separate passes."""
        return self.project(self.template(), z)

    def project(self, volume: Tensor, z: Tensor) -> Tensor:
        """Move ``volume`` (1 or M, C, v, v, v) by the pose of each latent, then collapse its depth axis (STN and most of Gs)."""
        return self.project3d(self.move(volume, z).contiguous(memory_format=torch.channels_last_3d)).flatten(1, 2)

    def move(self, volume: Tensor, z: Tensor) -> Tensor:
        """STN(Λ(Gp(z)), volume): (M, C, v, v, v)."""
        exact = self.template.tensor.dtype  # half precision would shake the poses
        with torch.autocast(z.device.type, enabled=False):
            rotation, translation = self.pose(z.to(exact))
            theta = torch.cat([rotation, translation[..., None]], -1)
            volume = volume.to(exact).expand(len(z), -1, -1, -1, -1)
            grid = F.affine_grid(theta, list(volume.shape), align_corners=False)
            return F.grid_sample(volume, grid, align_corners=False)


class Instances2d(nn.Module):
    """The ablation of section 4.1, two-dimensional upsampling alone; interface of ``Instances3d``."""

    def __init__(self, config: GeneratorConfig) -> None:
        super().__init__()
        c, start = config.features, -(-config.volume // 4)
        self.start = (2 * c, start, start)
        self.size = config.volume
        self.first = nn.Linear(config.latent, 2 * c * start * start)
        self.layers = nn.Sequential(
            nn.LeakyReLU(0.2), nn.ConvTranspose2d(2 * c, c, 4, 2, 1), nn.LeakyReLU(0.2), nn.ConvTranspose2d(c, c, 4, 2, 1),
            nn.LeakyReLU(0.2),
        )  # fmt: skip
        self.last = nn.Conv2d(c, c, 3, padding=1)

    def forward(self, z: Tensor) -> Tensor:
        return self.layers(self.first(z).view(-1, *self.start))[..., : self.size, : self.size]


class DepthRenderer(nn.Module):
    """Gr: feature map (B, c, v, v) → depth image (B, 1, S, S) in (−1, 1).

    It begins with the activation that a single-instance feature lacks: what comes before the mean stays linear (``Generator``).
    """

    def __init__(self, config: GeneratorConfig) -> None:
        super().__init__()
        layers: list[nn.Module] = [nn.LeakyReLU(0.2)]
        width = config.features
        for _ in range(config.doublings - 1):
            layers += [nn.ConvTranspose2d(width, width // 2, 4, 2, 1), nn.InstanceNorm2d(width // 2), nn.LeakyReLU(0.2, inplace=True)]
            width //= 2
        self.layers = nn.Sequential(*layers, nn.ConvTranspose2d(width, 1, 4, 2, 1), nn.Tanh())

    def forward(self, features: Tensor) -> Tensor:
        return self.layers(features)


class Generator(nn.Module):
    """G of Eq. 2: latents (B, n, d) → depth images, through the mean of the single-instance features.

    The last layer before the mean is one convolution and nothing else, so the mean is taken before it: n times less work, the
    same result.
    """

    def __init__(self, config: GeneratorConfig) -> None:
        super().__init__()
        self.config = config
        self.instances = (Instances3d if config.kind == "3d" else Instances2d)(config)
        self.renderer = DepthRenderer(config)

    def features(self, z: Tensor) -> Tensor:
        """Latents (B, n, d) → 𝓕 of each, (B, n, c, v, v)."""
        return self.instances.last(self.instances(z.flatten(0, 1))).unflatten(0, z.shape[:2])

    def forward(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """Latents (B, n, d) → depth (B, 1, S, S) and the averaged features 𝓕̄ (B, c, v, v)."""
        mean = self.instances.last(self.instances(z.flatten(0, 1)).unflatten(0, z.shape[:2]).mean(1))
        return self.renderer(mean), mean

    def singles(self, z: Tensor) -> Tensor:
        """Every latent rendered alone (section 3.5): (B, n, d) → (B, n, S, S)."""
        alone = self.renderer(self.features(z).flatten(0, 1))
        return alone.view(*z.shape[:2], *alone.shape[-2:])
