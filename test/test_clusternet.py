"""ClusterNet: targets, losses, network and inference against the paper's equations by hand."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.ndimage import distance_transform_edt

from instseg_ros.errors import InputError
from instseg_ros.frame import Frame
from instseg_ros.geometry import deproject, label_moments, sqrt_covariance
from instseg_ros.methods.clusternet.encoders import max_pool
from instseg_ros.methods.clusternet.inputs import INPUT_CHANNELS, fill_depth, network_inputs
from instseg_ros.methods.clusternet.network import ClusterNet, ClusterNetConfig, Prediction, _fold, add_inputs
from instseg_ros.methods.clusternet.segmenter import ClusterNetSegmenter, Thresholds
from instseg_ros.methods.clusternet.turns import mean_over_turns
from instseg_ros.methods.turned_views import MIRROR, TURNS
from instseg_ros.training.augment import Sample, crop, drop_patches, mirror, recolor, turn
from instseg_ros.training.clusternet import LossConfig, clusternet_losses, total_loss
from instseg_ros.training.optimizer import learning_rate_factor
from instseg_ros.training.targets import center_candidates, feature_table, radius_table

K = np.array([[600.0, 0, 32], [0, 600.0, 24], [0, 0, 1]])
TINY = dict(
    bottleneck=False, blocks=(1, 1, 1, 1), widths=(4, 4, 8, 8), stem=4, stem_kernel=3, vgg_convs=(1, 1, 1, 1),
    vgg_widths=(4, 4, 8, 8), context=8, fused=8, rates=(1, 2), decoder=(8, 8, 4, 4),
)  # fmt: skip


def test_features_are_centroid_and_root_of_covariance_in_the_papers_order():
    covariance = np.array([[[4.0, 1, 0.5], [1, 3, 0.2], [0.5, 0.2, 2]]]) * 1e-4
    root = sqrt_covariance(covariance)[0]
    table = feature_table(np.array([[0.1, 0.2, 0.6]]), covariance, moments=True)
    expected = [0.1, 0.2, 0.6, root[0, 0], root[1, 1], root[2, 2], root[0, 1], root[1, 2], root[2, 0]]
    np.testing.assert_allclose(table[0], expected, rtol=1e-6)


def test_radius_is_half_the_distance_to_the_nearest_feature():
    features = np.array([[0.0, 0, 0.6], [0.03, 0, 0.6], [0, 0.1, 0.6]])
    covariance = np.repeat(np.eye(3)[None] * 1e-4, 3, 0)
    np.testing.assert_allclose(radius_table(features, covariance), [0.015, 0.015, 0.05], rtol=1e-6)
    np.testing.assert_allclose(radius_table(features[:1], covariance[:1]), [np.sqrt(3e-4)], rtol=1e-6)


def test_center_candidates_are_the_nearest_fifth():
    labels = np.zeros((48, 64), np.uint16)
    labels[20:29, 20:45] = 1  # 225 pixels around (32, 24)
    labels[0, :5] = 2  # its centroid is far away: the nearest pixel is the last one
    target = center_candidates(labels, np.array([[0, 0, 0.6], [0.2, 0, 0.6]]), K, fraction=0.2)
    rows, columns = np.nonzero(target & (labels == 1))
    assert len(rows) == 45
    inside = np.hypot(rows - 24, columns - 32).max()
    outside = np.hypot(*(np.argwhere((labels == 1) & ~target) - [24, 32]).T).min()
    assert inside <= outside
    assert np.argwhere(target & (labels == 2)).tolist() == [[0, 4]]


def flat_prediction(votes, moments=None, mask=None, center=None, radius=None):
    b, _, h, w = votes.shape
    two = torch.zeros(b, 2, h, w)
    return Prediction(votes, moments, two if mask is None else mask, two if center is None else center, torch.full((b, 1, h, w), 0.01) if radius is None else radius)


def test_losses_by_hand():
    # Two parts of two pixels and one of one pixel, one background pixel; points all zero, so votes are the features.
    labels = torch.tensor([[[1, 1, 2], [2, 3, 0]]])
    features = torch.tensor([[0.0, 0, 0], [0.03, 0, 0], [0, 0.05, 0]])
    radius = torch.tensor([0.015, 0.015, 0.025])
    votes = torch.zeros(1, 3, 2, 3)
    votes[0, 0] = torch.tensor([[0.001, -0.003, 0.03], [0.036, 0.0, 9.0]])
    votes[0, 1, 1, 1] = 0.05
    center = torch.tensor([[[1, 0, 1], [0, 1, 0]]])
    losses = clusternet_losses(
        flat_prediction(votes), labels, center, torch.zeros(1, 3, 2, 3), features, radius, violation_range=0.2
    )
    errors = [0.001, 0.003, 0.0, 0.006, 0.0]
    assert losses["feature"].item() == pytest.approx(np.mean(errors), abs=2e-6)
    # Part 1 spreads ±0.002 around its mean, part 2 ±0.003, part 3 not at all.
    assert losses["variance"].item() == pytest.approx((0.002 + 0.003 + 0) / 3, abs=2e-6)
    # λv B = 0.003 for the first two: only 0.006 violates (0.003 is not more than 0.003).
    assert losses["violation"].item() == pytest.approx(0.006 / 5, abs=1e-4 * 0.006 + 6.1e-4)
    assert losses["radius"].item() == pytest.approx(np.mean([0.005, 0.005, 0.005, 0.005, 0.015]), abs=1e-6)
    assert losses["semantic"].item() == pytest.approx(np.log(2), abs=1e-6)
    assert losses["center"].item() == pytest.approx(np.log(2), abs=1e-6)


@pytest.mark.parametrize(("balance", "expected"), [(0, (3 * 0.01 + 0.04) / 4), (1, (0.01 + 0.04) / 2)])
def test_balance_goes_from_pixels_to_parts(balance, expected):
    labels = torch.tensor([[[1, 1, 1, 2]]])
    votes = torch.zeros(1, 3, 1, 4)
    votes[0, 0, 0] = torch.tensor([0.01, 0.01, 0.01, 0.04])
    losses = clusternet_losses(
        flat_prediction(votes), labels, torch.zeros_like(labels), torch.zeros(1, 3, 1, 4), torch.zeros(2, 3), torch.ones(2), balance=balance
    )
    assert losses["feature"].item() == pytest.approx(expected, abs=1e-5)


def test_paper_weights_and_schedule():
    ones = {name: torch.tensor(1.0) for name in ("semantic", "center", "feature", "radius", "variance", "violation")}
    assert total_loss(ones, LossConfig(), 4).item() == 1 + 1 + 100 * (1 + 10) + 1 + 1
    assert total_loss(ones, LossConfig(), 5).item() == 1 + 1 + 100 * (1 + 10) + 100 + 100


def test_loss_gradients_are_right():
    torch.manual_seed(0)
    labels = torch.tensor([[[1, 1, 2, 0], [2, 2, 1, 0]]])
    features, radius = torch.randn(2, 9).double() * 0.02, torch.tensor([0.01, 0.02]).double()
    center = (labels == 2).long()

    def loss(votes, moments, mask, probability, sphere):
        parts = clusternet_losses(
            Prediction(votes, moments, mask, probability, sphere), labels, center, torch.zeros(1, 3, 2, 4).double(), features, radius, violation_range=0.2
        )
        return total_loss(parts, LossConfig(), 9)

    shapes = [3, 6, 2, 2, 1]
    inputs = [(torch.randn(1, c, 2, 4).double() * 0.1).requires_grad_() for c in shapes]
    value = loss(*inputs)
    value.backward()
    for x in inputs:  # central differences on the largest entry of each gradient
        i = int(x.grad.abs().argmax())
        delta = torch.zeros_like(x).view(-1)
        delta[i] = 1e-6
        delta = delta.view_as(x)
        arguments = [[y.detach() + s * (delta if y is x else 0) for y in inputs] for s in (1, -1)]
        numeric = (loss(*arguments[0]) - loss(*arguments[1])).item() / 2e-6
        assert x.grad.view(-1)[i].item() == pytest.approx(numeric, rel=1e-3)


def test_background_only_crop_has_a_finite_loss():
    prediction = flat_prediction(torch.randn(1, 3, 4, 4, requires_grad=True))
    parts = clusternet_losses(
        prediction, torch.zeros(1, 4, 4, dtype=torch.long), torch.zeros(1, 4, 4, dtype=torch.long), torch.zeros(1, 3, 4, 4),
        torch.zeros(0, 3), torch.zeros(0), violation_range=0.2,
    )  # fmt: skip
    total = total_loss(parts, LossConfig(), 9)
    total.backward()
    assert torch.isfinite(total)


def test_learning_rate_rises_stays_and_falls():
    factors = [learning_rate_factor(s, steps=100, warmup=10, decay=0.2) for s in (0, 9, 50, 80, 90, 100, 120)]
    assert factors == pytest.approx([0.1, 1, 1, 1, 0.5, 0, 0])
    assert learning_rate_factor(7, steps=100, warmup=0, decay=0.0) == 1


@pytest.mark.parametrize("inputs", [["rgb"], ["rgb", "depth"], ["rgb", "xyz"], ["rgb", "xyz", "depth"], ["xyz", "depth"], ["depth"]])
@pytest.mark.parametrize("moments", [False, True])
def test_every_subset_of_inputs_gives_full_size_heads(inputs, moments):
    network = ClusterNet(ClusterNetConfig(inputs=tuple(inputs), moments=moments, detail_skips=moments, **TINY)).eval()
    images = {n: torch.randn(1, {"rgb": 3, "xyz": 4, "depth": 3}[n], 64, 96) for n in inputs}
    out = network(images)
    assert out.votes.shape == (1, 3, 64, 96) and out.mask.shape == (1, 2, 64, 96)
    assert out.center.shape == (1, 2, 64, 96) and out.radius.shape == (1, 1, 64, 96) and (out.radius > 0).all()
    assert (out.moments is None) != moments


@pytest.mark.parametrize("skips", [False, True])
def test_subpixel_heads_are_full_size_and_every_pixel_has_its_own_weights(skips):
    config = ClusterNetConfig(inputs=("xyz", "depth"), feature_stride=1, mask_stride=2, subpixel=True, detail_skips=skips, **TINY)
    network = ClusterNet(config).eval()
    images = {"xyz": torch.randn(1, 4, 64, 96), "depth": torch.randn(1, 3, 64, 96)}
    with torch.no_grad():
        before = network(images, upsample=False).votes
        assert before.shape == (1, 3, 64, 96)
        network.feature_head.bias[1] += 1.0  # channel 0 of the pixel right of each cell's first
        change = network(images, upsample=False).votes - before
    expected = torch.zeros(1, 3, 64, 96)
    expected[:, 0, 0::2, 1::2] = config.metres
    torch.testing.assert_close(change, expected, atol=1e-6, rtol=0)


def test_paper_configuration_has_the_papers_sizes():
    with torch.device("meta"):
        network = ClusterNet(ClusterNetConfig())
    images = {n: torch.zeros(1, c, 480, 640, device="meta") for n, c in (("rgb", 3), ("xyz", 4), ("depth", 3))}
    with torch.no_grad():
        stem, c1, c4 = network.resnets["rgb"](images["rgb"])
        out = network.eval()(images)
    assert c4.shape[1:] == (2048, 15, 20) and c1.shape[1] == 256
    assert network.fuse_c1(torch.cat([c1, c1], 1)).shape[-2:] == (60, 80)  # H/8
    assert out.votes.shape[-2:] == (480, 640)


def test_unknown_input_is_named():
    with pytest.raises(InputError, match="thermal"):
        ClusterNetConfig(inputs=("thermal",))


@pytest.mark.parametrize("kind", [torch.float32, torch.bfloat16], ids=str)
def test_folding_moves_values_and_changes_none(kind):
    x = torch.randn(2, 3, 6, 8).to(kind).contiguous(memory_format=torch.channels_last)
    folded = _fold(x)
    assert torch.equal(folded, torch.nn.functional.pixel_unshuffle(x, 2)) and folded.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("kind", [torch.float32, torch.bfloat16], ids=str)
def test_pooling_takes_the_largest_of_four(kind):
    x = torch.randn(2, 3, 6, 8).to(kind).contiguous(memory_format=torch.channels_last)
    smaller = max_pool(x)
    assert torch.equal(smaller, torch.nn.functional.max_pool2d(x, 2)) and smaller.is_contiguous(memory_format=torch.channels_last)


def test_holes_take_the_nearest_reading():
    depth = np.full((5, 7), np.nan, np.float32)
    depth[2, 1], depth[2, 5] = 0.5, 0.7
    filled, valid = fill_depth(depth)
    assert valid.sum() == 2 and filled[0, 0] == 0.5 and filled[4, 6] == 0.7
    assert not fill_depth(np.full((3, 3), np.nan, np.float32))[1].any()


@given(arrays(bool, st.tuples(st.integers(1, 12), st.integers(1, 12))))
def test_every_hole_takes_one_of_the_readings_that_are_nearest(valid):
    depth = np.where(valid, np.arange(1, valid.size + 1).reshape(valid.shape), np.nan).astype(np.float32)  # each says where it was read
    filled, known = fill_depth(depth)
    assert np.array_equal(known, valid)
    if not valid.any():
        assert (filled == 0).all()
        return
    assert np.array_equal(filled[valid], depth[valid])
    place = np.stack(np.divmod(filled.astype(int) - 1, valid.shape[1]), -1)
    assert valid[place[..., 0], place[..., 1]].all()
    taken = np.linalg.norm(place - np.stack(np.indices(valid.shape), -1), axis=-1)
    assert (taken <= 1.1 * distance_transform_edt(~valid) + 1e-6).all()  # OpenCV's mask measures to a few per cent


def test_inputs_carry_validity_and_metres():
    depth = np.full((48, 64), 0.6, np.float32)
    depth[:, 40:] = 0.5
    depth[0, 0] = np.nan
    images, points = network_inputs(depth, K, None, ["xyz", "depth"])
    assert images["xyz"].shape == (48, 64, 4) and images["depth"].shape == (48, 64, 3)
    assert images["xyz"][0, 0, 3] == 0 == images["depth"][0, 0, 2] and images["xyz"][1, 1, 3] == 1
    assert images["xyz"][24, 50, 2] == pytest.approx(-1.0, abs=1e-5)  # 0.1 m nearer than the median
    assert images["depth"][24, 40, 1] < -1  # stands out against its surroundings
    np.testing.assert_allclose(points, deproject(fill_depth(depth)[0], K))


def scene():
    """Two plates over a table, seen head-on."""
    labels = np.zeros((96, 128), np.uint16)
    labels[20:60, 20:50], labels[40:80, 70:110] = 1, 2
    depth = np.full(labels.shape, 0.6, np.float32)
    depth[labels == 1], depth[labels == 2] = 0.55, 0.5
    camera = np.array([[600.0, 0, 64], [0, 600.0, 48], [0, 0, 1]])
    centroid, covariance, _ = label_moments(labels, deproject(depth, camera), 2)
    return Sample(depth, camera, np.zeros((*labels.shape, 3), np.uint8), labels, centroid, covariance)


@pytest.mark.parametrize("change", [lambda s: turn(s, 1), lambda s: turn(s, 2), lambda s: turn(s, 3), mirror, lambda s: crop(s, 96, np.random.default_rng(0))])
def test_augmentation_keeps_depth_labels_and_moments_consistent(change):
    moved = change(scene())
    centroid, covariance, count = label_moments(moved.labels, deproject(np.ascontiguousarray(moved.depth), moved.K), 2)
    whole = count == [1200, 1600]
    assert whole.any()
    np.testing.assert_allclose(centroid[whole], moved.centroid[whole], atol=1e-6)
    np.testing.assert_allclose(covariance[whole], moved.covariance[whole], atol=1e-9)


def test_windows_are_around_parts_or_anywhere():
    before, rng = scene(), np.random.default_rng(0)
    around = [crop(before, 16, rng).labels.any() for _ in range(40)]
    anywhere = [crop(before, 16, rng, anywhere=1.0).labels.any() for _ in range(40)]
    assert np.mean(around) > 0.95 > 0.8 > np.mean(anywhere) > 0.2


def test_four_turns_are_the_identity_and_a_turn_keeps_handedness():
    before = after = scene()
    for _ in range(4):
        after = turn(after, 1)
    np.testing.assert_array_equal(before.labels, after.labels)
    np.testing.assert_allclose(before.K, after.K)
    assert np.linalg.det(TURNS[1].motion) == 1 and np.linalg.det(MIRROR.motion) == -1


def test_patches_only_remove_readings():
    before = scene()
    after = drop_patches(before, np.random.default_rng(3), count=8, largest=20)
    gone = np.isnan(after.depth)
    assert 0 < gone.mean() < 0.5
    np.testing.assert_array_equal(after.depth[~gone], before.depth[~gone])


def test_recoloring_changes_colour_alone_and_0_nothing():
    before = replace(scene(), color=np.random.default_rng(0).integers(0, 256, (*scene().labels.shape, 3), dtype=np.uint8))
    after = recolor(before, np.random.default_rng(1), 0.2)
    assert after.color.dtype == np.uint8 and (after.color != before.color).mean() > 0.5
    np.testing.assert_array_equal(after.depth, before.depth)
    assert recolor(before, np.random.default_rng(1), 0.0) is before and recolor(replace(before, color=None), np.random.default_rng(1), 0.2).color is None
    # Without noise it is one curve a channel: what was brighter stays brighter.
    ramp = replace(before, color=np.repeat(np.arange(256, dtype=np.uint8)[:, None, None], 3, 2))
    many = np.mean([recolor(ramp, np.random.default_rng(seed), 0.2).color for seed in range(60)], 0)
    assert (np.diff(many[::16, 0], axis=0) > 0).all()


@pytest.mark.parametrize("subpixel", [True, False])
@pytest.mark.parametrize(("fewer", "more"), [(["xyz", "depth"], ["rgb", "xyz", "depth"]), (["xyz"], ["rgb", "xyz"]), (["depth"], ["xyz", "depth"])])
def test_a_network_with_an_input_added_begins_with_the_same_answers(subpixel, fewer, more):
    torch.manual_seed(0)
    options = dict(TINY, detail_skips=True, subpixel=subpixel, mask_stride=2)
    old, new = (ClusterNet(ClusterNetConfig(inputs=inputs, **options)).eval() for inputs in (fewer, more))
    shapes = {name: value.shape for name, value in new.state_dict().items()}
    adopted = {name: value for name, value in add_inputs(new, old.state_dict()).items() if shapes[name] == value.shape}
    assert adopted.keys() == old.state_dict().keys()
    new.load_state_dict(adopted, strict=False)
    images = {name: torch.randn(1, channels, 64, 64) for name, channels in INPUT_CHANNELS.items()}
    with torch.no_grad():
        before, after = (network({name: images[name] for name in network.config.inputs}) for network in (old, new))
    for name in ("votes", "moments", "mask", "center"):
        torch.testing.assert_close(getattr(after, name), getattr(before, name), msg=name)


def perfect_prediction(sample, stride):
    """What a network without error would say for ``sample``."""
    part = sample.labels > 0
    points = deproject(sample.depth, sample.K)
    table = feature_table(sample.centroid, sample.covariance, moments=True)
    xi = np.zeros((*part.shape, 9), np.float32)
    xi[part] = table[sample.labels[part].astype(int) - 1]
    xi[..., :3] -= points * part[..., None]
    center = center_candidates(sample.labels, sample.centroid, sample.K)
    radius = np.zeros(part.shape, np.float32)
    radius[part] = radius_table(table, sample.covariance)[sample.labels[part].astype(int) - 1]

    def image(x):
        x = torch.from_numpy(np.ascontiguousarray(x)).float()
        x = (x[..., None] if x.ndim == 2 else x).permute(2, 0, 1)[None]
        return x[..., stride // 2 :: stride, stride // 2 :: stride]

    def logits(x):
        x = image(x * 20.0 - 10)
        return torch.cat([-x, x], 1)

    features = image(xi)
    return Prediction(features[:, :3], features[:, 3:], logits(part.astype(np.float32)), logits(center.astype(np.float32)), image(radius))


@pytest.mark.parametrize("features", ["centroid", "centroid+covariance"])
@pytest.mark.parametrize("stride", [1, 2])
def test_a_perfect_network_gives_the_true_answer(features, stride, monkeypatch):
    sample = scene()
    network = ClusterNet(ClusterNetConfig(inputs=("xyz", "depth"), feature_stride=stride, mask_stride=stride, **TINY))
    segmenter = ClusterNetSegmenter(network, Thresholds(features=features), torch.device("cpu"))
    monkeypatch.setattr(network, "forward", lambda images, upsample: perfect_prediction(sample, stride))
    answer = segmenter.segment(Frame(sample.depth, sample.K))
    assert len(answer) == 2
    for truth in (1, 2):
        found = np.bincount(answer.labels[sample.labels == truth]).argmax()
        union = ((answer.labels == found) | (sample.labels == truth)).sum()
        assert ((answer.labels == found) & (sample.labels == truth)).sum() / union > (0.999 if stride == 1 else 0.9)
        np.testing.assert_allclose(answer.centroid[found - 1], sample.centroid[truth - 1], atol=1e-3 if stride == 1 else 3e-3)
        if stride == 1:
            np.testing.assert_allclose(answer.covariance[found - 1], sample.covariance[truth - 1], rtol=1e-3, atol=1e-8)
    assert answer.depth_order[answer.labels[60, 90] - 1] == 0  # the plate at 0.5 m is on top
    assert (answer.score > 0.7).all() and np.isnan(answer.visible_fraction).all()


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("shape", [(48, 64), (50, 70), (33, 97)])
def test_any_image_size_and_no_reading_at_all(shape, stride):
    network = ClusterNet(ClusterNetConfig(inputs=("xyz", "depth"), feature_stride=stride, mask_stride=2, subpixel=True, **TINY))
    segmenter = ClusterNetSegmenter(network, Thresholds(min_pixels=5, majority=3), torch.device("cpu"))
    depth = np.random.default_rng(0).uniform(0.4, 0.6, shape).astype(np.float32)
    assert segmenter.segment(Frame(depth, K)).labels.shape == shape
    first, second = (segmenter.segment(Frame(depth, K)).labels for _ in range(2))
    np.testing.assert_array_equal(first, second)
    assert len(segmenter.segment(Frame(np.full(shape, np.nan, np.float32), K))) == 0


def test_colour_model_without_colour_says_so():
    segmenter = ClusterNetSegmenter(ClusterNet(ClusterNetConfig(inputs=("rgb",), moments=False, **TINY)), Thresholds(features="centroid"), torch.device("cpu"))
    with pytest.raises(InputError, match="color/image"):
        segmenter.segment(Frame(np.ones((64, 64), np.float32), K))


@pytest.mark.parametrize(("turns", "sizes"), [(1, [(96, 128)]), (2, [(96, 128)] * 2), (4, [(96, 128), (128, 96)] * 2)])
def test_turns_of_the_camera_are_undone(turns, sizes):
    sample = scene()
    frame = Frame(sample.depth[:90, :122].copy(), sample.K)  # no multiples of 32
    goal, covariance = np.array([0.01, -0.02, 0.6]), np.array([[4.0, 1, 0.5], [1, 3, 0.2], [0.5, 0.2, 2]]) * 1e-4
    seen = []

    def predict(view):
        """A network without error that sees one part, in the axes of the camera as it is rolled."""
        motion = TURNS[len(seen) * 4 // turns].motion
        seen.append(view.depth.shape)
        six = feature_table(np.zeros((1, 3)), (motion @ covariance @ motion.T)[None], moments=True)[0, 3:]
        votes = motion @ goal - deproject(view.depth, view.K)
        images = [votes, np.broadcast_to(six, (*view.depth.shape, 6)), view.depth[..., None]]
        votes, six, depth = (torch.from_numpy(x.astype(np.float32)).permute(2, 0, 1)[None] for x in images)
        return Prediction(votes, six, depth, depth, depth)

    mean = mean_over_turns(predict, frame, turns)
    assert seen == sizes
    centroid = mean.votes[0].permute(1, 2, 0).numpy()[:90, :122] + deproject(frame.depth, frame.K)
    np.testing.assert_allclose(centroid, np.broadcast_to(goal, centroid.shape), atol=1e-6)
    six = feature_table(np.zeros((1, 3)), covariance[None], moments=True)[0, 3:]
    np.testing.assert_allclose(mean.moments[0, :, 7, 9].numpy(), six, atol=1e-7)
    np.testing.assert_array_equal(mean.mask[0, 0, :90, :122].numpy(), frame.depth)


@pytest.mark.parametrize("window", [0, 2, 13, 3.5])
def test_majority_window_is_odd_and_small(window):
    with pytest.raises(InputError, match="odd number from 1 to 11"):
        Thresholds(majority=window)


def test_turns_are_one_two_or_four():
    with pytest.raises(InputError, match="1, 2 or 4, got 3"):
        Thresholds(turns=3)


def test_thresholds_refuse_unknown_keys():
    with pytest.raises(InputError, match="colour"):
        Thresholds.from_dict({"colour": 1})
    with pytest.raises(InputError, match="mean"):
        replace(Thresholds(), features="mean")
