"""ClusterNet's learned scores: facts of clusters by hand, targets by hand, and a scorer that tells pieces from parts."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from instseg_ros.methods.clusternet.network import ClusterNet, ClusterNetConfig
from instseg_ros.methods.clusternet.scoring import ALONE, FACTS, Scorer, cluster_facts
from instseg_ros.methods.clusternet.votes import Votes, cluster_means

pytest.importorskip("pytorch_lightning")

from instseg_ros.training.clusternet_scorer import fit, main_piece_iou  # noqa: E402

FOCAL = 100.0


def two_clusters() -> tuple[Votes, torch.Tensor, dict[str, torch.Tensor], torch.Tensor, torch.Tensor]:
    """Cluster 0: four pixels on a plane at 1 m around the axis; cluster 1: one pixel, whose votes lie 3 cm beside it."""
    clusters = torch.tensor([0, 0, 1])
    centroid = torch.tensor([[-0.01, 0, 1], [0.01, 0, 1], [0.03, 0, 1]])
    votes = Votes(centroid, centroid, None, torch.tensor([0.2, 0.6, 0.5]), torch.tensor([0.02, 0.04, 0.01]), torch.tensor([0.8, 1.0, 0.7]))
    table = {
        "score": torch.tensor([0.9, 0.4]),
        "centroid": torch.tensor([[0.0, 0, 1], [0.03, 0, 1]]),
        "covariance": torch.diag(torch.tensor([3e-4, 1e-4, 0])).expand(2, 3, 3),
    }
    image = torch.tensor([[1, 1, 0], [1, 1, 2]])
    points = torch.zeros(2, 3, 3)
    points[..., 2] = 1
    points[1, 2] = torch.tensor([0.03, 0.04, 1])
    return votes, clusters, table, image, points


def test_facts_by_hand():
    votes, clusters, table, image, points = two_clusters()
    facts = cluster_facts(votes, clusters, table, image, points, FOCAL)
    assert facts.shape == (2, len(FACTS))
    large = dict(zip(FACTS, facts[0].tolist()))
    assert large["mean probability of a centroid around the seed"] == pytest.approx((0.04 + 0.36) / 2 / 0.4)
    assert large["highest probability of a centroid"] == pytest.approx(0.6)
    assert large["part probability"] == pytest.approx(0.9)
    assert large["spread of the votes, m"] == pytest.approx(0.01) and large["spread, in radii"] == pytest.approx(1 / 3)
    assert large["radius B, m"] == pytest.approx(0.03) and large["size of the whole part, m"] == pytest.approx(0.02)
    assert large["pixels, log"] == pytest.approx(math.log(5))
    assert large["visible surface over the whole part's size"] == pytest.approx(4 * (1 / FOCAL) ** 2 / 0.02**2)
    assert large["to the nearest centroid, m"] == pytest.approx(0.03)
    assert large["to the nearest centroid of a larger cluster, m"] == pytest.approx(ALONE)
    assert large["from the visible surface to the centroid, m"] == pytest.approx(0)
    assert large["agreement of the votes"] == pytest.approx(0.9)
    small = dict(zip(FACTS, facts[1].tolist()))
    assert small["to the nearest centroid of a larger cluster, m"] == pytest.approx(0.03) and small["the same, in radii"] == pytest.approx(3)
    assert small["from the visible surface to the centroid, m"] == pytest.approx(0.04)
    assert small["pixels of the cluster with the nearest centroid, log"] == pytest.approx(math.log(5))


def test_facts_of_a_cluster_alone_and_without_covariance_are_finite():
    votes, _, table, image, points = two_clusters()
    table = {name: table[name][:1] for name in ("score", "centroid")}
    facts = cluster_facts(votes, torch.zeros(3, dtype=torch.int64), table, image.clamp_max(1), points, FOCAL)
    assert torch.isfinite(facts).all() and facts[0, FACTS.index("to the nearest centroid, m")] == pytest.approx(ALONE)


def test_means_of_clusters_without_rows_are_zero():
    assert torch.equal(cluster_means(torch.tensor([[2.0], [4.0]]), torch.tensor([1, 1]), 3), torch.tensor([[0.0], [3.0], [0.0]]))


def test_a_piece_counts_nothing_and_the_main_piece_its_iou():
    truth = np.array([[1, 1, 1, 1, 2, 2]])
    found = np.array([[1, 1, 1, 2, 3, 0]])
    np.testing.assert_allclose(main_piece_iou(found, truth, 3, 2), [0.75, 0, 0.5])
    np.testing.assert_array_equal(main_piece_iou(found, np.zeros_like(truth), 3, 0), [0, 0, 0])


labels = arrays(np.uint16, (4, 5), elements=st.integers(0, 4))


@given(labels, labels)
def test_never_more_main_pieces_than_parts_but_for_ties(found, truth):
    iou = main_piece_iou(found, truth, 4, 4)
    assert ((0 <= iou) & (iou <= 1)).all()
    assert len(np.unique(iou[iou > 0])) <= len(np.unique(truth[truth > 0]))
    np.testing.assert_array_equal(main_piece_iou(truth, truth, 4, 4), [1.0 if (truth == k).any() else 0.0 for k in range(1, 5)])


def test_a_scorer_learns_a_rule_and_leaves_the_random_state_alone():
    generator = torch.Generator().manual_seed(0)
    facts = torch.rand(1500, len(FACTS), generator=generator) * torch.logspace(-3, 2, len(FACTS))  # of quite different units
    targets = (facts[:, 11] > facts[:, 11].median()).float() * 0.9
    state = torch.get_rng_state()
    scorers = [Scorer(), Scorer()]
    scorers[1].load_state_dict(scorers[0].state_dict())
    torch.set_rng_state(state)
    for scorer in scorers:
        fit(scorer, facts[:1000], targets[:1000], seed=1)
        assert torch.equal(torch.get_rng_state(), state) and not any(p.requires_grad for p in scorer.parameters())
    first, second = (scorer(facts[1000:]) for scorer in scorers)
    assert torch.equal(first, second)
    assert (first - targets[1000:]).abs().mean() < 0.1


def test_a_network_without_a_taught_scorer_keeps_the_scores_of_the_clustering(tmp_path):
    from test_clusternet import TINY, K

    from instseg_ros.frame import Frame
    from instseg_ros.methods.clusternet.segmenter import ClusterNetSegmenter, Thresholds

    torch.manual_seed(0)
    network = ClusterNet(ClusterNetConfig(inputs=("xyz", "depth"), feature_stride=1, mask_stride=2, subpixel=True, scored=True, **TINY))
    segmenter = ClusterNetSegmenter(network, Thresholds(min_pixels=5, mask=0.01), torch.device("cpu"))
    frame = Frame(np.random.default_rng(0).uniform(0.4, 0.6, (48, 64)).astype(np.float32), K)
    found = segmenter.find(frame)
    before = segmenter.segment(frame)
    kept = before.pixels >= 0
    assert len(before) and kept.all() and set(before.score.tolist()) <= set(found.table["score"].tolist())
    network.scorer.standardise(segmenter.facts(found).repeat(2, 1))
    after = segmenter.segment(frame)
    expected = set(network.scorer(segmenter.facts(found)).tolist())
    assert np.array_equal(after.labels, before.labels) and set(after.score.tolist()) <= expected
