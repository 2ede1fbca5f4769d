"""ClusterNet's second look at outlines: windows and labels by hand, a loss that is 1 − IoU, and a refiner that learns where parts end."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from instseg_ros.clustering.gmm import GaussianMixture
from instseg_ros.errors import InputError
from instseg_ros.methods.clusternet.network import ClusterNet, ClusterNetConfig
from instseg_ros.methods.clusternet.refinement import (
    CHANNELS,
    SURE,
    WINDOW,
    Evidence,
    Refiner,
    cut,
    refiner_inputs,
    relabel,
    windows,
)

pytest.importorskip("pytorch_lightning")

from instseg_ros.training.augment import Sample  # noqa: E402
from instseg_ros.training.clusternet_refiner import (  # noqa: E402
    ENTROPY_AREA,
    RefinerTraining,
    chance_of_a_look,
    main_parts,
    outline_loss,
    refiner_samples,
)


def plane_with_two_parts(height: int = 120, width: int = 160) -> Evidence:
    """A plane at 0.5 m; cluster 1 votes for (0, 0, 0.5) m and has the left, cluster 2 for (0.1, 0, 0.5) m and has the right; rows below 80 are no part."""
    columns = torch.arange(width).float().expand(height, width)
    points = torch.stack([columns / 1000, torch.zeros(height, width), torch.full((height, width), 0.5)], 2)
    features = points.clone()
    features[..., 0] = torch.where(columns < 70, 0.0, 0.1)
    part = torch.full((height, width), 3.0)
    part[80:] = -3.0
    mixture = GaussianMixture(
        torch.tensor([[0.0, 0, 0.5], [0.1, 0, 0.5]]), torch.eye(3).expand(2, 3, 3) / 0.01, torch.tensor([0.5, 0.5]).log()
    )
    labels = torch.where(part > 0, 1 + (columns >= 70).long(), 0)
    return Evidence(labels, features, part, points, torch.ones(height, width, dtype=torch.bool), None, mixture.mean, mixture)


def test_windows_lie_around_the_median_pixel():
    labels = torch.zeros(60, 200, dtype=torch.int64)
    labels[10:13, 100:105] = 1
    labels[0, 0] = 1  # a stray pixel moves the median by less than one
    labels[50, 190] = 3
    half = WINDOW // 2
    assert windows(labels, 3).tolist() == [[11 - half, 102 - half], [-half, -half], [50 - half, 190 - half]]
    assert windows(torch.zeros(4, 4, dtype=torch.int64), 2).tolist() == [[-half, -half]] * 2


def test_what_is_cut_is_the_image_and_the_filling_beyond_it():
    image = torch.arange(20 * 30).view(20, 30, 1).float()
    window = cut(image, torch.tensor([[5, 7], [-3, -4]]), fill=-1)
    assert window.shape == (2, WINDOW, WINDOW, 1)
    assert torch.equal(window[0, :15, :23], image[5:, 7:]) and (window[0, 15:] == -1).all() and (window[0, :, 23:] == -1).all()
    assert (window[1, :3] == -1).all() and torch.equal(window[1, 3:23, 4:34], image)


def test_inputs_say_what_the_votes_say():
    evidence = plane_with_two_parts()
    corners = windows(evidence.labels, 2)
    inputs, logits = refiner_inputs(evidence, corners)
    assert inputs.shape == (2, CHANNELS, WINDOW, WINDOW) and torch.isfinite(inputs).all()
    whose = cut(evidence.labels, corners, fill=-1)
    for k in range(2):
        own = whose[k] == k + 1
        assert (logits[k][own] - 3.0).abs().max() < 1e-3  # sure of the cluster, so the logit is that of being a part
        assert (logits[k][whose[k] == 2 - k] == -SURE).all() and (logits[k][whose[k] == -1] == -SURE).all()
        assert torch.equal(inputs[k, 3].bool(), own) and torch.equal(inputs[k, 4].bool(), whose[k] == 2 - k)
        assert torch.equal(inputs[k, 5].bool(), whose[k] >= 0)
        assert inputs[k, 8][own].abs().max() < 1e-4  # the part is a plane: nothing lies in front of it or behind
    with_color = evidence._replace(color=torch.full((120, 160, 3), 0.25))
    assert torch.equal(refiner_inputs(with_color, corners)[0][:, :CHANNELS], inputs)


def test_an_untaught_refiner_leaves_the_labels_as_they_are():
    evidence = plane_with_two_parts()
    refiner = Refiner(color=False).eval()
    corners = windows(evidence.labels, 2)
    inputs, logits = refiner_inputs(evidence, corners)
    assert not refiner.ready and not refiner(inputs).any() and not any(p.requires_grad for p in refiner.parameters())
    assert torch.equal(relabel(evidence.labels, corners, logits), evidence.labels)


def test_the_surest_cluster_gets_a_pixel():
    labels = torch.zeros(10, 300, dtype=torch.int64)
    labels[:, :20], labels[:, 200:] = 1, 2
    corners = torch.tensor([[-5, -5], [-5, 180]])
    logits = torch.full((2, WINDOW, WINDOW), -1.0)
    logits[0, 5:15, 15:35] = 2.0  # columns 10 to 29 of the image
    new = relabel(labels, corners, logits)
    assert (new[:, :10] == 0).all() and (new[:, 10:30] == 1).all() and (new[:, 30:200] == 0).all()
    end = 180 + WINDOW
    assert (new[:, 200:end] == 0).all() and (new[:, end:] == 2).all()  # beyond its window cluster 2 keeps what it had
    both = torch.full((2, WINDOW, WINDOW), 1.0)
    both[1, :, ::2] = 3.0
    new = relabel(labels, torch.tensor([[0, 0], [0, 0]]), both)
    assert (new[:, :WINDOW:2] == 2).all() and (new[:, 1:WINDOW:2] == 1).all()


@given(
    arrays(np.uint8, (30, 40), elements=st.integers(0, 3)),
    arrays(np.int64, (3, 2), elements=st.integers(-120, 60)),
    arrays(np.float32, (3, 4, 4), elements=st.floats(-4, 4, width=32)),
)
def test_every_pixel_goes_to_its_surest_cluster(labels, corners, coarse):
    logits = np.kron(coarse, np.ones((1, WINDOW // 4, WINDOW // 4), np.float32))
    new = relabel(torch.from_numpy(labels.astype(np.int64)), torch.from_numpy(corners), torch.from_numpy(logits)).numpy()
    for row, column in ((0, 0), (29, 39), (13, 21)):
        claims = {}
        for k, (top, left) in enumerate(corners, 1):
            if 0 <= row - top < WINDOW and 0 <= column - left < WINDOW:
                claims[k] = logits[k - 1, row - top, column - left]
        surest = max(claims, key=claims.get, default=0)
        before = int(labels[row, column])
        if surest and claims[surest] > 0:
            assert claims[new[row, column]] == claims[surest]
        else:
            assert new[row, column] == (0 if before in claims else before)


def test_the_loss_is_the_soft_iou_and_the_entropy_of_the_area():
    truth = torch.zeros(1, 20, 20)
    truth[0, :10] = 1
    logits = torch.full((1, 20, 20), -30.0)
    logits[0, 5:15] = 30.0  # 100 of 200 pixels hit, 100 beside them
    wrong = 30.0 * 200
    assert outline_loss(logits, truth).item() == pytest.approx(1 - 100 / 300 + wrong / (200 + ENTROPY_AREA), rel=1e-4)
    assert outline_loss(60 * truth - 30, truth).item() == pytest.approx(0, abs=1e-5)
    assert torch.autograd.gradcheck(lambda x: outline_loss(x, truth.double()), torch.randn(1, 20, 20, dtype=torch.float64, requires_grad=True))


def test_balance_looks_at_hidden_parts_always_and_at_others_in_proportion():
    visible = torch.tensor([0.1, 0.25, 0.5, 1.0, float("nan")])
    assert chance_of_a_look(visible, 1.0).tolist() == [1, 1, 0.5, 0.25, 1]
    assert chance_of_a_look(visible, 0.0).tolist() == [1, 1, 1, 1, 1]
    with pytest.raises(InputError, match="refiner.balance must be at least 0, got -1"):
        RefinerTraining(balance=-1)


@pytest.mark.parametrize("hidden", [0, 1])
def test_the_refiner_is_shown_the_hidden_part_of_a_sample(hidden):
    from types import SimpleNamespace

    evidence = plane_with_two_parts()
    segmenter = SimpleNamespace(device=torch.device("cpu"), first_look=lambda frame: SimpleNamespace(evidence=evidence))
    labels = 3 - evidence.labels.numpy().astype(np.uint16)  # part 2 on the left, cluster 1; part 1 on the right, cluster 2
    labels[80:] = 0
    visible = np.array([1.0, 1.0])
    visible[hidden] = 0.2
    depth = evidence.points[..., 2].numpy()
    sample = Sample(depth, np.eye(3), None, labels, np.zeros((2, 3)), np.zeros((2, 3, 3)), visible_fraction=visible)
    inputs, logits, truth = refiner_samples(segmenter, sample, balance=100.0)
    assert len(inputs) == len(logits) == 1
    corner = windows(evidence.labels, 2)[1 - hidden][None]
    assert torch.equal(truth, cut(torch.from_numpy(labels == hidden + 1), corner).float())
    assert len(refiner_samples(segmenter, sample)[0]) == 2


def test_main_parts_by_hand():
    truth = np.zeros((10, 40), int)
    truth[:, :10], truth[:, 20:30] = 1, 2
    labels = np.zeros_like(truth)
    labels[:, 3:10], labels[:, :3], labels[:, 28:38] = 1, 2, 3  # most of part 1, the rest of it, and too little of part 2
    assert main_parts(labels, truth, 4, 2).tolist() == [1, 0, 0, 0]
    assert main_parts(labels, np.zeros_like(truth), 4, 0).tolist() == [0, 0, 0, 0]


def test_a_refiner_learns_where_the_part_ends():
    """Votes end at column 70, the plane's true border is an edge of depth at column 64: the refiner has to see it."""
    evidence = plane_with_two_parts(width=130)
    points = evidence.points.clone()
    points[:, 64:, 2] += 0.02
    evidence = evidence._replace(points=points)
    corners = windows(evidence.labels, 2)
    inputs, logits = refiner_inputs(evidence, corners)
    columns = cut(torch.arange(130).expand(120, 130), corners, fill=-1)
    part = cut(evidence.part > 0, corners)
    truth = torch.stack([part[0] & (columns[0] < 64), part[1] & (columns[1] >= 64)]).float()
    torch.manual_seed(0)
    refiner = Refiner(color=False, width=8).requires_grad_(True)
    optimizer = torch.optim.Adam(refiner.parameters(), 1e-2)
    first = outline_loss(logits, truth).item()
    for _ in range(200):
        optimizer.zero_grad()
        loss = outline_loss(logits + refiner(inputs), truth)
        loss.backward()
        optimizer.step()
    assert loss.item() < first / 4
    new = relabel(evidence.labels, corners, (logits + refiner(inputs)).detach())
    assert (new[10:70, 30:62] == 1).float().mean() > 0.98 and (new[10:70, 68:110] == 2).float().mean() > 0.98


def test_windows_come_in_few_numbers_and_the_answer_is_theirs(monkeypatch):
    """Every number that oneDNN had not seen yet made a node that saw 3 to 20 parts grow by 4 % in 500 frames."""
    from test_clusternet import TINY

    from instseg_ros.methods.clusternet import segmenter as module

    monkeypatch.setattr(module, "half_precision", lambda device: torch.autocast("cpu", enabled=False))
    torch.manual_seed(0)
    network = ClusterNet(ClusterNetConfig(inputs=("xyz", "depth"), refined=True, **TINY))
    torch.nn.init.normal_(network.refiner.head.weight, std=20.0)
    segmenter = module.ClusterNetSegmenter(network, module.Thresholds(), torch.device("cpu"))
    evidence = plane_with_two_parts()
    seen = []
    network.refiner.register_forward_pre_hook(lambda refiner, inputs: seen.append(len(inputs[0])))
    refined = segmenter.refine(network.refiner, evidence)
    corners = windows(evidence.labels, 2)
    inputs, logits = refiner_inputs(evidence, corners)
    with torch.no_grad():
        alone = relabel(evidence.labels, corners, logits + network.refiner(inputs))
    assert seen == [module.BATCH, 2] and (refined == alone).float().mean() > 0.999 and (refined != evidence.labels).any()


def test_the_segmenter_refines_once_its_refiner_is_taught():
    from test_clusternet import TINY, K

    from instseg_ros.frame import Frame
    from instseg_ros.methods.clusternet.segmenter import ClusterNetSegmenter, Thresholds

    torch.manual_seed(0)
    config = ClusterNetConfig(inputs=("rgb", "xyz", "depth"), feature_stride=1, mask_stride=1, subpixel=True, refined=True, **TINY)
    network = ClusterNet(config)
    segmenter = ClusterNetSegmenter(network, Thresholds(min_pixels=5, mask=0.01), torch.device("cpu"))
    rng = np.random.default_rng(0)
    frame = Frame(rng.uniform(0.4, 0.6, (48, 64)).astype(np.float32), K, rng.integers(0, 256, (48, 64, 3), dtype=np.uint8))
    before = segmenter.find(frame)
    assert len(before.table["score"]) and before.labels.any()
    network.refiner.ready.fill_(1)
    network.refiner.head.bias.data.fill_(-100.0)  # says of every pixel that it is no part
    kept = (segmenter.find(frame).labels > 0).sum()  # beyond the windows of their clusters
    assert kept < 0.1 * (before.labels > 0).sum()
    network.refiner.head.bias.data.fill_(100.0)
    assert segmenter.find(frame).labels.all()
