"""Training of the explicit network's pose encoder, on real images with the poses found in them and on drawn ones."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor
from torch.nn import functional as F

from ..errors import InputError
from ..methods.insegan.assembly import evidence
from ..methods.insegan.network import ExplicitNetwork
from ..methods.insegan.pose_encoder import STRIDE, PoseMap
from ..methods.insegan.refine import Camera, Poses, draw
from ..methods.insegan.rotations import exponential_map
from ..methods.insegan.search import tilt_towards
from ..methods.insegan.shape import Shape
from .insegan import frozen
from .insegan_discriminator import Discriminator, discriminator_loss, generator_loss, r1_penalty, roll


@dataclass(frozen=True, kw_only=True)
class PoseLossConfig:
    """Weights and remedies of the explicit network's training.

    Attributes:
        real: share of real images in a batch; the others are drawn from poses that were found, recombined.
        presence, position, depth, rotation, hypothesis: weights of ``pose_losses``.
        drop, swap: chance that a drawn instance is left out (so that n varies), or turned like one of another image.
        jitter, wobble: metres and radians by which drawn instances are moved.
        adversarial: weight of L_G (Eq. 3) on the template, against a discriminator of real and drawn images; 0 = off.
        r1: of that discriminator.
        points: template points in the rotation loss.
    """

    real: float = 0.5
    presence: float = 1.0
    position: float = 0.5
    depth: float = 10.0
    rotation: float = 5.0
    hypothesis: float = 0.1
    drop: float = 0.15
    swap: float = 0.2
    jitter: float = 2e-3
    wobble: float = 0.15
    adversarial: float = 0.0
    r1: float = 1.0
    points: int = 48

    def __post_init__(self) -> None:
        if not 0 <= self.real <= 1:
            raise InputError(f"loss.real is a share of a batch, 0 to 1, got {self.real}")
        if self.adversarial and self.real in (0, 1):
            raise InputError(f"loss.adversarial compares real with drawn images: loss.real must lie between 0 and 1, got {self.real}")


@dataclass(frozen=True, kw_only=True)
class PoseOptimizerConfig:
    """AdamW with a linear warm-up and a cosine fall to 0.

    Attributes:
        learning_rate: peak. warmup: steps. weight_decay: decoupled. clip: largest gradient norm.
    """

    learning_rate: float = 2e-3
    warmup: int = 100
    weight_decay: float = 1e-4
    clip: float = 5.0


@dataclass(frozen=True)
class Targets:
    """What the encoder should say of B images.

    Attributes:
        poses: of the instances. pixel: (B, n, 2) where their origins project, x first. weight: (B, n) in [0, 1], 0 = don't care.
    """

    poses: Poses
    pixel: Tensor
    weight: Tensor


def roll_poses(poses: Poses, angle: Tensor, axis: Tensor) -> Poses:
    """The same parts seen by a camera that rolled: rotation by ``angle`` (B,) radians about the ray ``axis`` (3,)."""
    turn = exponential_map(angle[:, None] * F.normalize(axis, dim=0))[:, None]
    return Poses(turn @ poses.rotation, (turn @ poses.translation[..., None])[..., 0], poses.present)


def project(translation: Tensor, K: Tensor) -> Tensor:
    """Points (…, 3) metres → working pixels (…, 2), x first."""
    z = translation[..., 2:].clamp_min(1e-3)
    return translation[..., :2] / z * K[[0, 1], [0, 1]] + K[:2, 2]


def pose_losses(found: PoseMap, targets: Targets, camera: Camera, surface: Tensor) -> dict[str, Tensor]:
    """Losses of the encoder, unweighted.

    ``presence``: binary cross-entropy with a soft target around every origin. ``position`` (cells, L1), ``depth`` (values, L1)
    and ``rotation`` in the cells within one cell of an origin. The rotation loss is the mean distance between the two sets of
    turned template points (Chamfer), relative to the part's size: rotations that look alike count as alike (after PoseCNN's
    ShapeMatch loss, Xiang et al., RSS 2018). The better hypothesis learns; their logits learn to tell which it is.
    """
    _, h, w = found.logit.shape
    cell = (targets.pixel + 0.5) / STRIDE - 0.5
    grid = torch.stack(torch.meshgrid(torch.arange(w), torch.arange(h), indexing="xy"), -1).to(cell)
    distance = (grid[None, None] - cell[:, :, None, None]).norm(dim=-1)  # (B, n, h, w)
    distance = distance.masked_fill(~targets.poses.present[..., None, None], torch.inf)
    nearest, owner = distance.min(1)
    weight = targets.weight.gather(1, owner.flatten(1)).view_as(nearest)
    soft = (-(nearest**2) / (2 * 0.6**2)).exp()
    care = torch.where(nearest < 1.5, weight, torch.ones_like(weight))
    presence = F.binary_cross_entropy_with_logits(found.logit, soft, care, reduction="sum") / care.numel() * 10
    b, y, x = torch.nonzero((nearest < 1.0) & (weight > 0), as_tuple=True)
    if not len(b):
        zero = found.logit.sum() * 0
        return {"presence": presence, "position": zero, "depth": zero, "rotation": zero, "hypothesis": zero}
    who, scale = owner[b, y, x], weight[b, y, x]
    share = scale / scale.sum()
    true_t, true_r = targets.poses.translation[b, who], targets.poses.rotation[b, who]
    position = ((found.position[b, y, x] - targets.pixel[b, who]).abs().sum(-1) / STRIDE * share).sum()
    depth = ((found.value[b, y, x] - camera.value(true_t[:, 2])).abs() * share).sum()
    # As seen along the ray: a part keeps its look when it moves sideways.
    seen = tilt_towards(true_t / true_t[:, 2:]).transpose(1, 2) @ true_r
    ours = torch.einsum("mhij,qj->mhqi", found.rotation[b, y, x], surface)
    theirs = torch.einsum("mij,qj->mqi", seen, surface)[:, None]
    pair = torch.cdist(ours, theirs.expand_as(ours))
    chamfer = (pair.amin(-1).mean(-1) + pair.amin(-2).mean(-1)) / surface.norm(dim=1).max()
    best, which = chamfer.min(1)
    rotation = ((best + 0.1 * chamfer.mean(1)) * share).sum()
    hypothesis = (F.cross_entropy(found.weight[b, y, x], which, reduction="none") * share).sum()
    return {"presence": presence, "position": position, "depth": depth, "rotation": rotation, "hypothesis": hypothesis}


class ExplicitModule(pl.LightningModule):
    """Trains the encoder (and, adversarially, the template) on batches of indices into a pool of images with found poses.

    Args:
        images: (N, P) values of real images in which poses were found. poses: these. trust: (N, n) weight of every pose.
        K: (3, 3) of the working image. All on the device that trains.
    """

    def __init__(
        self, network: ExplicitNetwork, images: Tensor, poses: Poses, trust: Tensor, camera: Camera, K: Tensor,
        loss: PoseLossConfig, optimizer: PoseOptimizerConfig,
    ) -> None:  # fmt: skip
        super().__init__()
        self.network, self.loss, self.optimizer = network, loss, optimizer
        self.pool, self.poses, self.trust, self.camera, self.K = images, poses, trust, camera, K
        self.surface = network.shape.surface_points(loss.points)
        size = network.config.size
        centre = torch.tensor([(size - 1) / 2] * 2)
        self.axis = torch.cat([(centre.to(K) - K[:2, 2]) / K[[0, 1], [0, 1]], K.new_ones(1)])
        self.automatic_optimization = False
        self.discriminator = Discriminator(size) if loss.adversarial else None
        if not loss.adversarial:
            network.shape.requires_grad_(False)

    def training_step(self, batch: list[Tensor], step: int) -> None:
        index = batch[0]
        count = round(self.loss.real * len(index))
        batches = [self.real_batch(index[:count])] if count else []
        batches += [self.drawn_batch(index[count:])] if count < len(index) else []
        found = self.network.encoder(torch.cat([images.detach() for images, _ in batches]))
        losses = pose_losses(found, join([targets for _, targets in batches]), self.camera, self.surface)
        total = sum(getattr(self.loss, name) * value for name, value in losses.items())
        if self.discriminator is not None and len(batches) == 2:
            losses |= self.adversarial_step(*(images for images, _ in batches))
        self._step(0, total)
        self.lr_schedulers().step()
        self.log_dict({name: value.detach() for name, value in losses.items()}, batch_size=len(index))
        self.log("loss", total.detach(), prog_bar=True, batch_size=len(index))

    def real_batch(self, index: Tensor) -> tuple[Tensor, Targets]:
        """Real images (B, S, S), rolled, with the poses found in them."""
        images = self.pool[index].view(-1, 1, *[self.network.config.size] * 2)
        angle = (torch.rand(len(index), device=self.device) * 2 - 1) * math.pi
        poses = roll_poses(self.poses[index], angle, self.axis)
        return roll(images, angle)[:, 0], self._targets(poses, self.trust[index])

    def drawn_batch(self, index: Tensor) -> tuple[Tensor, Targets]:
        """Images (B, S, S) drawn from found poses: rolled, moved, some instances turned otherwise or left out."""
        c, poses = self.loss, self.poses[index]
        b, n = poses.present.shape
        device = self.device
        other = self.poses.rotation.flatten(0, 1)[torch.randint(self.poses.present.numel(), (b, n), device=device)]
        swap = torch.rand(b, n, device=device) < c.swap
        rotation = torch.where(swap[..., None, None], other, poses.rotation) @ exponential_map(c.wobble * torch.randn(b, n, 3, device=device))
        translation = poses.translation + c.jitter * torch.randn(b, n, 3, device=device)
        present = poses.present & (torch.rand(b, n, device=device) >= c.drop)
        angle = (torch.rand(b, device=device) * 2 - 1) * math.pi
        poses = roll_poses(Poses(rotation, translation, present), angle, self.axis)
        with torch.set_grad_enabled(self.discriminator is not None):
            scene = draw(self.network.shape, poses, self.camera)
        image = scene.image.clamp(-1, 1).view(b, *[self.network.config.size] * 2)
        visible = scene.visibility.sum(2) / scene.opacity.sum(2).clamp_min(1e-3)
        return image, self._targets(poses, (visible.detach() / 0.2).clamp(0, 1) * (visible > 0.05))

    def adversarial_step(self, real: Tensor, drawn: Tensor) -> dict[str, Tensor]:
        """Eq. 3 with the template as the generator: what it draws must look like real images."""
        shown = real[:, None].requires_grad_()
        on_real, on_drawn = self.discriminator(shown), self.discriminator(drawn.detach()[:, None])
        loss = discriminator_loss(on_real, on_drawn)
        self._step(1, loss + self.loss.r1 * r1_penalty(on_real, shown))
        with frozen(self.discriminator):
            fooled = generator_loss(self.discriminator(drawn[:, None]))
        if drawn.requires_grad:  # not where every instance was left out
            self._step(2, self.loss.adversarial * fooled)
        return {"D": loss, "G": fooled}

    def configure_optimizers(self) -> Any:
        o = self.optimizer
        encoder = torch.optim.AdamW(self.network.encoder.parameters(), lr=o.learning_rate, weight_decay=o.weight_decay)
        steps = max(int(self.trainer.estimated_stepping_batches), 1)
        fall = torch.optim.lr_scheduler.LambdaLR(
            encoder, lambda i: min((i + 1) / max(o.warmup, 1), 0.5 + 0.5 * math.cos(math.pi * min(i / steps, 1.0)))
        )
        if self.discriminator is None:
            return [encoder], [fall]
        others = [
            torch.optim.Adam(self.discriminator.parameters(), lr=2e-4, betas=(0.5, 0.999)),
            torch.optim.Adam(self.network.shape.parameters(), lr=5e-3, betas=(0.5, 0.999)),
        ]
        return [encoder, *others], [fall]

    def _targets(self, poses: Poses, weight: Tensor) -> Targets:
        return Targets(poses, project(poses.translation, self.K), weight * poses.present)

    def _step(self, number: int, loss: Tensor) -> None:
        optimizers = self.optimizers()
        optimizer = optimizers[number] if isinstance(optimizers, list) else optimizers
        optimizer.zero_grad()
        self.manual_backward(loss)
        if number == 0 and self.optimizer.clip:
            torch.nn.utils.clip_grad_norm_(self.network.encoder.parameters(), self.optimizer.clip)
        optimizer.step()


def join(batches: Sequence[Targets]) -> Targets:
    """One batch after the other."""
    poses = [batch.poses for batch in batches]
    joined = Poses(*(torch.cat([getattr(p, name) for p in poses]) for name in ("rotation", "translation", "present")))
    return Targets(joined, torch.cat([batch.pixel for batch in batches]), torch.cat([batch.weight for batch in batches]))


@torch.no_grad()
def trust_in(network_shape: Shape, poses: Poses, images: Tensor, camera: Camera) -> Tensor:
    """(B, n) weight of found poses: the share of what an instance shows in the drawn scene that the image (B, P) confirms."""
    scene = draw(network_shape, poses, camera)
    weight = torch.zeros(poses.present.shape, device=images.device)
    for i in range(len(images)):
        explained, contradicted = evidence(scene.depth[i], scene.opacity[i], images[i], camera)
        shown = scene.visibility[i] > 0.5
        agreed = (explained & shown).sum(1).float()
        weight[i] = agreed / ((scene.visibility[i] > 0.9) | contradicted).sum(1).clamp_min(1)
        visible = shown.sum(1) / (scene.opacity[i] > 0.5).sum(1).clamp_min(1)
        weight[i] *= (visible / 0.2).clamp(0, 1)
    return (weight * poses.present).clamp(0, 1)
