"""Templates that are stuck as solids of revolution, and the branches that lead out of it."""

from __future__ import annotations

import pytest
import torch

pytest.importorskip("pytorch_lightning", reason="needs requirements/train.txt")

from instseg_ros.errors import InputError
from instseg_ros.methods.insegan.refine import Camera
from instseg_ros.methods.insegan.shape import Shape, pixel_rays
from instseg_ros.training.insegan_branches import branched
from instseg_ros.training.insegan_template import TemplateConfig, learn_template
from solid_images import turned

SIZE = 32
CAMERA = Camera(pixel_rays(torch.tensor([[220.0, 0, 15.5], [0, 220.0, 15.5], [0, 0, 1]]), SIZE, SIZE), 0.38, 0.52)
CONFIG = TemplateConfig(resolution=20, rounds=1, polish=0, images=6, rotations=60, steps=6, batch=6, trial_images=2, branches=2)


def solid(*half_axes: float, stem: float = 0.0) -> Shape:
    """An ellipsoid; with ``stem`` a tee: something round stands out of its middle so far, towards y."""
    shape = Shape.in_box(24, torch.tensor([0.03, 0.03, 0.03]))
    shape.set_ellipsoid(torch.tensor(half_axes))
    if stem:
        x, y, z = shape.voxels().unbind(-1)
        bar = torch.minimum(0.008 - (x.square() + z.square()).sqrt(), torch.minimum(y, stem - y))
        with torch.no_grad():
            shape.grid.copy_(torch.maximum(shape.grid[0, 0], bar * 1e3)[None, None])
    return shape


def sides(shape: Shape) -> tuple[torch.Tensor, torch.Tensor]:
    inside = shape.voxels()[shape.grid[0, 0] > 0]
    return inside.amin(0), inside.amax(0)


@pytest.mark.parametrize(
    ("half_axes", "places"), [((0.025, 0.008, 0.008), 2 + 4 * 3), ((0.01, 0.01, 0.01), 6), ((0.024, 0.024, 0.01), 2 * 9 + 4 * 3)]
)
def test_branches_are_the_solid_and_a_ball_on_one_side(half_axes, places):
    shape = solid(*half_axes)
    low, high = sides(shape)
    voxel = 2 * shape.extent.max() / 23
    every = branched(shape)
    assert len(every) == places
    for some in every:
        assert (some.field(shape.voxels()[shape.grid[0, 0] > 0.5]) > -0.3 * voxel).all(), "the solid is in it"
        wider = torch.stack([low - sides(some)[0], sides(some)[1] - high])
        assert (wider > voxel).sum() == 1, "and one side is farther out"
        assert wider.max() < 2 * min(half_axes) + voxel


def test_an_empty_template_has_no_branches():
    assert branched(Shape.in_box(8, torch.tensor([0.01, 0.01, 0.01]))) == []


@pytest.mark.parametrize("helps", [True, False])
def test_a_branch_is_kept_where_it_explains_the_images_better(helps, monkeypatch):
    rod, tee, far = solid(0.026, 0.009, 0.009), solid(0.026, 0.009, 0.009, stem=0.026), solid(0.026, 0.026, 0.009)
    monkeypatch.setattr("instseg_ros.training.insegan_template.first_templates", lambda *_: [rod])
    monkeypatch.setattr("instseg_ros.training.insegan_template.branched", lambda _: [far, tee] if helps else [far])
    left = []
    shape = learn_template(
        turned(tee if helps else rod, 12, CAMERA), CAMERA, SIZE, 1, CONFIG, 0, lambda items, name: items, compared=lambda what, values: left.append((what, values))
    )
    low, high = sides(shape)
    thick, wide, long = (high - low).sort().values.tolist()
    assert wide - thick > 0.011 if helps else wide < 0.024, (thick, wide, long)
    assert [what for what, _ in left] == ["branches"] * (2 if helps else 1), "no further attempt after one in vain"
    assert min(left[0][1][1:]) < left[0][1][0] - 0.006 if helps else min(left[0][1]) > left[0][1][0] - 0.006


def test_a_negative_number_of_branches_is_refused():
    with pytest.raises(InputError, match="template.branches must be 0 or more, got -1"):
        TemplateConfig(branches=-1)
