"""MTML: network, losses, proposals and scores against values worked out by hand and plain loops."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from instseg_ros.clustering.nms import mask_overlap, suppress
from instseg_ros.clustering.voxel_graph import neighbour_pairs, split_components
from instseg_ros.errors import InputError
from instseg_ros.methods.mtml.network import MTML, MTMLConfig, receptive_field, upsample_at
from instseg_ros.methods.mtml.proposals import (
    Proposals,
    best_proposals,
    candidate_masks,
    direction_coherency,
    embedding_coherency,
    majority_class,
    resolve,
    size_prior,
)
from instseg_ros.training.mtml import direction_loss, embedding_losses

CONFIGS = [{}, {"stem_stride": 1}, {"pool": 1, "dilation": 2}, {"stem_stride": 1, "pool": 1, "stem_kernel": 3, "dilation": 2, "detail": True}]


# ---- network


@pytest.mark.parametrize("options", CONFIGS)
def test_network_answers_every_voxel_of_a_grid_of_any_size(options):
    torch.manual_seed(0)
    network = MTML(MTMLConfig(channels=3, **options))
    voxels = torch.tensor([[0, 0, 0, 0], [1, 12, 8, 4], [1, 3, 3, 3]])
    prediction = network(torch.rand(2, 3, 13, 9, 5), voxels)
    assert prediction.embedding.shape == (3, 4)
    torch.testing.assert_close(prediction.direction.norm(dim=1), torch.ones(3))


@pytest.mark.parametrize("options", CONFIGS)
def test_receptive_field_is_what_the_gradient_reaches(options, monkeypatch):
    """With positive weights and a mean in place of the maximum no path is lost: what has a gradient is the receptive field."""
    monkeypatch.setattr(torch.nn.functional, "max_pool3d", torch.nn.functional.avg_pool3d)
    config = MTMLConfig(channels=1, stem=1, middle=1, width=1, up=1, head=1, embedding=1, **options)
    network = MTML(config).double()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.fill_(1.0)
    side = 2 * receptive_field(config) + 2 * config.stride
    widest = 0
    for shift in range(config.stride):  # how far a voxel sees depends on where in its coarse cell it lies
        line = torch.ones(1, 1, side, 1, 1, dtype=torch.float64, requires_grad=True)
        network(line, torch.tensor([[0, side // 2 + shift, 0, 0]])).embedding.sum().backward()
        touched = torch.nonzero(line.grad[0, 0, :, 0, 0])[:, 0]
        widest = max(widest, int(touched.max() - touched.min()) + 1)
    assert widest == receptive_field(config)


@settings(max_examples=20, deadline=None)
@given(st.tuples(*[st.integers(1, 4)] * 3), st.integers(0, 2**32 - 1))
def test_upsampling_of_some_voxels_is_that_of_all(size, seed):
    torch.manual_seed(seed)
    up = torch.nn.ConvTranspose3d(3, 2, 4, 2, 1).double()
    x = torch.randn(2, 3, *size, dtype=torch.float64, requires_grad=True)
    voxels = torch.cartesian_prod(torch.arange(2), *[torch.arange(2 * n) for n in size])
    voxels = voxels[torch.randperm(len(voxels))[: max(len(voxels) // 2, 1)]]
    b, i, j, k = voxels.unbind(1)
    wanted, found = up(x)[b, :, i, j, k], upsample_at(up, x, voxels)
    torch.testing.assert_close(found, wanted)
    weight = torch.randn_like(wanted)
    for a, e in zip(*(torch.autograd.grad((y * weight).sum(), [x, *up.parameters()]) for y in (found, wanted))):
        torch.testing.assert_close(a, e)


@pytest.mark.parametrize("options", [{}, {"stem_stride": 1, "stem_kernel": 5, "detail": True}])
def test_a_cropping_network_does_not_see_the_empty_space_around_the_voxels(options):
    torch.manual_seed(0)
    tight = torch.randn(2, 3, 9, 8, 6)
    voxels = torch.nonzero(torch.rand(2, 9, 8, 6) < 0.3)
    voxels = torch.cat([voxels, torch.tensor([[0, 0, 0, 0], [1, 8, 7, 5]])])  # both corners: the box is the whole
    config = MTMLConfig(channels=3, **options, crop=True)
    network = MTML(config).eval()
    plain = MTML(replace(config, crop=False)).eval()
    plain.load_state_dict(network.state_dict())
    wide = torch.zeros(2, 3, 20, 17, 12)
    wide[:, :, 4:13, 6:14, 3:9] = tight
    with torch.inference_mode():
        wanted = plain(tight, voxels)
        found = network(wide, voxels + torch.tensor([0, 4, 6, 3]))
        other = plain(wide, voxels + torch.tensor([0, 4, 6, 3]))
    torch.testing.assert_close(found.embedding, wanted.embedding)
    torch.testing.assert_close(found.direction, wanted.direction)
    assert not torch.allclose(other.embedding, wanted.embedding)  # without it the border's place is seen
    assert network(wide, voxels[:0]).embedding.shape == (0, config.embedding)


@pytest.mark.parametrize("crop", [False, True])
def test_a_place_is_added_to_three_channels(crop):
    """By units a voxel, whatever the size of the grid; only differences matter."""
    torch.manual_seed(0)
    config = MTMLConfig(channels=2, stem=2, middle=2, width=2, up=4, head=4, embedding=5, crop=crop)
    plain, placed = MTML(config).eval(), MTML(replace(config, position=0.25)).eval()
    placed.load_state_dict(plain.state_dict())
    voxels = torch.tensor([[0, 0, 0, 0], [0, 4, 8, 2], [0, 7, 1, 5]])
    grid = torch.rand(1, 2, 9, 10, 6)
    added = placed(grid, voxels).embedding - plain(grid, voxels).embedding
    torch.testing.assert_close(added[:, :3] - added[0, :3], 0.25 * (voxels - voxels[0])[:, 1:].float())
    torch.testing.assert_close(added[:, 3:], torch.zeros(3, 2))


def test_paper_configuration_sees_a_room_of_14_metres():
    config = MTMLConfig()
    assert receptive_field(config) * 0.1 >= 14.2
    assert sum(p.numel() for p in MTML(config).parameters()) < 1.6e6


def test_sizes_that_make_no_sense_are_refused():
    for name, value in (("stem_stride", 3), ("pool", 4), ("stem_kernel", 4), ("embedding", 0)):
        with pytest.raises(InputError, match=f"{name} must be"):
            MTMLConfig(**{name: value})
    with pytest.raises(InputError, match="set position to 0"):
        MTMLConfig(embedding=2, position=0.25)


# ---- losses


def test_embedding_losses_by_hand():
    x = torch.tensor([[0.0, 0.0], [2.0, 0.0], [1.0, 1.5], [1.0, 1.5]])
    instance = torch.tensor([0, 0, 1, 1])
    losses = embedding_losses(x, instance, 2)
    # Means (1, 0) and (1, 1.5): distances of the first two 1, beyond 0.5 by 0.5; the others 0. Gap 1.5 of 3.
    assert losses["variance"].item() == pytest.approx((0.25 + 0) / 2)
    assert losses["distance"].item() == pytest.approx(2.25)
    assert losses["regularization"].item() == pytest.approx((1 + np.hypot(1, 1.5)) / 2, rel=1e-5)


def test_every_instance_is_pushed():
    """Three instances in a row: each pair counts twice, also those of the first one."""
    x = torch.tensor([[0.0], [1.0], [2.0]])
    loss = embedding_losses(x, torch.arange(3), 3)["distance"].item()
    assert loss == pytest.approx((2 * 4 + 2 * 4 + 2 * 1) / 6)


def test_direction_loss_is_least_when_pointing_at_the_centre():
    points = torch.tensor([[1.0, 0, 0], [0, 2.0, 0], [5.0, 5, 5]])
    centre, instance = torch.tensor([[0.0, 0, 0], [5, 5, 6]]), torch.tensor([0, 0, 1])
    towards = torch.tensor([[-1.0, 0, 0], [0, -1, 0], [0, 0, 1]])
    assert direction_loss(towards, points, centre, instance).item() == pytest.approx(-1)
    assert direction_loss(-towards, points, centre, instance).item() == pytest.approx(1)
    across = torch.tensor([[0.0, 1, 0], [0, -1, 0], [0, 0, 1]])
    assert direction_loss(across, points, centre, instance).item() == pytest.approx(-(0.5 + 1) / 2)


def test_gradients_of_the_losses():
    torch.manual_seed(1)
    x = torch.randn(7, 3, dtype=torch.float64, requires_grad=True)
    instance = torch.tensor([0, 0, 1, 1, 2, 2, 2])
    assert torch.autograd.gradcheck(lambda x: tuple(embedding_losses(x, instance, 3).values()), x)
    points, centre = torch.randn(7, 3, dtype=torch.float64), torch.randn(3, 3, dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda v: direction_loss(torch.nn.functional.normalize(v, dim=1), points, centre, instance), x)


# ---- components and suppression


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 2**32 - 1), st.floats(0.05, 0.9))
def test_components_agree_with_scipy(seed, share):
    rng = np.random.default_rng(seed)
    grid = (rng.random((6, 5, 4)) < share) * rng.integers(1, 4, (6, 5, 4))
    voxels = np.argwhere(grid)[rng.permutation(int((grid > 0).sum()))]
    labels = grid[tuple(voxels.T)] - 2  # the first class is in no cluster
    found = split_components(labels, neighbour_pairs(voxels))
    expected, used = np.full(len(voxels), -1), 0
    for kind in (2, 3):
        parts, count = ndimage.label(grid == kind, np.ones((3, 3, 3)))
        expected[labels == kind - 2] = parts[grid == kind][np.argsort(np.lexsort(voxels[labels == kind - 2].T[::-1]))] - 1 + used
        used += count
    assert len(set(zip(found.tolist(), expected.tolist()))) == len(set(expected.tolist())) == len(set(found.tolist()))
    assert ((found < 0) == (labels < 0)).all()
    first = [int(np.flatnonzero(found == k)[0]) for k in range(found.max(initial=-1) + 1)]
    assert first == sorted(first)


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(0, 8), st.floats(0, 1))
def test_suppression_keeps_the_best_and_nothing_that_overlaps_it(seed, count, overlap):
    rng = np.random.default_rng(seed)
    masks, score = torch.from_numpy(rng.random((count, 12)) < 0.4), torch.from_numpy(rng.integers(0, 5, count) / 4)
    iou = mask_overlap(masks)
    for a, b in itertools.product(range(count), repeat=2):
        union = int((masks[a] | masks[b]).sum())
        assert iou[a, b].item() == pytest.approx(int((masks[a] & masks[b]).sum()) / union if union else 0)
    kept = suppress(masks, score, overlap=overlap).tolist()
    assert [score[k] for k in kept] == sorted((score[k] for k in kept), reverse=True)
    for a, b in itertools.combinations(kept, 2):
        assert iou[a, b] <= overlap
    for lost in set(range(count)) - set(kept):
        assert any(iou[lost, k] > overlap and score[k] >= score[lost] for k in kept)


# ---- proposals


def bar(*spans: tuple[int, int]) -> torch.Tensor:
    """Voxels along x."""
    return torch.tensor([[x, 0, 0] for low, high in spans for x in range(low, high)])


def test_candidates_are_clusters_and_their_connected_parts():
    voxels = bar((0, 4), (6, 10))
    masks = candidate_masks([torch.zeros(8, dtype=torch.int64), torch.tensor([0] * 4 + [1] * 3 + [-1])], voxels, least=2)
    assert sorted(tuple(torch.nonzero(m)[:, 0].tolist()) for m in masks) == [
        (0, 1, 2, 3), (0, 1, 2, 3, 4, 5, 6, 7), (4, 5, 6), (4, 5, 6, 7),
    ]  # fmt: skip
    assert not len(candidate_masks([torch.full((8,), -1)], voxels, least=1))


def test_coherencies_by_hand():
    embedding = torch.tensor([[0.0], [0.2], [1.0], [5.0]])
    masks = torch.tensor([[True, True, True, False], [False, False, False, True]])
    # Mean 0.4: 0.4, 0.2 and 0.6 away, the last one beyond 0.5.
    assert embedding_coherency(embedding, masks, radius=0.5).tolist() == pytest.approx([2 / 3, 1])
    points = torch.tensor([[0.0, 0, 0], [2, 0, 0], [9, 9, 9]])
    direction = torch.tensor([[1.0, 0, 0], [0, 1, 0], [0, 0, 1]])
    masks = torch.tensor([[True, True, False], [True, True, False]])
    assert direction_coherency(direction, points, masks).tolist() == pytest.approx([0.5, 0.5])


def test_size_prior_prefers_regular_sizes():
    usual = ((np.log(100), 0.2), (np.log(1000), 0.2))
    prior = size_prior(torch.tensor([20, 90, 100, 120, 1000, 2000, 20000]), usual)
    assert prior[2].item() == prior[4].item() == pytest.approx(1)
    assert prior[1].item() == pytest.approx(np.exp(-0.5 * (np.log(0.9) / 0.2) ** 2), rel=1e-4)
    assert prior[0] < prior[1] < prior[2] > prior[3] and prior[4] > prior[5] > prior[6]


def test_best_proposals_resolve_into_one_labelling():
    embedding = torch.tensor([[0.0], [0.1], [4.0], [4.1], [0.4], [9.0]])
    masks = torch.tensor([[1, 1, 0, 0, 0, 0], [1, 1, 1, 1, 0, 0], [0, 0, 1, 1, 0, 0]], dtype=torch.bool)
    best = best_proposals(Proposals(masks, torch.tensor([0.9, 0.3, 0.8])), overlap=0.3, least_score=0.1)
    assert best.score.tolist() == pytest.approx([0.9, 0.8])
    assert resolve(best, embedding, reach=1.0).tolist() == [0, 0, 1, 1, 0, -1]
    none = best_proposals(Proposals(masks, torch.tensor([0.0, 0.0, 0.0])), overlap=0.3, least_score=0.1)
    assert resolve(none, embedding, reach=1.0).tolist() == [-1] * 6


def test_class_of_an_instance_is_its_commonest():
    labels, classes = torch.tensor([0, 0, 0, 1, 1, -1]), torch.tensor([2, 2, 1, 0, 0, 2])
    assert majority_class(labels, classes, 2).tolist() == [2, 0]
