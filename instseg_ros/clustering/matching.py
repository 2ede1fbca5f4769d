"""Matching of two sets by a cost matrix: Hungarian, optimal transport (IPOT) and greedy, for whole batches."""

from __future__ import annotations

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from ..errors import InputError


def hungarian(cost: Tensor) -> Tensor:
    """Optimal assignment: cost (B, n, n) → column of every row (B, n) int64."""
    values = np.nan_to_num(cost.detach().double().cpu().numpy(), nan=1e12, posinf=1e12, neginf=-1e12)
    columns = np.stack([linear_sum_assignment(one)[1] for one in values]) if len(values) else np.zeros(cost.shape[:2])
    return torch.from_numpy(columns.astype(np.int64)).to(cost.device)


def greedy(cost: Tensor) -> Tensor:
    """The cheapest pair first, then the cheapest of what is left, …: cost (B, n, n) → column of every row (B, n) int64."""
    batch, n, _ = cost.shape
    left = cost.detach().clone()
    columns = torch.zeros(batch, n, dtype=torch.int64, device=cost.device)
    each = torch.arange(batch, device=cost.device)
    for _ in range(n):
        row, column = torch.div(best := left.view(batch, -1).argmin(1), n, rounding_mode="floor"), best % n
        columns[each, row] = column
        left[each, row, :] = torch.inf
        left[each, :, column] = torch.inf
    return columns


def ipot(cost: Tensor, *, beta: float = 0.1, iterations: int = 100) -> Tensor:
    """Transport plan between uniform marginals by the inexact proximal point method (Xie et al., UAI 2020, algorithm 1).

    Args:
        cost: (B, n, m).
        beta: proximal step, in units of the mean cost. Unlike the temperature of Sinkhorn's method it does not blur the result.

    Returns:
        (B, n, m) plan; its rows sum to 1/n and its columns to 1/m.
    """
    cost = cost.detach()
    _, n, m = cost.shape
    scale = cost.mean((1, 2), keepdim=True).clamp_min(1e-12)
    kernel = (-(cost - cost.amin(2, keepdim=True)) / (beta * scale)).exp().clamp_min(1e-30)
    plan = torch.ones_like(cost)
    right = torch.full_like(cost[:, :1], 1 / m)
    for _ in range(iterations):
        q = kernel * plan
        left = 1 / (n * (q * right).sum(2, keepdim=True)).clamp_min(1e-30)
        right = 1 / (m * (q * left).sum(1, keepdim=True)).clamp_min(1e-30)
        plan = left * q * right
    return plan


def optimal_transport(cost: Tensor) -> Tensor:
    """Assignment of the largest plan by IPOT: cost (B, n, n) → column of every row (B, n) int64."""
    return hungarian(-ipot(cost))


MATCHINGS = {"ot": optimal_transport, "hungarian": hungarian, "greedy": greedy}
"""Name in configurations → function of a cost (B, n, n)."""


def match(cost: Tensor, how: str) -> Tensor:
    """Column of every row (B, n) int64 by one of ``MATCHINGS``."""
    if how not in MATCHINGS:
        raise InputError(f"unknown matching {how!r}: choose {', '.join(MATCHINGS)}")
    return MATCHINGS[how](cost)
