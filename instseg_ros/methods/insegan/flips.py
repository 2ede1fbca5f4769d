"""Half turns: poses that look nearly alike and that no gradient leads from one to the other."""

from __future__ import annotations

import torch
from torch import Tensor

from .refine import Camera, Poses, blend, mismatch
from .shape import Shape

HALF_TURNS = torch.diag_embed(torch.tensor([[1.0, -1, -1], [-1, 1, -1], [-1, -1, 1]]))
"""(3, 3, 3) about the axes of the template's box."""
GAIN = 0.005
"""Smallest relative fall of the mismatch for which an instance is turned."""


@torch.no_grad()
def turn_over(shape: Shape, poses: Poses, observed: Tensor, camera: Camera) -> tuple[Poses, Tensor]:
    """Turn every instance by the half turn that explains the images (B, P) best, each judged with the others as they are.

    Returns:
        the poses, and which images changed (B,) bool.
    """
    rotation, changed = poses.rotation.clone(), torch.zeros(len(observed), dtype=torch.bool, device=observed.device)
    turns = HALF_TURNS.to(rotation)
    for b, there in enumerate(poses.present):
        here = torch.nonzero(there)[:, 0]
        n = len(here)
        if not n:
            continue
        now, t = poses.rotation[b, here], poses.translation[b, here]
        turned = now[:, None] @ turns  # (n, 3, 3, 3)
        depth, opacity = shape.render(torch.cat([now, turned.flatten(0, 1)]), torch.cat([t, t.repeat_interleave(3, 0)]), camera.rays)
        # Scene 0 is what there is; in scene 1 + 3 i + k instance i is turned by turn k.
        which = torch.arange(n, device=here.device).repeat(3 * n + 1, 1)
        which[torch.arange(1, 3 * n + 1), torch.arange(n).repeat_interleave(3)] = torch.arange(n, 4 * n, device=here.device)
        loss = mismatch(blend(depth[which], opacity[which], camera)[0], observed[b]).mean(1)
        best, turn = loss[1:].view(n, 3).min(1)
        for i in torch.nonzero(best < (1 - GAIN) * loss[0])[:, 0].tolist():
            rotation[b, here[i]] = turned[i, turn[i]]
            changed[b] = True
    return Poses(rotation, poses.translation, poses.present), changed
