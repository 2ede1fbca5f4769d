"""Mask2Former's network, built by `transformers` from our configuration; nothing is fetched, weights start at random."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field, fields
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ...errors import InputError

STRIDE = 32
"""Sides of the network's input are multiples of this, its coarsest stride."""
CHANNELS = 3
GROUPS = 32
"""`transformers` normalises the pixel decoder's features in so many groups."""
STAGES = ["stage1", "stage2", "stage3", "stage4"]
SMALL = {"embedding_size": 32, "hidden_sizes": [32, 64, 128, 256], "depths": [1, 2, 2, 1]}
GIVEN = {"num_channels", "out_features", "out_indices"}
"""Keys of a backbone that are not for the user to set."""


@dataclass(frozen=True, kw_only=True)
class NetworkConfig:
    """The network's size; ``network`` of ``model.yaml``. Names in brackets are those of `transformers`.

    Attributes:
        backbone: ``model_type``, resnet or swin, and any other key of its configuration in `transformers`.
        hidden: channels everywhere after the backbone (feature_size, mask_feature_size, hidden_dim), a multiple of 32.
        feedforward: of the layers of pixel decoder and decoder. heads: of all attention.
        encoder_layers: deformable attention in the pixel decoder, 6 in the paper.
        decoder_layers: masked attention, 9 in the paper, one supervised output after each and one before the first
            (`transformers` counts one more).
        queries: upper bound on the instances of a frame.
        block: so many pixels square become the channels of one (space to depth): 2 takes a quarter of the time, and masks come
            at an eighth of the frame's size instead of a quarter.
    """

    backbone: dict[str, Any] = field(default_factory=lambda: {"model_type": "resnet", "layer_type": "basic", **SMALL})
    hidden: int = 128
    feedforward: int = 512
    heads: int = 8
    encoder_layers: int = 1
    decoder_layers: int = 3
    queries: int = 20
    block: int = 1

    def __post_init__(self) -> None:
        for name in ("hidden", "feedforward", "heads", "encoder_layers", "decoder_layers", "queries", "block"):
            if getattr(self, name) < 1:
                raise InputError(f"network.{name} must be at least 1, got {getattr(self, name)}")
        if self.hidden % GROUPS or self.hidden % self.heads:
            raise InputError(f"network.hidden must be a multiple of {GROUPS} and of network.heads = {self.heads}, got {self.hidden}")


@dataclass(frozen=True, kw_only=True)
class LossConfig:
    """The loss that `transformers` computes; the defaults are the paper's, but for the points (12 544 there).

    Attributes:
        classes, masks, dice: weights of the cross entropy of the classes, of the masks' and of the dice loss, in matching
            and in training. no_object: weight of the class of queries without a part.
        points: where each mask is compared. oversample: so many times more points are drawn, of which the least certain are
            kept for the share ``important`` of the points.
    """

    classes: float = 2.0
    masks: float = 5.0
    dice: float = 5.0
    no_object: float = 0.1
    points: int = 1024
    oversample: float = 3.0
    important: float = 0.75


class Prediction(NamedTuple):
    """What Q queries say about B images.

    Attributes:
        classes: (B, Q, 2) logits: a part, nothing. masks: (B, Q, h, w) logits at a quarter of the input's size.
        earlier: the same of the outputs before and between the decoder's layers.
    """

    classes: Tensor
    masks: Tensor
    earlier: tuple[Prediction, ...] = ()


class Mask2Former(nn.Module):
    """Images (B, 3, H, W) → what the queries see, one class (part) and none.

    Args:
        config: the size. loss: read in training only.

    Raises:
        InputError: `transformers` is not installed, or does not know or accept an entry of ``config.backbone``.
    """

    def __init__(self, config: NetworkConfig, loss: LossConfig | None = None) -> None:
        super().__init__()
        self.config = config
        library = require_transformers()
        loss = loss or LossConfig()
        sizes = {name: config.hidden for name in ("feature_size", "mask_feature_size", "hidden_dim")}
        whole = library.Mask2FormerConfig(
            backbone_config=_backbone(library, config.backbone, CHANNELS * config.block**2),
            num_labels=1,
            num_queries=config.queries,
            encoder_layers=config.encoder_layers,
            decoder_layers=config.decoder_layers + 1,
            encoder_feedforward_dim=config.feedforward,
            dim_feedforward=config.feedforward,
            num_attention_heads=config.heads,
            class_weight=float(loss.classes),
            mask_weight=float(loss.masks),
            dice_weight=float(loss.dice),
            no_object_weight=float(loss.no_object),
            train_num_points=loss.points,
            oversample_ratio=float(loss.oversample),
            importance_sample_ratio=float(loss.important),
            **sizes,
        )
        self.model = library.Mask2FormerForUniversalSegmentation(whole)

    def forward(self, images: Tensor) -> Prediction:
        out = self.model(pixel_values=F.pixel_unshuffle(images, self.config.block), output_auxiliary_logits=True)
        earlier = tuple(Prediction(x["class_queries_logits"], x["masks_queries_logits"]) for x in out.auxiliary_logits)
        return Prediction(out.class_queries_logits, out.masks_queries_logits, earlier)

    def losses(self, prediction: Prediction, masks: list[Tensor]) -> dict[str, Tensor]:
        """Weighted losses of all outputs after Hungarian matching; their sum is what training minimises.

        Args:
            masks: of each image, (N, H, W) float32 true masks in 0 and 1.
        """
        kinds = [torch.zeros(len(x), dtype=torch.int64, device=x.device) for x in masks]
        earlier = [{"class_queries_logits": x.classes.float(), "masks_queries_logits": x.masks.float()} for x in prediction.earlier]
        with torch.autocast(prediction.masks.device.type, enabled=False):
            return self.model.get_loss_dict(prediction.masks.float(), prediction.classes.float(), masks, kinds, earlier)


def require_transformers() -> Any:
    """The package `transformers`. InputError: it is not installed."""
    try:
        import transformers
    except ImportError:
        raise InputError("mask2former needs the package transformers, which is not installed: pip install 'transformers>=5.0'") from None
    # Says about every backbone but Swin that it may not work; ResNet's four stages do.
    logging.getLogger("transformers.models.mask2former.configuration_mask2former").setLevel(logging.ERROR)
    return transformers


def _backbone(library: Any, values: dict[str, Any], channels: int) -> Any:
    kinds = {"resnet": library.ResNetConfig, "swin": library.SwinConfig}
    rest = dict(values)
    kind = rest.pop("model_type", None)
    if kind not in kinds:
        raise InputError(f"config network.backbone.model_type must be one of {', '.join(kinds)}, got {kind!r}")
    known = {f.name for f in fields(kinds[kind])} - {f.name for f in fields(library.PreTrainedConfig)} - GIVEN
    unknown = rest.keys() - known
    if unknown:
        first = min(map(str, unknown))
        raise InputError(f"config network.backbone: unknown key {first!r}, known are {', '.join(sorted(known))}")
    try:
        return kinds[kind](num_channels=channels, out_features=STAGES, **rest)
    except Exception as error:  # the library raises its own kinds
        raise InputError(f"config network.backbone: {' '.join(str(error).split())[:200]}") from None
