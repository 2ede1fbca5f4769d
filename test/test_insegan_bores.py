"""Templates that are closed where the part is bored."""

from __future__ import annotations

import math

import pytest
import torch

pytest.importorskip("pytorch_lightning", reason="needs requirements/train.txt")

from instseg_ros.errors import InputError
from instseg_ros.methods.insegan.refine import Camera
from instseg_ros.methods.insegan.shape import Shape, pixel_rays
from instseg_ros.training.insegan_bores import RADIUS, bored, drilled, united
from instseg_ros.training.insegan_template import TemplateConfig, first_templates, learn_template
from solid_images import turned

SIZE = 20
CAMERA = Camera(pixel_rays(torch.tensor([[137.0, 0, 9.5], [0, 137.0, 9.5], [0, 0, 1]]), SIZE, SIZE), 0.38, 0.52)
CONFIG = TemplateConfig(resolution=24, rounds=1, polish=0, images=10, rotations=100, steps=20, batch=10, trial_images=2, bores=True)
VOXEL = 0.07 / 28


def box(*half_sides: float) -> Shape:
    shape = Shape.in_box(29, torch.tensor([0.035, 0.035, 0.035]))
    with torch.no_grad():
        shape.grid.copy_((torch.tensor(half_sides) - shape.voxels().abs()).amin(-1)[None, None] * 1e3)
    return shape


def volume(shape: Shape) -> float:
    return float((shape.grid > 0).sum()) * VOXEL**3


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_a_bore_takes_a_cylinder_out_of_the_solid(axis):
    block = box(0.02, 0.02, 0.02)
    other = drilled(block, axis, torch.zeros(3), 0.01, -0.02, 0.02)
    assert volume(block) - volume(other) == pytest.approx(math.pi * 0.01**2 * 0.04, rel=0.1)
    point = torch.zeros(2, 3)
    point[:, axis] = torch.tensor([-0.022, 0.022])  # open at both ends
    along = point[0] + torch.linspace(0, 1, 30)[:, None] * (point[1] - point[0])
    assert (other.field(along) < 0).all()
    assert (block.field(along[5:-5]) > 0).all(), "and the one that was drilled stays whole"


def test_bores_are_tried_along_every_axis_in_the_middle_and_towards_the_sides():
    bar = box(0.032, 0.016, 0.016)
    every = bored(bar)
    # Along x in one place, across it in three: each time through it, or from an end to the middle.
    assert len(every) == 3 * (1 + 3 + 3)
    taken = sorted(volume(bar) - volume(some) for some in every)
    area = math.pi * (RADIUS * 0.016) ** 2
    assert taken[-1] == pytest.approx(area * 0.064, rel=0.2) and taken[0] == pytest.approx(area * 0.018, rel=0.3)


def test_where_there_is_a_bore_none_is_tried():
    ring = drilled(box(0.024, 0.024, 0.008), 2, torch.zeros(3), 0.012, -0.008, 0.008)
    middle = ring.field(torch.tensor([[0.0, 0, 0]]))
    assert len(bored(ring)) and all(some.field(torch.tensor([[0.0, 0, 0]])) <= middle for some in bored(ring))
    assert not any(torch.equal(some.grid, ring.grid) for some in bored(ring))
    assert bored(Shape.in_box(8, torch.tensor([0.01, 0.01, 0.01]))) == [], "nor in nothing"


def test_a_ring_is_begun_as_a_ring():
    ring = drilled(box(0.026, 0.026, 0.01), 2, torch.zeros(3), 0.014, -0.01, 0.01)
    first = first_templates(turned(ring, 6, CAMERA), CAMERA, SIZE, 1, CONFIG, lambda items, name: items)[0]
    assert first.field(torch.zeros(1, 3)) < 0


def test_bores_are_united():
    block = box(0.02, 0.02, 0.02)
    one, other = (drilled(block, axis, torch.zeros(3), 0.008, -0.02, 0.02) for axis in (0, 1))
    both = united(one, other)
    assert torch.equal(both.grid > 0, (one.grid > 0) & (other.grid > 0))


def pipe_and_rod():
    rod = box(0.018, 0.03, 0.03)
    with torch.no_grad():
        rod.grid.copy_(torch.minimum(rod.grid, (0.018 - rod.voxels()[..., 1:].norm(dim=-1)) * 1e3))
    return drilled(rod, 0, torch.zeros(3), 0.011, -0.018, 0.018), rod


def test_bores_are_kept_where_they_explain_the_images_better(monkeypatch):
    pipe, rod = pipe_and_rod()
    monkeypatch.setattr("instseg_ros.training.insegan_template.first_templates", lambda *_: [rod])
    left = []
    shape = learn_template(
        turned(pipe, 10, CAMERA), CAMERA, SIZE, 1, CONFIG, 0, lambda items, name: items, compared=lambda what, values: left.append((what, values))
    )
    assert shape.field(torch.zeros(1, 3)) < 0
    ((what, (without, with_bores)),) = left
    assert what == "bores" and with_bores < without - 0.01


def test_bores_that_explain_no_more_of_the_images_are_not_even_learned(monkeypatch):
    _, rod = pipe_and_rod()
    monkeypatch.setattr("instseg_ros.training.insegan_template.first_templates", lambda *_: [rod])
    # Nothing is moved: the template stays the truth, and every hole in it is contradicted or hides something.
    monkeypatch.setattr("instseg_ros.training.insegan_template._fit", lambda shape, images, poses, *_: poses)
    left = []
    learn_template(turned(rod, 10, CAMERA), CAMERA, SIZE, 1, CONFIG, 0, lambda items, name: items, compared=lambda what, values: left.append((what, values)))
    assert not left


def test_a_template_that_grows_rougher_than_it_began_is_refused():
    with pytest.raises(InputError, match="template.detail must be positive and at most smooth = 0.02, got 0.1"):
        TemplateConfig(detail=0.1)
