"""Clustering against scikit-learn, closed forms and invariances."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from instseg_ros.clustering.gmm import GaussianMixture
from instseg_ros.clustering.seeded import merge_fragments, seeded_gmm, sphere_clusters
from instseg_ros.clustering.smoothing import majority_filter


def blobs(centers, count=200, sigma=0.002, seed=0):
    rng = np.random.default_rng(seed)
    x = np.concatenate([c + sigma * rng.standard_normal((count, len(c))) for c in np.asarray(centers, float)])
    return torch.from_numpy(x).float(), np.repeat(np.arange(len(centers)), count)


def same_partition(a, b):
    pairs = set(zip(np.asarray(a).tolist(), np.asarray(b).tolist()))
    return len(pairs) == len(set(p[0] for p in pairs)) == len(set(p[1] for p in pairs))


def test_spheres_take_the_likeliest_seed_first_and_exactly_what_is_inside():
    x = torch.tensor([[0.0], [1.0], [2.0], [3.0], [10.0]])
    eta = torch.tensor([0.1, 0.9, 0.2, 0.3, 0.95])
    radius = torch.tensor([1.0, 1.0, 1.0, 1.0, 1.0])
    labels = sphere_clusters(x, eta, radius, min_points=1, max_clusters=10)
    assert labels.tolist() == [1, 1, 1, 2, 0]  # 10 first (η .95), then 0…2 around 1, then 3 alone
    assert sphere_clusters(x, eta, radius, min_points=2, max_clusters=10).tolist() == [0, 0, 0, -1, -1]


def test_separated_blobs_are_found():
    centers = [[0, 0, 0.6], [0.03, 0, 0.6], [0, 0.04, 0.62], [0.03, 0.04, 0.58]]
    x, truth = blobs(centers)
    eta = torch.rand(len(x), generator=torch.Generator().manual_seed(1))
    labels, mixture = seeded_gmm(x, eta, torch.full((len(x),), 0.012), min_points=20)
    assert same_partition(labels, truth)
    assert len(mixture.mean) == 4


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10_000))
def test_partition_does_not_depend_on_the_order_of_points(seed):
    x, _ = blobs([[0, 0, 0], [0.05, 0, 0], [0, 0.05, 0]], count=40, seed=3)
    eta = torch.linspace(0.1, 0.9, len(x))
    radius = torch.full((len(x),), 0.01)
    order = torch.from_numpy(np.random.default_rng(seed).permutation(len(x)))
    labels, _ = seeded_gmm(x, eta, radius, min_points=5)
    shuffled, _ = seeded_gmm(x[order], eta[order], radius[order], min_points=5)
    assert same_partition(labels[order], shuffled)


def test_likelihood_equals_scipy():
    stats = pytest.importorskip("scipy.stats")
    x, k = blobs([[0, 0, 0], [0.02, 0.01, 0]], count=300, sigma=0.004)
    mixture = GaussianMixture.fit(x.double(), torch.from_numpy(k), noise=1e-3)
    for j in range(2):
        member = x.double().numpy()[k == j]
        covariance = np.cov(member.T, bias=True) + 1e-6 * np.eye(3)
        expected = stats.multivariate_normal(member.mean(0), covariance).logpdf(x.double().numpy()) + np.log(0.5)
        np.testing.assert_allclose(mixture.log_likelihood(x.double())[j].numpy(), expected, rtol=1e-6, atol=1e-6)


def test_one_iteration_moves_border_points_to_the_likelier_blob():
    # The sphere of the first seed swallows points of a tight neighbour; the mixture gives them back.
    wide, _ = blobs([[0.0, 0, 0]], count=400, sigma=0.004, seed=5)
    tight, _ = blobs([[0.016, 0, 0]], count=400, sigma=0.001, seed=6)
    x = torch.cat([wide, tight])
    eta = torch.cat([torch.full((400,), 0.5), torch.full((400,), 0.4)])
    eta[0] = 0.9
    x[0] = 0
    radius = torch.full((800,), 0.0155)
    first = sphere_clusters(x, eta, radius, min_points=10, max_clusters=9)
    swallowed = int((first[400:] == first[0]).sum())
    labels = GaussianMixture.fit(x, first, noise=1e-3).assign(x)
    assert swallowed > 50
    assert int((labels[400:] == labels[0]).sum()) < swallowed / 5


@pytest.mark.parametrize("count", [0, 1, 19])
def test_too_few_points_give_no_cluster(count):
    x = torch.zeros(count, 3)
    labels, mixture = seeded_gmm(x, torch.ones(count), torch.ones(count), min_points=20)
    assert mixture is None and (labels == -1).all() and len(labels) == count


def test_flat_and_identical_points_stay_finite():
    x = torch.zeros(100, 9)
    labels, mixture = seeded_gmm(x, torch.ones(100), torch.zeros(100) + 1e-6, min_points=5)
    assert (labels == 0).all() and torch.isfinite(mixture.log_likelihood(x)).all()


def test_fragments_within_the_radius_go_back_and_parts_two_radii_apart_stay():
    x = torch.tensor([[0.0], [0.001], [0.008], [0.021], [0.022], [0.5]])
    labels = torch.tensor([0, 0, 1, 2, 2, -1])
    merged = merge_fragments(x, labels, torch.full((6,), 0.01))
    assert merged.tolist() == [0, 0, 0, 1, 1, -1]


def test_a_fragment_goes_to_the_relatively_nearest_part():
    x = torch.tensor([[0.0], [0.03], [0.018]])
    radius = torch.tensor([0.02, 0.013, 0.02])
    assert merge_fragments(x, torch.tensor([0, 1, 2]), radius).tolist() == [0, 1, 0]  # 0.018 / 0.02 < 0.012 / 0.013


def test_a_component_that_loses_its_points_is_dropped():
    # A few points at the rim of a blob make a component of their own, which the blob outweighs in the mixture.
    x, _ = blobs([[0.0, 0, 0], [0.05, 0, 0]], count=300, sigma=0.003)
    labels, mixture = seeded_gmm(x, torch.linspace(0.9, 0.1, len(x)), torch.full((len(x),), 0.006), min_points=30)
    assert len(mixture.mean) == int(labels.max()) + 1
    assert (torch.bincount(labels) >= 30).all()


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10_000), st.sampled_from([1, 3, 5, 11]))
def test_majority_filter_equals_counting_pixel_by_pixel(seed, window):
    labels = np.random.default_rng(seed).integers(0, 5, (14, 17)).astype(np.uint16)
    reach, expected = window // 2, labels.copy()
    for y, x in np.argwhere(labels):
        around = labels[max(y - reach, 0) : y + reach + 1, max(x - reach, 0) : x + reach + 1]
        votes = np.bincount(around.ravel(), minlength=5)
        votes[0] = 0
        if votes[labels[y, x]] < votes.max():
            expected[y, x] = votes.argmax()
    np.testing.assert_array_equal(majority_filter(labels, window), expected)
