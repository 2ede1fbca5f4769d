"""InSeGAN's losses (Eqs. 3–7) and their LightningModule."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass

import pytorch_lightning as pl
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..clustering.matching import MATCHINGS, match
from ..errors import InputError
from ..methods.insegan.encoder import Encoder
from ..methods.insegan.generator import Generator, GeneratorConfig
from .insegan_discriminator import (
    Discriminator,
    differentiable_augmentation,
    discriminator_loss,
    generator_loss,
    r1_penalty,
    turn,
)
from .insegan_selection import best_cut


@dataclass(frozen=True, kw_only=True)
class GanLossConfig:
    """Weights and remedies; the defaults are the paper's.

    Attributes:
        matching: of L_E^a: ot, hungarian or greedy.
        alignment, intermediate, perceptual: weights of L_E^a, L_E^i (λ1) and L_E^p (λ2), Eq. 6; 0 leaves a loss out.
        real: weight of the reconstruction ‖x − G(E(x))‖₁ of real images, encoder only; 0 = off, as in the paper.
        r1: γ of the gradient penalty on real images, 0 = off. r1_every: steps between two of them (lazy regularisation).
        spectral: spectral instead of instance normalisation in the discriminator.
        diffaugment: differentiable augmentation of what the discriminator sees.
    """

    matching: str = "ot"
    alignment: float = 1.0
    intermediate: float = 1.0
    perceptual: float = 1.0
    real: float = 0.0
    r1: float = 0.0
    r1_every: int = 8
    spectral: bool = False
    diffaugment: bool = False

    def __post_init__(self) -> None:
        if self.matching not in MATCHINGS:
            raise InputError(f"loss.matching must be one of {', '.join(MATCHINGS)}, got {self.matching!r}")


@dataclass(frozen=True, kw_only=True)
class GanOptimizerConfig:
    """Adam; the defaults are the reference's.

    Attributes:
        generator, discriminator, encoder: learning rates. beta1, beta2: decay of the moments.
        turn: degrees, real images are rolled by up to ± so much.
        ema: decay of the averaged generator, from which the encoder learns and which is shipped; 0 = off.
    """

    generator: float = 2e-4
    discriminator: float = 2e-4
    encoder: float = 1e-3
    beta1: float = 0.5
    beta2: float = 0.999
    turn: float = 20.0
    ema: float = 0.0


def align(z: Tensor, z_hat: Tensor, matching: str) -> Tensor:
    """π*(Ẑ) of Eq. 4: ``z_hat`` (B, n, d) in the order that matches ``z`` (B, n, d) at the least squared distance."""
    columns = match(torch.cdist(z.detach(), z_hat.detach()).square(), matching)
    return z_hat.gather(1, columns[..., None].expand_as(z_hat))


def encoder_losses(
    generator: Generator, encoder: Encoder, z: Tensor, matching: str, drawn: tuple[Tensor, Tensor] | None = None
) -> dict[str, Tensor]:
    """L_E^a (Eq. 4), L_E^i and L_E^p (Eq. 5), unweighted, as means over elements.

    The generator is only used, not trained: its parameters get no gradient (section 3.4). ``drawn``: ``generator(z)`` if known.
    """
    with frozen(generator):
        if drawn is None:
            with torch.no_grad():
                drawn = generator(z)
        image, features = (x.detach() for x in drawn)
        z_hat, features_hat = encoder(image)
        return {
            "alignment": F.mse_loss(align(z, z_hat, matching), z),
            "intermediate": F.mse_loss(features_hat, features),
            "perceptual": F.l1_loss(generator(z_hat)[0], image),
        }


class frozen:  # noqa: N801 (reads as a verb)
    """``with frozen(module):`` gradients pass through the module but none reaches its parameters."""

    def __init__(self, module: nn.Module) -> None:
        self.parameters = [p for p in module.parameters() if p.requires_grad]

    def __enter__(self) -> None:
        for p in self.parameters:
            p.requires_grad_(False)

    def __exit__(self, *_: object) -> None:
        for p in self.parameters:
            p.requires_grad_(True)


class InSeGANModule(pl.LightningModule):
    """Eq. 7 by turns: discriminator, generator, encoder, each with its own Adam."""

    def __init__(self, network: GeneratorConfig, loss: GanLossConfig, optimizer: GanOptimizerConfig) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.generator, self.encoder = Generator(network), Encoder(network)
        self.discriminator = Discriminator(network.size, spectral=loss.spectral)
        self.averaged = deepcopy(self.generator).requires_grad_(False) if optimizer.ema else None
        self.network, self.loss, self.optimizer = network, loss, optimizer

    @property
    def shipped_generator(self) -> Generator:
        """The averaged generator where there is one."""
        return self.averaged if self.averaged is not None else self.generator

    def training_step(self, batch: list[Tensor], index: int) -> None:
        """All losses are of one rendering of one set of latents, as Eq. 7 has it, and of a discriminator that moved first."""
        real = batch[0]
        if self.optimizer.turn:
            real = turn(real, self.optimizer.turn)
        z = torch.randn(len(real), self.network.instances, self.network.latent, device=self.device)
        losses = self.all_gradients(real, z, index)
        self._step(1)
        self._step(2)
        if self.averaged is not None:
            with torch.no_grad():
                for slow, fast in zip(self.averaged.parameters(), self.generator.parameters()):
                    slow.lerp_(fast, 1 - self.optimizer.ema)
        self.log_dict({name: value.detach() for name, value in losses.items()}, prog_bar=True, batch_size=len(real))

    def all_gradients(self, real: Tensor, z: Tensor, index: int) -> dict[str, Tensor]:
        drawn = self.generator(z)
        losses = self.discriminator_step(real, drawn[0].detach(), index)
        return losses | self.generator_gradient(drawn[0]) | self.encoder_gradient(real, z, drawn if self.averaged is None else None)

    def discriminator_step(self, real: Tensor, fake: Tensor, index: int) -> dict[str, Tensor]:
        penalised = bool(self.loss.r1) and index % self.loss.r1_every == 0
        shown = self._augment(real).requires_grad_(penalised)
        on_real, on_fake = self.discriminator(torch.cat([shown, self._augment(fake)])).chunk(2)
        loss = discriminator_loss(on_real, on_fake)
        penalty = self.loss.r1 * self.loss.r1_every * r1_penalty(on_real, shown) if penalised else 0.0
        self.manual_backward(loss + penalty)
        self._step(0)
        return {"D": loss, "D_real": on_real.sigmoid().mean(), "D_fake": on_fake.sigmoid().mean()}

    def generator_gradient(self, fake: Tensor) -> dict[str, Tensor]:
        with frozen(self.discriminator):
            loss = generator_loss(self.discriminator(self._augment(fake)))
        self.manual_backward(loss)
        return {"G": loss}

    def encoder_gradient(self, real: Tensor, z: Tensor, drawn: tuple[Tensor, Tensor] | None) -> dict[str, Tensor]:
        generator, weight = self.shipped_generator, self.loss
        losses = encoder_losses(generator, self.encoder, z, weight.matching, drawn)
        total = sum(getattr(weight, name) * value for name, value in losses.items())
        if weight.real:
            with frozen(generator):
                losses["real"] = F.l1_loss(generator(self.encoder(real)[0])[0], real)
            total = total + weight.real * losses["real"]
        self.manual_backward(total)
        return losses

    def validation_step(self, batch: list[Tensor], index: int) -> None:
        """Label-free, for the choice of the checkpoint: how well the single renderings explain real images (``best_cut``)."""
        real = batch[0]
        alone = self.shipped_generator.singles(self.encoder(real)[0])
        self.log("val/explained", best_cut(alone, real[:, 0])[1], prog_bar=True, batch_size=len(real))

    def configure_optimizers(self) -> list[torch.optim.Optimizer]:
        o = self.optimizer
        pairs = ((self.discriminator, o.discriminator), (self.generator, o.generator), (self.encoder, o.encoder))
        return [torch.optim.Adam(module.parameters(), lr=rate, betas=(o.beta1, o.beta2), fused=True) for module, rate in pairs]

    def _augment(self, images: Tensor) -> Tensor:
        return differentiable_augmentation(images) if self.loss.diffaugment else images

    def _step(self, number: int) -> None:
        optimizer = self.optimizers()[number]
        optimizer.step()
        optimizer.zero_grad()
