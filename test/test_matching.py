"""Matching of sets: against brute force, and the marginals of the transport plan."""

from itertools import permutations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from instseg_ros.clustering.matching import greedy, hungarian, ipot, match, optimal_transport
from instseg_ros.errors import InputError


def total(cost, columns):
    return cost.gather(2, columns[..., None])[..., 0].sum(1)


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10_000), n=st.integers(1, 5))
def test_hungarian_and_transport_find_the_cheapest_permutation(seed, n):
    cost = torch.rand(3, n, n, generator=torch.Generator().manual_seed(seed))
    best = torch.stack([cost[:, range(n), p].sum(1) for p in permutations(range(n))]).amin(0)
    torch.testing.assert_close(total(cost, hungarian(cost)), best)
    # IPOT converges to an optimal plan; ties apart, its assignment is the optimal one.
    assert (total(cost, optimal_transport(cost)) <= best + 0.02).all()


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10_000), n=st.integers(1, 6), how=st.sampled_from(["ot", "hungarian", "greedy"]))
def test_every_matching_is_a_permutation_and_undoes_a_shuffle(seed, n, how):
    generator = torch.Generator().manual_seed(seed)
    points = torch.arange(n).float()[None, :, None] + 0.1 * torch.rand(2, n, 1, generator=generator)
    order = torch.randperm(n, generator=generator)
    columns = match(torch.cdist(points, points[:, order]), how)
    assert (columns.sort(1).values == torch.arange(n)).all()
    assert (order[columns] == torch.arange(n)).all()


def test_greedy_takes_the_cheapest_pair_first():
    # Greedy takes the 0 and must then pay 10; the optimum is 1 + 2.
    cost = torch.tensor([[[0.0, 1.0], [2.0, 10.0]]])
    assert greedy(cost).tolist() == [[0, 1]] and hungarian(cost).tolist() == [[1, 0]]


def test_the_plan_has_uniform_marginals_whatever_the_scale_of_the_cost():
    cost = torch.rand(4, 6, 6, generator=torch.Generator().manual_seed(0))
    for scale in (1e-4, 1.0, 1e4):
        plan = ipot(scale * cost, iterations=300)
        torch.testing.assert_close(plan.sum(1), torch.full((4, 6), 1 / 6), atol=1e-4, rtol=0)
        torch.testing.assert_close(plan.sum(2), torch.full((4, 6), 1 / 6), atol=1e-3, rtol=0)


def test_unknown_names_are_refused():
    with pytest.raises(InputError, match="hungarian"):
        match(torch.zeros(1, 2, 2), "auction")
