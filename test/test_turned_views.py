"""Views under rolls of the camera and in the mirror: they are what a rolled camera sees, and cells come back to where they were."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from instseg_ros.errors import InputError
from instseg_ros.frame import Frame
from instseg_ros.geometry import deproject
from instseg_ros.methods.layered.network import STRIDE, LayeredConfig, LayeredEmbeddings, Prediction
from instseg_ros.methods.layered.segmenter import LayeredSegmenter, Thresholds
from instseg_ros.methods.layered.turns import LATE, joined_views
from instseg_ros.methods.turned_views import TURNS, padded, views_of

QUARTER_TURN = np.array([[0.0, 1.0, 0.0], [-1.0, 0.0, 0.0], [0.0, 0.0, 1.0]])
"""Motion of camera points when the image is turned a quarter counter-clockwise."""
K = np.array([[90.0, 0, 30.5], [0, 80.0, 21.25], [0, 0, 1]])


def frame(height: int = 48, width: int = 64) -> Frame:
    rng = np.random.default_rng(0)
    return Frame(rng.uniform(0.4, 0.6, (height, width)).astype(np.float32), K, rng.integers(0, 256, (height, width, 3), dtype=np.uint8))


@pytest.mark.parametrize("quarters", range(4))
def test_turns_are_those_of_numpy_and_move_points_as_told(quarters):
    view = TURNS[quarters]
    seen = view.frame(frame())
    np.testing.assert_array_equal(seen.depth, np.rot90(frame().depth, quarters))
    np.testing.assert_array_equal(seen.color, np.rot90(frame().color, quarters))
    np.testing.assert_array_equal(view.motion, np.linalg.matrix_power(QUARTER_TURN, quarters))


@pytest.mark.parametrize("view", views_of(4, True))
@pytest.mark.parametrize("late", [0, 1])
def test_points_of_a_view_are_the_moved_points(view, late):
    """Whatever the axes that are reversed and the pixel they begin at, intrinsics stay true."""
    whole = frame()
    seen = view.frame(whole, late)
    points = torch.from_numpy(deproject(seen.depth, seen.K)).permute(2, 0, 1)
    back = view.back(points).permute(1, 2, 0).numpy() @ view.motion  # motion⁻¹ = its transpose
    expected = deproject(whole.depth, K)
    if late:  # reversed axes: row i of the answer is row i + 1 of the frame, but for the row beyond its end
        rows, columns = int(view.rows), int(view.columns)
        expected = expected[rows:, columns:]
        back = back[: len(expected), : expected.shape[1]]
    np.testing.assert_allclose(back, expected, atol=2e-7)


def test_eight_views_are_different_and_half_of_them_mirror():
    views = views_of(4, True)
    assert len(set(views)) == 8 and [np.linalg.det(view.motion) for view in views] == [1] * 4 + [-1] * 4
    assert len({view.frame(frame(8, 8)).depth.tobytes() for view in views}) == 8
    assert views_of(1) == [TURNS[0]] and views_of(2) == [TURNS[0], TURNS[2]] and len(views_of(2, True)) == 4


@pytest.mark.parametrize("views", [views_of(4), views_of(2, True), views_of(4, True)])
def test_cells_of_joined_views_show_the_same_pixel(views):
    """A network that reads the pixel its cells stand for says the same from all sides: its mean is what it says of the view itself."""
    whole = frame()

    def predict(seen: Frame) -> Prediction:
        cells = torch.from_numpy(seen.depth[STRIDE // 2 :: STRIDE, STRIDE // 2 :: STRIDE].copy())[None, None, None]
        return Prediction(torch.cat([cells, 1 - cells], 2), torch.cat([cells, 2 * cells], 2))

    single, joined = predict(whole), joined_views(predict, whole, views)
    assert LATE == 1
    torch.testing.assert_close(joined.semantic.softmax(2), single.semantic.softmax(2))
    assert joined.embedding.shape[2] == 2 * len(views)

    def distances(embedding: torch.Tensor) -> torch.Tensor:
        points = embedding[0, 0].flatten(1).T
        return torch.cdist(points, points, p=1)

    torch.testing.assert_close(distances(joined.embedding), distances(single.embedding), atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("shape", [(64, 96), (50, 70)])
def test_layered_segmenter_looks_from_all_sides(shape):
    config = LayeredConfig(layers=3, backbone="small", width=8, blocks=(1, 1, 1), rates=(1,), context=8, skip=8, eighth=8, decoder=8, head=(), joint_heads=True)
    torch.manual_seed(0)
    segmenter = LayeredSegmenter(LayeredEmbeddings(config), Thresholds(turns=4, mirror=True), torch.device("cpu"))
    view = frame(*shape)
    prediction = segmenter.predict(view)
    cells = (-(-shape[0] // STRIDE), -(-shape[1] // STRIDE))
    assert prediction.embedding.shape == (1, 3, 6 * 8, *cells) and prediction.semantic.shape == (1, 3, 2, *cells)
    # What is said of the view's mirror image is the mirror image of what is said of it.
    whole = padded(view, 16)
    mirrored = views_of(1, True)[1]
    np.testing.assert_allclose(
        segmenter.predict(mirrored.frame(whole, LATE)).semantic[..., :, 1:].flip(-1), segmenter.predict(whole).semantic[..., :, :-1], atol=0.005
    )
    assert segmenter.segment(view).labels.shape == shape
    with pytest.raises(InputError, match="1, 2 or 4, got 3"):
        dataclasses.replace(segmenter.thresholds, turns=3)
