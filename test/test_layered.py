"""Layered Embeddings: network, stacks, mean shift, segmenter, and the paper's protocol."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from instseg_ros.cli import main
from instseg_ros.clustering.mean_shift import mean_shift
from instseg_ros.errors import InputError
from instseg_ros.evaluation.layered_pictures import layered_picture
from instseg_ros.evaluation.protocol import hidden_class
from instseg_ros.evaluation.shapes import ShapesEvaluation, ceiling, drawn_image, evaluate_shapes
from instseg_ros.frame import Frame
from instseg_ros.methods import load_segmenter, write_model
from instseg_ros.methods.layered.network import LayeredConfig, LayeredEmbeddings, Prediction
from instseg_ros.methods.layered.segmenter import Clusters, LayeredSegmenter, Thresholds, answer, typical_area
from instseg_ros.methods.layered.stack import amodal_pixels, compact, enlarge, stack_order, without_hidden
from instseg_ros.synthesis.shapes import SHAPES, ShapesRecipe

TINY = LayeredConfig(
    classes=tuple(SHAPES), layers=4, backbone="small", width=8, blocks=(1, 1, 1), rates=(1,), context=8, skip=8, eighth=8,
    decoder=8, head=(8,), joint_heads=True, position=4.0,
)  # fmt: skip
K = np.array([[256.0, 0, 127.5], [0, 256.0, 127.5], [0, 0, 1.0]])

stacks = arrays(np.uint16, (3, 6, 7), elements=st.integers(0, 5))


# --- network


def parameters(network: torch.nn.Module) -> float:
    """In millions."""
    return sum(p.numel() for p in network.parameters()) / 1e6


@pytest.mark.parametrize("layers", [2, 4])
@pytest.mark.parametrize("backbone", ["small", "xception"])
def test_heads_have_a_layer_each_at_a_quarter_of_the_size(layers, backbone):
    config = dataclasses.replace(TINY, layers=layers, backbone=backbone, joint_heads=backbone == "small", embedding=5)
    with torch.device("meta"):
        output = LayeredEmbeddings(config)({"rgb": torch.zeros(2, 3, 64, 96)})
    assert output.semantic.shape == (2, layers, 4, 16, 24) and output.embedding.shape == (2, layers, 5, 16, 24)


def test_the_papers_network_is_deeplab_sized():
    with torch.device("meta"):
        paper = LayeredEmbeddings(LayeredConfig(classes=tuple(SHAPES)))
        small = LayeredEmbeddings(dataclasses.replace(TINY, width=32, context=64, eighth=96, decoder=64))
    # Xception-65 with DeepLabv3+'s decoder: 41 M (Chen et al. 2018); four heads of 256, 256, 128: 1.5 M each.
    assert parameters(paper.features) == pytest.approx(41, rel=0.15)
    assert parameters(paper.heads) == pytest.approx(4 * 1.48, rel=0.02)
    assert parameters(small) < 2


def test_position_is_added_to_two_channels_alike_along_rows_and_columns():
    network = LayeredEmbeddings(TINY).eval()
    for head in network.heads:
        torch.nn.init.zeros_(head[-1].weight)
    embedding = network({"rgb": torch.zeros(1, 3, 32, 64)}).embedding[0]
    step = 4.0 / 16
    assert torch.allclose(embedding[:, 0].diff(dim=2), torch.tensor(step)) and torch.allclose(embedding[:, 1].diff(dim=1), torch.tensor(step))
    assert embedding[:, 2:].abs().max() == 0 and embedding.mean().abs() < 1e-6


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"inputs": ("thermal",)}, "thermal"),
        ({"backbone": "vgg"}, "'vgg'"),
        ({"classes": ("a", "a")}, "each once"),
        ({"layers": 0}, "layers must be at least 1, got 0"),
        ({"embedding": 1, "position": 3.0}, "set position to 0"),
        ({"blocks": (1, 2)}, "blocks must be three"),
    ],
)
def test_bad_network_is_named(change, message):
    with pytest.raises(InputError, match=message):
        dataclasses.replace(TINY, **change)


# --- mean shift


def blobs(rng: np.random.Generator, centres: np.ndarray, count: int, spread: float) -> tuple[torch.Tensor, np.ndarray]:
    truth = np.repeat(np.arange(len(centres)), count)
    points = centres[truth] + rng.uniform(-spread, spread, (len(truth), centres.shape[1]))
    shuffled = rng.permutation(len(truth))
    return torch.tensor(points[shuffled], dtype=torch.float32), truth[shuffled]


@given(st.integers(0, 1000), st.integers(1, 6), st.integers(2, 8))
def test_mean_shift_finds_separate_groups_exactly(seed, groups, dims):
    rng = np.random.default_rng(seed)
    centres = rng.permutation(groups)[:, None] * 4.0 + np.zeros((groups, dims))  # at least 4 · dims apart, L1
    points, truth = blobs(rng, centres, 30, 0.7 / dims)
    labels, modes = mean_shift(points, bandwidth=1.5, min_points=5)
    assert len(modes) == groups
    pairs = {(int(a), int(b)) for a, b in zip(labels, truth)}
    assert len(pairs) == groups, "one cluster a group"
    for found, group in pairs:
        assert torch.allclose(modes[found], points[torch.from_numpy(truth == group)].mean(0), atol=1e-4)


def test_mean_shift_repeats_drops_small_groups_and_leaves_strays():
    rng = np.random.default_rng(0)
    points, truth = blobs(rng, np.array([[0.0, 0, 0], [10, 0, 0]]), 40, 0.2)
    points = torch.cat([points, torch.tensor([[50.0, 0, 0]] * 4), torch.tensor([[2.9, 0, 0]])])
    labels, modes = mean_shift(points, bandwidth=1.5, min_points=5)
    again, _ = mean_shift(points, bandwidth=1.5, min_points=5)
    assert torch.equal(labels, again) and len(modes) == 2
    assert labels[80:84].tolist() == [-1] * 4, "four points are too few"
    assert labels[84] == labels[int(np.flatnonzero(truth == 0)[0])], "a stray within reach belongs to the nearest"
    assert mean_shift(points[:0], bandwidth=1.5)[0].shape == (0,)
    assert mean_shift(points[:3], bandwidth=1.5, min_points=5)[0].tolist() == [-1] * 3


def test_mean_shift_of_many_points_looks_for_modes_in_a_sample():
    points, truth = blobs(np.random.default_rng(1), np.eye(4) * 6, 5000, 0.3)
    labels, modes = mean_shift(points, bandwidth=1.5, min_points=5, sample=500)
    assert len(modes) == 4 and len({(int(a), int(b)) for a, b in zip(labels, truth)}) == 4


def test_mean_shift_measures_by_the_norm_asked_for():
    """1.2 apart in each of two coordinates: beyond 2 by L1, within 2 by L2."""
    points = torch.tensor([[0.0, 0.0]] * 6 + [[1.2, 1.2]] * 6)
    assert [len(mean_shift(points, bandwidth=2.0, norm=norm)[1]) for norm in (1, 2)] == [2, 1]


# --- stacks


@given(stacks)
def test_compact_stacks_hold_the_same_instances_once_and_without_holes(stack):
    result = compact(stack)
    for column, old in zip(result.reshape(3, -1).T, stack.reshape(3, -1).T):
        behind = [k for k in dict.fromkeys(old[1:]) if k and k != old[0]]
        assert column.tolist() == [old[0], *behind] + [0] * (2 - len(behind)), "nothing comes out from behind a wall"


@given(stacks)
def test_what_is_nowhere_in_front_leaves_and_the_rest_moves_up(stack):
    result, seen = without_hidden(stack), set(np.unique(stack[0]))
    for column, old in zip(result.reshape(3, -1).T, stack.reshape(3, -1).T):
        kept = [k for k in old if k in seen or k == 0]
        assert column.tolist() == kept + [0] * (3 - len(kept))


@pytest.mark.parametrize("count", [3, 9])
def test_order_of_drawn_shapes_is_read_from_their_stack(count):
    record = ShapesRecipe(1, count, seed=2).draw(0)
    n = len(record.masks)
    rank = stack_order(record.layers, n)
    assert sorted(rank) == list(range(n))
    for a in range(n):
        for b in range(n):
            if (record.masks[a] & record.masks[b]).any():
                assert (rank[a] < rank[b]) == (record.depth_order[a] < record.depth_order[b])
    assert np.array_equal(amodal_pixels(record.layers, n), record.masks.sum((1, 2)))


def test_what_the_stack_leaves_open_is_ordered_by_other_means():
    stack = np.array([[[1, 2, 3, 4, 4]], [[0, 0, 4, 0, 3]]], np.uint16)  # 3 and 4 contradict each other, 1 and 2 touch nothing
    assert stack_order(stack, 4).tolist() == [0, 1, 2, 3]
    assert stack_order(stack, 4, prior=np.array([3, 1, 2, 0])).tolist() == [3, 1, 2, 0]
    stack[1, 0, 4] = 0  # now 3 lies on 4
    assert stack_order(stack, 4, prior=np.array([3, 1, 2, 0])).tolist() == [3, 0, 1, 2]


@given(arrays(np.uint16, (5, 6), elements=st.integers(0, 3)))
def test_enlarged_labels_keep_every_cell_at_its_middle(labels):
    large = enlarge(labels, 4)
    assert large.shape == (20, 24)
    for start in (1, 2):
        assert np.array_equal(large[start::4, start::4], labels)


def test_enlarging_rounds_corners_but_keeps_straight_borders():
    labels = np.zeros((8, 8), np.uint16)
    labels[2:6, 2:6] = 1
    large = enlarge(labels, 4)
    assert large[8:24, 16].all() and not large[:8].any() and large[8, 8] == 0


# --- segmenter


@pytest.mark.parametrize("temperature", [0.0, 0.3])
def test_perfect_predictions_give_the_true_instances(temperature):
    """Class scores and embeddings as the labels say: every layer, order and visible fraction comes back."""
    record = ShapesRecipe(1, 3, seed=4).draw(0)
    cells = without_hidden(record.layers[:, 2::4, 2::4].astype(np.int64))[:4]
    kind = np.append(0, record.object_id)[cells]
    semantic = torch.nn.functional.one_hot(torch.from_numpy(kind), 4).float().permute(0, 3, 1, 2)[None] * 20
    # Instances of a class are 4 apart; those of different classes may share a place.
    place = np.append(0, [np.flatnonzero(np.flatnonzero(record.object_id == k) == i)[0] for i, k in enumerate(record.object_id)])
    embedding = torch.zeros(1, 4, 6, *cells.shape[1:])
    embedding[0, :, 2] = torch.from_numpy(place[cells] * 4.0)
    segmenter = LayeredSegmenter(LayeredEmbeddings(TINY), Thresholds(area=0, temperature=temperature), torch.device("cpu"))
    frame = Frame(record.depth, record.K, record.color)
    found = answer(frame, segmenter.cluster(Prediction(semantic, embedding)), Thresholds())
    present = [i for i in np.unique(cells[0]) if i and (cells == i).sum() >= 5]
    assert len(found) == len(present)
    matched = {}
    for i in present:
        labels = found.layers[:, 2::4, 2::4][cells == i]
        assert len(set(labels)) == 1 and labels[0]
        matched[i] = labels[0]
    assert len(set(matched.values())) == len(present)
    for i, label in matched.items():
        visible = (cells[0] == i).sum() / (cells == i).sum()
        assert found.visible_fraction[label - 1] == pytest.approx(visible, abs=0.05)
    assert found.score.min() > 0.99


@pytest.mark.parametrize(("temperature", "count"), [(0.0, 3), (0.3, 2)])
def test_what_is_vague_deep_below_makes_no_instance_of_its_own(temperature, count):
    """Two instances in the first two layers; in the third the network cannot tell which of them, and says something between."""
    semantic, embedding = torch.zeros(1, 3, 4, 8, 8), torch.zeros(1, 3, 6, 8, 8)
    semantic[:, :, 1] = 9.0
    embedding[0, :, 0] = torch.tensor([0.0, 8.0, 4.0])[:, None, None]
    segmenter = LayeredSegmenter(LayeredEmbeddings(TINY), Thresholds(temperature=temperature), torch.device("cpu"))
    found = segmenter.cluster(Prediction(semantic, embedding))
    assert len(found.score) == count
    assert len(np.unique(found.stack[:2])) == 2 and (found.stack[2] == (0 if temperature else 3)).all()


def test_fragments_score_below_whole_instances():
    """Five squares of 16 cells, one of 4, as sure as each other; the class that is rare has its own measure."""
    kind = np.zeros((1, 8, 32), np.int64)
    place = np.zeros((1, 8, 32))
    for i in range(6):
        side = 4 if i < 5 else 2
        kind[0, :side, 5 * i : 5 * i + side] = 1
        place[0, :side, 5 * i : 5 * i + side] = 9 * i
    kind[0, 6:, 8:12], place[0, 6:, 8:12] = 2, 5
    semantic = torch.nn.functional.one_hot(torch.from_numpy(kind), 4).float().permute(0, 3, 1, 2)[None] * 3
    embedding = torch.zeros(1, 1, 6, 8, 32)
    embedding[0, :, 0] = torch.from_numpy(place)
    sure = np.exp(3) / (np.exp(3) + 3)
    for area, fragment in ((0.0, 1.0), (0.5, 0.5), (1.0, 0.25)):
        segmenter = LayeredSegmenter(LayeredEmbeddings(TINY), Thresholds(area=area, min_cells=1), torch.device("cpu"))
        found = segmenter.cluster(Prediction(semantic, embedding))
        cells = np.bincount(found.stack.ravel())[1:]
        expected = {16: 1.0, 4: fragment}
        assert sorted(cells[found.kind == 1]) == [4, 16, 16, 16, 16, 16] and cells[found.kind == 2] == [8]
        for count, k, score in zip(cells, found.kind, found.score):
            assert score == pytest.approx(sure * (expected[count] if k == 1 else 1.0), rel=1e-5)


@given(st.lists(st.tuples(st.integers(0, 500), st.integers(1, 3)), max_size=30))
def test_typical_area_grows_with_the_area_within_a_class(pairs):
    cells, kind = np.array([p[0] for p in pairs], np.int64), np.array([p[1] for p in pairs], np.int64)
    share = typical_area(cells, kind)
    assert share.shape == cells.shape and ((share >= 0) & (share <= 1)).all()
    for k in set(kind.tolist()):
        order = np.argsort(cells[kind == k])
        assert (np.diff(share[kind == k][order]) >= 0).all()


def test_position_grows_by_pixels_where_a_length_is_given():
    torch.manual_seed(0)
    network = LayeredEmbeddings(dataclasses.replace(TINY, position=8.0, position_side=64)).eval()
    for head in network.heads:
        torch.nn.init.zeros_(head[-1].weight)
    for size in (32, 96):
        embedding = network({"rgb": torch.zeros(1, 3, size, 2 * size)}).embedding[0]
        assert torch.allclose(embedding[:, 0].diff(dim=2), torch.tensor(8.0 / 16))


def test_centroids_of_amodal_masks_lie_on_the_sheet():
    stack = np.zeros((2, 4, 4), np.uint16)
    stack[0, :, :2], stack[0, :, 2:] = 1, 2
    stack[1, :, 2] = 1  # the first goes on beneath the second
    clusters = Clusters(stack, np.array([0.9, 0.8], np.float32), np.array([1, 1]))
    depth = np.full((16, 16), 2.0, np.float32)
    depth[:, 8:] = 1.0
    camera = np.array([[16.0, 0, 7.5], [0, 16.0, 7.5], [0, 0, 1.0]])
    found = answer(Frame(depth, camera), clusters, Thresholds())
    assert found.depth_order.tolist() == [1, 0]
    # Columns 0 to 11 at 2 m: the hidden ones are taken to be as deep as the visible ones.
    assert found.centroid[0] == pytest.approx([(5.5 - 7.5) / 16 * 2, 0, 2], abs=1e-5)
    assert found.covariance[0, 0, 0] == pytest.approx(np.var(np.arange(12) / 16 * 2), rel=1e-4)
    assert found.centroid[1] == pytest.approx([(11.5 - 7.5) / 16, 0, 1], abs=1e-5)
    assert found.visible_fraction.tolist() == pytest.approx([2 / 3, 1])
    blind = answer(Frame(np.full_like(depth, np.nan), camera), clusters, Thresholds())
    assert np.isnan(blind.centroid).all() and np.array_equal(blind.layers, found.layers)


@pytest.mark.parametrize("size", [(64, 96), (50, 70)])
def test_model_directory_to_answer_at_any_size(tmp_path, size):
    torch.manual_seed(0)
    config = dataclasses.asdict(TINY) | {"classes": list(SHAPES), "inputs": ["rgb"], "blocks": [1, 1, 1], "rates": [1], "head": [8]}
    write_model(
        tmp_path / "m",
        config={"method": "layered", "network": config, "input": {}, "thresholds": {"bandwidth": 5.0}, "amodal": True},
        weights=LayeredEmbeddings(TINY).state_dict(), card="",
    )  # fmt: skip
    segmenter = load_segmenter(tmp_path / "m", "cpu")
    color = np.random.default_rng(0).integers(0, 255, (*size, 3), np.uint8)
    frame = Frame(np.full(size, np.nan, np.float32), K, color)
    first, again = segmenter.segment(frame), segmenter.segment(frame)
    assert segmenter.needs_color and first.layers.shape[1:] == size and np.array_equal(first.layers, again.layers)
    with pytest.raises(InputError, match="needs colour"):
        segmenter.segment(Frame(np.ones(size, np.float32), K))


def test_picture_shows_every_layer_of_truth_and_answer():
    frame, truth = drawn_image(2, 0)
    picture = layered_picture(LayeredSegmenter(LayeredEmbeddings(TINY), Thresholds(), torch.device("cpu")), frame, truth)
    assert picture.shape == (4 * 256, 5 * 256, 3)
    assert np.array_equal(picture[:256, :256], frame.color)
    for layer in range(4):
        shown = (picture[1:255, 256 * (layer + 1) + 1 : 256 * (layer + 2) - 1] != 255).any(2)
        assert np.array_equal(shown, truth[layer, 1:-1, 1:-1] > 0)


def test_unknown_threshold_is_named():
    with pytest.raises(InputError, match="'bandwith', known are bandwidth"):
        Thresholds.from_dict({"bandwith": 1.0})
    with pytest.raises(InputError, match="bandwidth must be positive"):
        Thresholds(bandwidth=0.0)
    with pytest.raises(InputError, match="area must be 0 or more, got -1"):
        Thresholds(area=-1)


# --- protocol


def test_ceilings_are_those_of_the_reference_set():
    """Perfect labels cut to L layers, AR100 and AR heavy as measured on the reference set (paper-facts); Table 2 of the paper."""
    known = {6: {2: (0.874, 0.762), 3: (0.978, 0.959)}, 12: {2: (0.665, 0.531), 3: (0.876, 0.826), 4: (0.966, 0.952)}}
    for n, by_layers in known.items():
        found = evaluate_shapes({str(layers): ceiling(layers) for layers in by_layers}, n, images=120)
        for layers, expected in by_layers.items():
            result = found[str(layers)]
            assert (result["AR100"], result["AR_heavy"]) == pytest.approx(expected, abs=0.02), (n, layers)
            assert result["AR_none"] == 1 and result["AR_partial"] > 0.98


def test_protocol_on_a_known_answer():
    truth = np.zeros((2, 16, 16), np.uint16)
    truth[0, :8], truth[0, 8:] = 1, 2
    truth[1, 8:, :8] = 1  # 1: a third is hidden (heavy); 2: nothing is
    evaluation = ShapesEvaluation()
    found = np.zeros((1, 16, 16), np.uint16)
    found[0, :8], found[0, 8:] = 1, 2  # the visible part alone: IoU 2/3 with the whole of 1
    evaluation.add(truth, found, np.array([0.9, 0.8]))
    result = evaluation.result()
    assert result["AR_none"] == 1 and result["AR_partial"] is None
    assert result["AR_heavy"] == pytest.approx(0.4), "IoU 0.5, 0.55, 0.6, 0.65 of ten thresholds"
    assert result["AR100"] == pytest.approx(0.7) and result["AP50"] == pytest.approx(1) and result["instances"] == 2


def test_hidden_shares_are_sorted_as_the_paper_does():
    assert hidden_class(np.array([1.0, 1 - 1e-6, 0.99, 0.75, 0.74, 0.0])).tolist() == [0, 0, 1, 1, 2, 2]


def test_evaluate_shapes_command(tmp_path, capsys):
    assert main(["evaluate", "--shapes", "2,3", "--baseline", "layers1", "--limit", "3", "--json", str(tmp_path / "r.json")]) == 0
    assert "layers1" in capsys.readouterr().out and (tmp_path / "r.json").exists()
    for words, message in (
        (["--shapes", "six", "--baseline", "layers2"], "'six'"),
        (["--shapes", "6", "--baseline", "kmeans"], "layers2"),
        (["--shapes", "6", "--baseline", "layers2", "--pictures", "x"], "give one as --model"),
        (["--shapes", "6", "--baseline", "layers2", "--benchmark", "insta10-sim"], "--benchmark does not go with --shapes"),
    ):
        assert main(["evaluate", *words]) == 2
        assert message in capsys.readouterr().err


def test_the_benchmarks_rival_groups_as_ours_where_groups_are_clear():
    from instseg_ros.benchmarks.layered import scikit_learn

    points, truth = blobs(np.random.default_rng(3), np.eye(3) * 8, 40, 0.2)
    points = torch.cat([points, torch.tensor([[30.0, 0, 0]] * 3)])
    labels, count = scikit_learn(points, 1.5, 5)
    ours, modes = mean_shift(points, bandwidth=1.5, min_points=5)
    assert count == len(modes) == 3 and labels[-3:].tolist() == [-1] * 3
    assert len({(int(a), int(b)) for a, b in zip(labels, ours)}) == 4
