"""InSeGAN: the exponential map, equations by hand, the explicit renderer against analytic scenes, search and answers of known scenes."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from instseg_ros.errors import InputError
from instseg_ros.frame import Frame
from instseg_ros.methods.insegan.assembly import add_missing, improve, prune, select
from instseg_ros.methods.insegan.flips import turn_over
from instseg_ros.methods.insegan.generator import Generator, GeneratorConfig
from instseg_ros.methods.insegan.labelling import Singles, _without_specks, label_frame
from instseg_ros.methods.insegan.network import ExplicitConfig, ExplicitNetwork, GanNetwork, network_config
from instseg_ros.methods.insegan.normalisation import Normalisation
from instseg_ros.methods.insegan.pose_encoder import PoseMap, candidates
from instseg_ros.methods.insegan.refine import Camera, Poses, blend, draw, refine
from instseg_ros.methods.insegan.rotations import exponential_map, from_six, skew, to_six
from instseg_ros.methods.insegan.search import FLOOR, PoseSearch, make_library, spread_rotations, tilt_towards
from instseg_ros.methods.insegan.segmenter import InSeGANSegmenter, Thresholds
from instseg_ros.methods.insegan.shape import Shape, compose, pixel_rays
from instseg_ros.methods.insegan.solids import shared_volume
from instseg_ros.methods.insegan.working_camera import WorkingCamera
from instseg_ros.training.insegan import GanLossConfig, GanOptimizerConfig, InSeGANModule, align, encoder_losses
from instseg_ros.training.insegan_discriminator import Discriminator, discriminator_loss, generator_loss, r1_penalty, roll
from instseg_ros.training.insegan_explicit import Targets, pose_losses, project, roll_poses, trust_in
from instseg_ros.training.insegan_selection import choose_cut

SMALL = dict(size=32, volume=8, features=16, volume_channels=4, template_channels=8, latent=8, instances=2)
SIZE = 32
K = torch.tensor([[130.0, 0, 15.5], [0, 130.0, 15.5], [0, 0, 1]])
CAMERA = Camera(pixel_rays(K, SIZE, SIZE), near=0.38, far=0.5)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


# rotations


def test_exponential_map_is_scipys_and_has_finite_gradients_at_zero():
    vectors = torch.cat([torch.randn(20, 3, generator=generator(), dtype=torch.float64) * 2, torch.zeros(1, 3, dtype=torch.float64)])
    vectors = torch.cat([vectors, vectors[:5] * 1e-5])
    np.testing.assert_allclose(exponential_map(vectors), Rotation.from_rotvec(vectors).as_matrix(), atol=1e-12)
    zero = torch.zeros(3, dtype=torch.float64, requires_grad=True)
    jacobian = torch.autograd.functional.jacobian(exponential_map, zero)
    for axis in range(3):  # d exp(w) / dw at 0 is the cross product with the axis
        torch.testing.assert_close(jacobian[..., axis], skew(torch.eye(3, dtype=torch.float64)[axis]))
    assert torch.autograd.gradcheck(exponential_map, torch.tensor([[0.3, -1.2, 0.5], [1e-3, 0, 0]], dtype=torch.float64, requires_grad=True))


def test_six_numbers_give_the_rotation_back():
    rotation = torch.from_numpy(Rotation.random(20, random_state=0).as_matrix())
    torch.testing.assert_close(from_six(to_six(rotation) * 3), rotation)


def test_rotations_are_spread_evenly():
    r = spread_rotations(300)
    torch.testing.assert_close(r @ r.transpose(1, 2), torch.eye(3).expand(300, 3, 3), atol=1e-5, rtol=0)
    random = torch.from_numpy(Rotation.random(200, random_state=1).as_matrix()).float()
    angle = ((torch.einsum("aij,bij->ab", random, r) - 1) / 2).clamp(-1, 1).acos().amin(1)
    assert angle.max() < math.radians(40)  # 300 cells of SO(3) have a radius of about 21°


# the paper's networks


def test_the_template_computed_once_gives_what_a_template_per_sample_gives():
    torch.manual_seed(0)
    g = Generator(GeneratorConfig(**SMALL))
    z = torch.randn(3, 2, 8)
    once = g.features(z).flatten(0, 1)
    each = torch.cat([g.instances.last(g.instances.project(g.instances.template(), one[None])) for one in z.flatten(0, 1)])
    torch.testing.assert_close(once, each, atol=1e-6, rtol=1e-5)


def test_eq2_is_the_mean_and_a_single_is_the_image_of_its_latent_alone():
    torch.manual_seed(0)
    g = Generator(GeneratorConfig(**SMALL))
    z = torch.randn(2, 2, 8)
    image, mean = g(z)
    torch.testing.assert_close(mean, (g.features(z)[:, 0] + g.features(z)[:, 1]) / 2)
    torch.testing.assert_close(g.singles(z)[:, 1], g(z[:, 1:])[0][:, 0])
    assert image.shape == (2, 1, 32, 32) and image.abs().max() <= 1


@pytest.mark.parametrize("values", [dict(SMALL), dict(SMALL, kind="2d"), dict(SMALL, size=112, volume=14, features=14), dict(SMALL, size=224, volume=14, features=14, instances=7)])
def test_working_sizes_and_the_2d_ablation(values):
    config = network_config(values)
    network = GanNetwork(config)
    z = torch.randn(1, config.instances, 8)
    image, features = network.generator(z)
    latents, inverse = network.encoder(image)
    assert image.shape == (1, 1, config.size, config.size)
    assert latents.shape == z.shape and inverse.shape == features.shape
    assert Discriminator(config.size, 4)(image).shape == (1,)


def test_the_paper_s_size_has_the_reference_s_parameters():
    count = lambda module: sum(p.numel() for p in module.parameters()) / 1e6  # noqa: E731
    network = GanNetwork(GeneratorConfig())
    assert count(network.generator) == pytest.approx(0.42, abs=0.03)
    assert count(network.encoder) == pytest.approx(8.0, abs=0.2)
    assert count(Discriminator()) == pytest.approx(2.8, abs=0.1)


@pytest.mark.parametrize("values, word", [(dict(size=60), "size"), (dict(instances=0), "instances"), (dict(kind="4d"), "kind"), (dict(depth=3), "depth"), (dict(kind="explicit", size=50), "size")])
def test_bad_networks_are_refused_in_one_line(values, word):
    with pytest.raises(InputError, match=word):
        network_config(values)


# the paper's losses


def test_eq3_by_hand():
    real, fake = torch.tensor([2.0, -1.0]), torch.tensor([0.5, 0.0])
    d = torch.sigmoid
    torch.testing.assert_close(discriminator_loss(real, fake), -d(real).log().mean() - (1 - d(fake)).log().mean())
    torch.testing.assert_close(generator_loss(fake), -d(fake).log().mean())


def test_r1_is_half_the_squared_gradient():
    x = torch.randn(4, 1, 2, 2, generator=generator()).requires_grad_()
    weight = torch.tensor([[1.0, 2], [3, -1]])
    torch.testing.assert_close(r1_penalty((x * weight).sum((1, 2, 3)), x), torch.tensor(0.5 * 15))


@pytest.mark.parametrize("matching", ["ot", "hungarian", "greedy"])
def test_eq4_aligns_before_it_compares(matching):
    z = torch.randn(3, 4, 8, generator=generator())
    shuffled = z[:, [2, 0, 3, 1]] + 0.01
    torch.testing.assert_close(align(z, shuffled, matching), z + 0.01)


def test_the_generator_gets_no_gradient_from_the_encoders_losses():
    torch.manual_seed(0)
    network = GanNetwork(GeneratorConfig(**SMALL))
    losses = encoder_losses(network.generator, network.encoder, torch.randn(2, 2, 8), "ot")
    sum(losses.values()).backward()
    assert all(p.grad is None for p in network.generator.parameters())
    assert all(p.requires_grad for p in network.generator.parameters())
    assert all(p.grad is not None for p in network.encoder.parameters())


@pytest.mark.parametrize(
    "loss, optimizer",
    [({}, {}), (dict(r1=1.0, r1_every=1, diffaugment=True, real=1.0), dict(ema=0.9)), (dict(spectral=True, matching="greedy"), {})],
)
def test_a_step_of_every_remedy_moves_all_three_networks(loss, optimizer):
    torch.manual_seed(0)
    module = InSeGANModule(GeneratorConfig(**SMALL), GanLossConfig(**loss), GanOptimizerConfig(**optimizer))
    optimizers = module.configure_optimizers()
    module.optimizers, module.manual_backward, module.log_dict = lambda: optimizers, lambda x: x.backward(), lambda *a, **k: None
    before = {name: p.clone() for name, p in module.named_parameters()}
    module.training_step([torch.rand(4, 1, 32, 32) * 2 - 1], 0)
    for part in ("generator", "discriminator", "encoder", *(["averaged"] if optimizer else [])):
        assert any((p != before[name]).any() for name, p in module.named_parameters() if name.startswith(part)), part


def test_the_cut_is_chosen_where_the_renderings_cover_what_is_observed():
    class Known:
        generator = property(lambda self: self)
        encoder = staticmethod(lambda x: (x, None))

        def singles(self, z):
            image = torch.full((1, 2, 8, 8), -0.9)  # a bias that the cut must remove
            image[0, 0, :4], image[0, 1, 4:6] = 0.5, -0.4
            return image

    truth = torch.full((1, 8, 8), -1.0)
    truth[0, :6] = 0.3
    assert -0.9 <= choose_cut(Known(), truth) < -0.4


# the explicit template


def ball(radius=0.02, resolution=24):
    shape = Shape.in_box(resolution, torch.full((3,), 1.3 * radius))
    shape.set_ellipsoid(torch.full((3,), radius))
    return shape


def cigar():
    shape = Shape.in_box(24, torch.tensor([0.03, 0.014, 0.014]))
    shape.set_ellipsoid(torch.tensor([0.025, 0.009, 0.009]))
    return shape


def poses_of(translation, rotation=None):
    t = torch.tensor(translation, dtype=torch.float32)[None]
    r = torch.eye(3).expand(1, t.shape[1], 3, 3) if rotation is None else rotation[None]
    return Poses(r, t, torch.ones(1, t.shape[1], dtype=torch.bool))


def test_a_ball_is_rendered_where_geometry_puts_it():
    radius, centre = 0.02, torch.tensor([0.01, -0.005, 0.45])
    depth, opacity = ball(radius).render(torch.eye(3)[None], centre[None], CAMERA.rays)
    d = CAMERA.rays / CAMERA.rays.norm(dim=1, keepdim=True)
    along = d @ centre
    under = radius**2 - (centre.square().sum() - along**2)
    hit = under > 0
    exact = (along - under.clamp_min(0).sqrt()) * d[:, 2]
    inner = under > (0.4 * radius) ** 2
    assert ((opacity[0] > 0.5) == hit).float().mean() > 0.99
    assert (depth[0] - exact)[inner].abs().max() < 4e-4


def test_gradients_of_the_rendering_pull_the_pose_the_right_way():
    shape, centre = cigar(), torch.tensor([[0.0, 0.0, 0.45]])
    move = torch.zeros(1, 3, requires_grad=True)
    depth, opacity = shape.render(torch.eye(3)[None], centre + move, CAMERA.rays)
    middle = depth[0].view(SIZE, SIZE)[15:17, 15:17].mean()
    assert torch.autograd.grad(middle, move, retain_graph=True)[0][0, 2] == pytest.approx(1.0, abs=0.05)
    left, right = opacity.view(SIZE, SIZE)[:, :16].sum(), opacity.view(SIZE, SIZE)[:, 16:].sum()
    assert torch.autograd.grad(right - left, move)[0][0, 0] > 0


def test_composition_is_a_z_buffer():
    depth = torch.tensor([[0.40, 0.50, 0.45], [0.45, 0.40, 0.40], [0.50, 0.45, 0.50]])
    opacity = torch.tensor([[1.0, 1.0, 0.25], [1.0, 0.5, 0.5], [1.0, 1.0, 1.0]])
    hard = compose(depth, opacity)
    torch.testing.assert_close(hard[:, 0], torch.tensor([1.0, 0.0, 0.0]))
    torch.testing.assert_close(hard[:, 1], torch.tensor([0.0, 0.5, 0.5]))
    torch.testing.assert_close(hard[:, 2], torch.tensor([0.125, 0.5, 0.375]))  # blended front to back
    torch.testing.assert_close(compose(depth, opacity, 1e-4), hard, atol=1e-3, rtol=0)


def test_without_a_z_buffer_the_mean_of_the_instances_is_seen():
    camera = Camera(CAMERA.rays, CAMERA.near, CAMERA.far, "mean")
    depth = torch.tensor([[[0.40, 0.40, 0.40, 0.40], [0.46, 0.46, 0.46, 0.46]]])
    opacity = torch.tensor([[[1.0, 1.0, 0.0, 0.0], [1.0, 0.0, 1.0, 0.0]]])
    image, visibility = blend(depth, opacity, camera)
    torch.testing.assert_close(image[0, :3], camera.value(torch.tensor([0.43, 0.40, 0.46])))
    assert image[0, 3] == -1
    assert visibility[0].tolist() == [[0.5, 1, 0, 0], [0.5, 0, 1, 0]]
    assert blend(depth, opacity, CAMERA)[0][0, 0] == pytest.approx(float(camera.value(torch.tensor(0.40))))


def test_without_perspective_farther_parts_are_not_smaller_and_points_come_back_to_the_true_camera():
    normalisation = Normalisation(K.numpy().astype(float), (SIZE, SIZE), (0, 0, SIZE), SIZE, 0.38, 0.5, np.full((8, 8), 0.5, np.float32), 0.004)
    true = WorkingCamera.of(normalisation, ExplicitConfig(size=SIZE), torch.device("cpu"))
    flat = WorkingCamera.of(normalisation, ExplicitConfig(size=SIZE, perspective=False), torch.device("cpu"))
    shape = ball(0.03)

    def area(view, depth):
        return shape.render(torch.eye(3)[None], torch.tensor([[0, 0, depth + view.retreat]]), view.camera.rays)[1].sum().item()

    assert area(true, 0.48) / area(true, 0.40) == pytest.approx((0.40 / 0.48) ** 2, rel=0.05)
    assert area(flat, 0.48) / area(flat, 0.40) == pytest.approx(1, abs=0.03)
    assert area(flat, 0.46) == pytest.approx(area(true, 0.46), rel=0.03)  # (near + 2 far) / 3, where both see the same
    depth = torch.linspace(0.38, 0.5, len(flat.camera.rays))[:, None]
    found = flat.true_points((flat.camera.rays * (depth + flat.retreat)).numpy())
    np.testing.assert_allclose(found, true.camera.rays * depth, atol=1e-5)
    np.testing.assert_allclose(flat.camera.value(depth + flat.retreat), true.camera.value(depth), atol=1e-4)


def test_a_cropped_template_is_the_same_solid_around_the_middle_of_its_box():
    shape = Shape.in_box(32, torch.tensor([0.05, 0.03, 0.03]))
    shape.grid.data.copy_((0.01 - (shape.voxels() - torch.tensor([0.02, 0.0, 0.005])).norm(dim=-1))[None, None] * 1e3)
    small, middle = shape.cropped()
    torch.testing.assert_close(middle, torch.tensor([0.02, 0.0, 0.005]), atol=1e-3, rtol=0)
    assert (small.extent < 0.014).all()
    inside = small.voxels()[small.grid[0, 0] > 0]
    torch.testing.assert_close(inside.mean(0), torch.zeros(3), atol=1e-3, rtol=0)
    assert inside.norm(dim=1).max() < 0.0105


def test_refinement_finds_the_way_back():
    shape = cigar()
    true = poses_of([[0.012, 0.0, 0.45], [-0.015, 0.01, 0.46]], exponential_map(torch.tensor([[0.0, 0, 0.3], [0.0, 0.2, 1.4]])))
    observed = draw(shape, true, CAMERA).image.detach()
    start = Poses(true.rotation @ exponential_map(torch.tensor([0.0, 0.1, 0.15])), true.translation + torch.tensor([0.003, -0.002, 0.002]), true.present)
    found, loss = refine(shape, start, observed, CAMERA, steps=40)
    assert (found.translation - true.translation).norm(dim=-1).max() < 1e-3
    axes = (found.rotation[..., 0] * true.rotation[..., 0]).sum(-1).abs()
    assert axes.min() > math.cos(math.radians(4)) and loss.item() < 0.02


def test_search_finds_parts_on_top_of_each_other():
    shape = cigar()
    turns = exponential_map(torch.tensor([[0.0, 0, 0.2], [0.0, 0, 1.6]]))
    true = poses_of([[0.0, 0.0, 0.43], [0.018, 0.014, 0.455]], turns)
    observed = draw(shape, true, CAMERA).image[0].detach()
    library = make_library(shape, spread_rotations(200), 130.0, 0.45, 1)
    search = PoseSearch(library, observed, CAMERA, SIZE)
    picks = [search.pick() for _ in range(2)]
    assert picks[0][2] > picks[1][2] > 0
    for truth, tolerance in ((0, 0.008), (1, 0.012)):  # of the lower one the ends show
        error = [(t - true.translation[0, truth]).norm().item() for _, t, _ in picks]
        assert min(error) < tolerance
    nearest = min(picks, key=lambda p: (p[1] - true.translation[0, 0]).norm())
    assert (nearest[0][:, 0] @ turns[0][:, 0]).abs() > math.cos(math.radians(25))


@given(st.integers(1, 60), st.integers(60, 400))
def test_every_rotation_is_finer_of_the_one_it_is_nearest_to(coarse, count):
    library = make_library(ball(0.01), spread_rotations(count), 40.0, 0.45, 4, coarse)
    if count < 5 * coarse:
        assert library.finer is None and len(library.rotation) == count
        return
    first, others = library.rotation[:coarse], library.rotation[coarse:]
    torch.testing.assert_close(others, spread_rotations(count))
    rows, _ = torch.nonzero(library.finer >= 0, as_tuple=True)
    finer = library.finer[library.finer >= 0]
    assert sorted(finer.tolist()) == list(range(coarse, coarse + count)), "each once"
    likeness = torch.einsum("rij,cij->rc", others[finer - coarse], first)
    torch.testing.assert_close(likeness[torch.arange(count), rows], likeness.max(1).values)


def test_a_search_in_two_steps_finds_what_a_search_of_all_finds():
    shape = cigar()
    with torch.no_grad():  # a lump on one side: no two views are alike
        shape.grid.copy_(torch.maximum(shape.grid, (8e-3 - (shape.voxels() - torch.tensor([0.012, 0.008, 0.0])).norm(dim=-1)) * 1e3))
    scores = []
    for i, turn in enumerate(spread_rotations(6)):
        observed = draw(shape, poses_of([[0.004 * i - 0.01, 0.003, 0.45]], turn[None]), CAMERA).image[0].detach()
        row = [PoseSearch(make_library(shape, spread_rotations(400), 130.0, 0.45, 1, coarse), observed, CAMERA, SIZE).pick()[2] for coarse in (40, 400)]
        scores.append(row)
    two_steps, every = torch.tensor(scores).T
    assert (two_steps <= every + 1e-3).all() and (two_steps > 0.8 * every).all() and two_steps.sum() > 0.93 * every.sum()


@pytest.mark.parametrize("coarse", [40, 400])
def test_a_search_where_too_little_is_wanted_finds_nothing(coarse):
    observed = draw(cigar(), poses_of([[0.0, 0.0, 0.45]]), CAMERA).image[0].detach()
    library = make_library(cigar(), spread_rotations(400), 130.0, 0.45, 1, coarse)
    rotation, translation, score = PoseSearch(library, observed, CAMERA, SIZE, least=1e4).pick()
    assert rotation.shape == (3, 3) and translation.shape == (3,) and score == -math.inf


def test_tilting_takes_the_axis_to_the_ray_and_keeps_the_rest():
    rays = torch.tensor([[0.1, -0.2, 1.0], [0.0, 0.0, 1.0]])
    r = tilt_towards(rays)
    torch.testing.assert_close(r[:, :, 2], rays / rays.norm(dim=1, keepdim=True))
    torch.testing.assert_close(r @ r.transpose(1, 2), torch.eye(3).expand(2, 3, 3), atol=1e-6, rtol=0)
    torch.testing.assert_close(r[1], torch.eye(3))


def test_selection_needs_no_count_and_takes_no_duplicates_nor_ghosts():
    shape = cigar()
    true = poses_of([[0.02, 0.0, 0.45], [-0.02, 0.0, 0.45]], exponential_map(torch.tensor([[0.0, 0, 1.5], [0.0, 0, 1.6]])))
    observed = draw(shape, true, CAMERA).image[0].detach()
    ghost, double = torch.tensor([[0.0, 0.03, 0.42]]), true.translation[0, :1] + 0.004
    t = torch.cat([true.translation[0], ghost, double])
    r = torch.cat([true.rotation[0], torch.eye(3)[None], true.rotation[0, :1]])
    chosen = select(shape, r, t, observed, CAMERA, least=0.06, most=10)
    assert sorted(chosen.tolist()) == [0, 1]
    spare = Poses(*(torch.cat([x, x[:, :1]], 1) for x in (true.rotation, true.translation, true.present)))
    spare.translation[0, 2] = ghost
    assert prune(shape, spare, observed[None], CAMERA, least=0.06).present.tolist() == [[True, True, False]]


def test_the_volume_that_two_balls_share_is_the_lens_between_them():
    shape, radius, apart = ball(0.02), 0.02, 0.016
    centres = torch.tensor([[0.0, 0.0, 0.45], [apart, 0.0, 0.45], [0.05, 0.0, 0.45]])
    shared = shared_volume(shape, (torch.eye(3).expand(3, 3, 3), centres), (torch.eye(3).expand(3, 3, 3), centres))
    lens = math.pi * (4 * radius + apart) * (2 * radius - apart) ** 2 / 12 / (4 / 3 * math.pi * radius**3)
    assert shared[0, 1].item() == pytest.approx(lens, abs=0.08) == pytest.approx(shared[1, 0].item(), abs=0.08)
    assert shared.diagonal().min() == 1 and shared[0, 2] == 0


def test_no_second_part_is_put_into_the_first():
    shape = cigar()
    true = poses_of([[0.0, 0.0, 0.45]])
    observed = draw(shape, true, CAMERA).image[0].detach()
    inside = torch.tensor([[0.012, 0.0, 0.455]])  # explains one half of what the part shows, from within it
    t, r = torch.cat([true.translation[0], inside]), torch.eye(3).expand(2, 3, 3)
    both = Poses(r[None], t[None], torch.ones(1, 2, dtype=torch.bool))
    assert select(shape, r, t, observed, CAMERA, least=-1.0, most=10).tolist() == [0]
    assert prune(shape, both, observed[None], CAMERA, least=-1.0).present.tolist() == [[True, False]]


def test_a_part_that_lies_the_wrong_way_round_is_turned_over_and_no_other():
    shape = cigar()
    x = shape.voxels()[..., 0]  # a thick and a thin end
    radius = 0.006 + 0.004 * (x / 0.025)
    shape.grid.data.copy_((torch.minimum(radius - shape.voxels()[..., 1:].norm(dim=-1), 0.025 - x.abs()) * 1e3)[None, None])
    true = poses_of([[0.0, 0.02, 0.45], [0.0, -0.02, 0.45]], exponential_map(torch.tensor([[0.0, 0, 0.3], [0.0, 0, 0.1]])))
    observed = draw(shape, true, CAMERA).image.detach()
    wrong = Poses(true.rotation.clone(), true.translation, true.present)
    wrong.rotation[0, 1] = wrong.rotation[0, 1] @ torch.diag(torch.tensor([-1.0, -1, 1]))
    found, changed = turn_over(shape, wrong, observed, CAMERA)
    assert changed.tolist() == [True]
    torch.testing.assert_close(found.rotation[0, 0], true.rotation[0, 0])
    assert (found.rotation[0, 1, :, 0] * true.rotation[0, 1, :, 0]).sum() > 0.99
    assert not turn_over(shape, true, observed, CAMERA)[1].any()
    for half_turns, expected in ((True, found), (False, wrong)):
        answer = improve(shape, None, wrong, observed, CAMERA, SIZE, steps=0, least=-1.0, half_turns=half_turns)
        torch.testing.assert_close(answer.rotation, expected.rotation)


def test_what_is_left_unexplained_is_searched():
    shape = ball(0.015)
    true = poses_of([[0.02, 0.0, 0.45], [-0.02, 0.01, 0.46]])
    observed = draw(shape, true, CAMERA).image[0].detach()
    known = Poses(true.rotation[0], true.translation[0] * torch.tensor([[1.0], [0.0]]), torch.tensor([True, False]))
    library = make_library(shape, spread_rotations(4), 130.0, 0.45, 1)
    found = add_missing(shape, library, known, observed, CAMERA, SIZE, least=0.06)
    assert found.present.all()
    assert (found.translation[1] - true.translation[0, 1]).norm() < 4e-3


def disc(hole=0.0):
    """Of radius 30 mm and 12 mm high, with a hole of a share of the radius."""
    shape = Shape.in_box(32, torch.tensor([0.034, 0.034, 0.034]))
    x, y, z = shape.voxels().unbind(-1)
    radius = (x.square() + y.square()).sqrt()
    field = torch.minimum(0.03 - radius, 0.006 - z.abs())
    with torch.no_grad():
        shape.grid.copy_((torch.minimum(field, radius - hole * 0.03) if hole else field)[None, None] * 1e3)
    return shape


@pytest.mark.parametrize(("template", "hole", "found"), [(0.0, 0.5, True), (0.5, 0.5, True), (0.0, 0.9, False)])
def test_a_part_is_found_where_the_camera_looks_through_its_bore(template, hole, found):
    """The part's origin is not seen, and if the template is closed the mouth contradicts it: not too much at half the radius."""
    shape = disc(template)
    observed = draw(disc(hole), poses_of([[0.0, 0.0, 0.42]]), CAMERA).image[0].detach()
    assert observed.view(SIZE, SIZE)[SIZE // 2, SIZE // 2] < FLOOR, "the floor is seen through it"
    nothing = Poses(torch.eye(3)[None], torch.zeros(1, 3), torch.zeros(1, dtype=torch.bool))
    library = make_library(shape, torch.cat([torch.eye(3)[None], spread_rotations(20)]), float(K[0, 0]), 0.42, 1)
    answer = add_missing(shape, library, nothing, observed, CAMERA, SIZE, least=0.3)
    assert answer.present.item() == found
    if found:
        assert answer.rotation[0, 2, 2].abs() > 0.95 and (answer.translation[0] - torch.tensor([0.0, 0.0, 0.42])).norm() < 5e-3


def test_an_origin_that_lies_beside_the_part_is_searched_too():
    """An angle seen from its side: the middle of its box is not on it."""
    shape = Shape.in_box(32, torch.tensor([0.03, 0.03, 0.03]))
    x, y, z = shape.voxels().unbind(-1)
    leg, foot = torch.minimum(-0.006 - x, x + 0.024), torch.minimum(-0.006 - y, y + 0.024)
    field = torch.minimum(torch.maximum(leg, foot), torch.stack([0.024 - x.abs(), 0.024 - y.abs(), 0.006 - z.abs()]).amin(0))
    with torch.no_grad():
        shape.grid.copy_(field[None, None] * 1e3)
    observed = draw(shape, poses_of([[0.002, -0.003, 0.44]]), CAMERA).image[0].detach()
    library = make_library(shape, torch.eye(3)[None], float(K[0, 0]), 0.44, 1)
    assert library.hollow.item() >= 2
    _, translation, _ = PoseSearch(library, observed, CAMERA, SIZE).pick()
    assert (translation - torch.tensor([0.002, -0.003, 0.44])).norm() < 5e-3  # about a pixel


# the explicit encoder's training


def test_rolling_an_image_is_rolling_the_poses():
    shape = cigar()
    poses = poses_of([[0.015, 0.004, 0.45], [-0.012, -0.01, 0.46]], exponential_map(torch.tensor([[0.2, 0.4, 0.3], [0.0, 0.3, 1.2]])))
    image = draw(shape, poses, CAMERA).image.detach().view(1, 1, SIZE, SIZE)
    angle = torch.tensor([0.7])
    turned = draw(shape, roll_poses(poses, angle, torch.tensor([0.0, 0, 1])), CAMERA).image.detach().view(1, 1, SIZE, SIZE)
    assert (roll(image, angle) - turned).abs().mean() < 0.02 < (image - turned).abs().mean()


def perfect(poses, cells):
    """What an encoder that knows ``poses`` (B = 1) says on cells × cells, with one wrong and one right hypothesis."""
    pixel = project(poses.translation, K)
    cell = ((pixel[0] + 0.5) / 4 - 0.5)
    grid = torch.stack(torch.meshgrid(torch.arange(cells), torch.arange(cells), indexing="xy"), -1).float()
    distance = (grid[:, :, None] - cell).norm(dim=-1)
    owner = distance.argmin(-1)
    soft = (-(distance.amin(-1) ** 2) / (2 * 0.6**2)).exp().clamp(1e-4, 1 - 1e-4)
    t = poses.translation[0][owner]
    seen = tilt_towards((t / t[..., 2:]).flatten(0, 1)).transpose(1, 2) @ poses.rotation[0][owner].flatten(0, 1)
    rotation = torch.stack([seen, seen @ exponential_map(torch.tensor([0.0, 1.0, 0]))], 1).view(1, cells, cells, 2, 3, 3)
    weight = torch.tensor([5.0, -5.0]).expand(1, cells, cells, 2)
    return PoseMap(torch.logit(soft)[None], pixel[0][owner][None], CAMERA.value(t[..., 2])[None], rotation, weight)


def test_losses_vanish_for_the_truth_and_candidates_give_it_back():
    shape = cigar()
    poses = poses_of([[0.015, 0.004, 0.45], [-0.012, -0.01, 0.46]], exponential_map(torch.tensor([[0.2, 0.4, 0.3], [0.0, 0.3, 1.2]])))
    found = perfect(poses, 8)
    targets = Targets(poses, project(poses.translation, K), torch.ones(1, 2))
    losses = pose_losses(found, targets, CAMERA, shape.surface_points(32))
    assert losses["position"] < 1e-4 and losses["depth"] < 1e-4 and losses["hypothesis"] < 1e-3
    assert losses["rotation"] < 0.05  # a tenth of the wrong hypothesis' distance
    off = pose_losses(found._replace(value=found.value + 0.1), targets, CAMERA, shape.surface_points(32))
    assert off["depth"] == pytest.approx(0.1, abs=1e-4)
    c = candidates(found, 0, CAMERA, K, count=4, least=0.3)
    for r, t in zip(poses.rotation[0], poses.translation[0]):
        distance = (c.translation - t).norm(dim=1) + (c.rotation - r).flatten(1).norm(dim=1)
        assert distance.min() < 0.01  # both hypotheses of every cell are candidates; one is the truth


def test_the_rotation_loss_does_not_tell_rotations_apart_that_look_alike():
    shape = cigar()
    poses = poses_of([[0.0, 0.0, 0.45]])
    targets = Targets(poses, project(poses.translation, K), torch.ones(1, 1))
    surface = shape.surface_points(400)

    def loss(turn):
        found = perfect(poses, 8)
        rotation = found.rotation.clone() @ exponential_map(torch.tensor(turn))
        return pose_losses(found._replace(rotation=rotation[..., :1, :, :], weight=found.weight[..., :1]), targets, CAMERA, surface)["rotation"].item()

    about_axis, across = loss([1.0, 0.0, 0.0]), loss([0.0, 0.0, 1.0])
    assert across > 2.5 * about_axis


def test_trust_follows_what_the_image_confirms():
    shape = cigar()
    true = poses_of([[0.02, 0.0, 0.45], [-0.02, 0.0, 0.45]], exponential_map(torch.tensor([[0.0, 0, 1.5], [0.0, 0, 1.6]])))
    observed = draw(shape, true, CAMERA).image.detach()
    wrong = Poses(true.rotation, true.translation + torch.tensor([[0.0, 0, 0], [0, 0.0, -0.02]]), true.present)
    trust = trust_in(shape, wrong, observed, CAMERA)[0]
    assert trust[0] > 0.8 and trust[1] < 0.1


# the answer


def two_boxes(size=16, frame=64):
    """A frame of two flat parts, the nearer over the farther, and their renderings at a quarter of its size."""
    depth = np.full((frame, frame), 0.5, np.float32)
    depth[20:44, 8:40], depth[26:38, 24:60] = 0.46, 0.44
    camera = np.array([[260.0, 0, 31.5], [0, 260.0, 31.5], [0, 0, 1]])
    normalisation = Normalisation(camera, (frame, frame), (0, 0, frame), size, 0.4, 0.5, np.full((8, 8), 0.5, np.float32), 0.005)
    opacity = np.zeros((3, size, size), np.float32)
    opacity[0, 5:11, 2:10], opacity[1, 7:9, 6:15], opacity[1, [6, 9], 6:15] = 1, 1, 0.5  # half covered pixels at the outline
    rendered = np.stack([np.full((size, size), z, np.float32) for z in (0.461, 0.439, 0.45)])  # the third is empty
    return Frame(depth, camera), Singles(np.full((size, size), -1, np.float32), rendered, opacity), normalisation


def test_labels_follow_the_observed_outline_and_layers_what_is_hidden():
    frame, singles, normalisation = two_boxes()
    answer = label_frame(frame, singles, normalisation, tolerance=0.012, min_pixels=20)
    assert len(answer) == 2  # the empty rendering is dropped
    upper = np.zeros(frame.shape, bool)
    upper[26:38, 24:60] = True
    lower = np.zeros(frame.shape, bool)
    lower[20:44, 8:40] = True
    assert ((answer.labels == 2) == upper).mean() > 0.995
    assert ((answer.labels == 1) == (lower & ~upper)).mean() > 0.995
    hidden = answer.layers[1] == 1
    assert (hidden == (lower & upper)).mean() > 0.99
    assert answer.visible_fraction[0] == pytest.approx((lower & ~upper).sum() / lower.sum(), abs=0.05)
    assert answer.visible_fraction[1] > 0.95 and answer.depth_order.tolist() == [1, 0]
    assert answer.score.min() > 0.8
    np.testing.assert_allclose(answer.centroid[:, 2], [0.461, 0.439], atol=1e-3)


def test_what_is_rendered_but_not_there_lowers_the_score_or_is_dropped():
    frame, singles, normalisation = two_boxes()
    opacity = singles.opacity.copy()
    opacity[2, 12:15, 2:14] = 1  # in front of the floor
    answer = label_frame(frame, Singles(singles.image, singles.depth, opacity), normalisation, tolerance=0.012, min_pixels=20)
    assert len(answer) == 2
    opacity[1, 1:15, 5:16] = 1
    worse = label_frame(frame, Singles(singles.image, singles.depth, opacity), normalisation, tolerance=0.012, min_pixels=20)
    assert worse.score[1] < answer.score[1] - 0.2


def test_specks_go_to_what_surrounds_them_and_large_patches_stay():
    labels = np.zeros((60, 80), np.uint16)
    labels[10:50, 10:40], labels[10:50, 40:70] = 1, 2
    truth = labels.copy()
    labels[20:23, 50:53] = 1  # nine pixels, apart from the rest of instance 1
    labels[30, 12:20] = 2
    truth[12:30, 60:69] = labels[12:30, 60:69] = 1  # a part that is seen on both sides of another
    np.testing.assert_array_equal(_without_specks(labels, truth > 0, 20.0), truth)


def test_layers_are_as_deep_as_the_pile():
    size, n = 16, 6
    camera = np.array([[65.0, 0, 7.5], [0, 65.0, 7.5], [0, 0, 1]])
    normalisation = Normalisation(camera, (size, size), (0, 0, size), size, 0.3, 0.5, np.full((8, 8), 0.5, np.float32), 0.005)
    opacity = np.zeros((n, size, size), np.float32)
    depth = np.stack([np.full((size, size), 0.4 + 0.01 * i, np.float32) for i in range(n)])
    view = np.full((size, size), 0.5, np.float32)
    for i in range(n):  # each is covered by all before it but for two columns
        opacity[i, 3:13, 2 : 4 + 2 * i] = 1
        view[3:13, 2 + 2 * i if i else 2 : 4 + 2 * i] = 0.4 + 0.01 * i
    answer = label_frame(Frame(view, camera), Singles(opacity[0], depth, opacity), normalisation, tolerance=0.004, min_pixels=5)
    assert answer.layers.shape[0] == n
    np.testing.assert_array_equal(answer.layers[:, 8, 2], np.arange(1, n + 1))
    np.testing.assert_array_equal(answer.layers[:, 8, 12], [n] + [0] * (n - 1))


def segmenter(kind, perspective=True, **thresholds):
    torch.manual_seed(0)
    camera = np.array([[260.0, 0, 31.5], [0, 260.0, 31.5], [0, 0, 1]])
    normalisation = Normalisation(camera, (64, 64), (0, 0, 64), SIZE, 0.38, 0.5, np.full((8, 8), 0.5, np.float32), 0.004)
    network = GanNetwork(GeneratorConfig(**SMALL)) if kind == "gan" else ExplicitNetwork(ExplicitConfig(size=SIZE, width=4, perspective=perspective), cigar())
    return InSeGANSegmenter(network, normalisation, Thresholds(**thresholds), torch.device("cpu"))


SEARCHED = {"search": True, "refine_steps": 8, "probability": 0.99}


@pytest.mark.parametrize("kind, options", [("gan", {"median": 3, "blur": 1.0}), ("explicit", SEARCHED), ("explicit", SEARCHED | {"perspective": False})])
def test_the_segmenter_answers_and_explains(kind, options):
    one = segmenter(kind, **options)
    K64 = torch.tensor(one.normalisation.K, dtype=torch.float32)
    true = poses_of([[0.02, 0.0, 0.45], [-0.02, 0.0, 0.45]], exponential_map(torch.tensor([[0.0, 0, 1.5], [0.0, 0, 1.6]])))
    scene = draw(cigar(), true, Camera(pixel_rays(K64, 64, 64), 0.38, 0.5))
    depth = torch.where(scene.opacity[0] > 0.5, scene.depth[0], torch.tensor(0.5)).amin(0).view(64, 64).detach().numpy()
    frame = Frame(depth, one.normalisation.K)
    first, second = one.segment(frame), one.segment(frame)
    np.testing.assert_array_equal(first.labels, second.labels)
    pictures = one.explain(frame)
    assert {"input", "hallucinated"} <= pictures.keys() and all(p.shape == (SIZE, SIZE) for p in pictures.values())
    assert len(one.segment(Frame(np.full((64, 64), np.nan, np.float32), one.normalisation.K))) == 0
    if kind == "explicit":  # the untrained encoder is told to be silent: the search alone finds both parts
        assert len(first) == 2 and len(pictures) == 4
        truth = (scene.opacity[0] > 0.5).view(2, 64, 64).numpy()
        for mask in truth:
            assert max((mask & (first.labels == i)).sum() / (mask | (first.labels == i)).sum() for i in (1, 2)) > 0.9
        order = np.argsort(-first.centroid[:, 0])
        np.testing.assert_allclose(first.centroid[order], true.translation[0], atol=2e-3)
        assert first.covariance[0].diagonal().max() == pytest.approx(0.025**2 / 3, rel=0.25)


def test_unknown_thresholds_are_refused():
    with pytest.raises(InputError, match="sharpness"):
        Thresholds.from_dict({"sharpness": 1})


def test_segment_explain_writes_pictures_and_other_methods_refuse_it(tmp_path, capsys):
    from instseg_ros import cli
    from instseg_ros.methods.classical.segmenter import write_classical_model
    from instseg_ros.methods.model_directory import write_model

    one = segmenter("explicit", search=True, probability=0.99)
    config = {
        "method": "insegan", "network": {"kind": "explicit", "size": SIZE, "width": 4, "grid": list(one.network.shape.grid.shape[2:])},
        "input": {"modalities": ["depth"]}, "thresholds": {"search": True, "probability": 0.99}, "normalisation": one.normalisation.to_dict(),
    }  # fmt: skip
    write_model(tmp_path / "m", config=config, weights=one.network.state_dict(), card="")
    depth = np.full((64, 64), 0.5, np.float32)
    depth[20:44, 26:38] = 0.45
    np.save(tmp_path / "view.npy", depth)
    command = ["segment", str(tmp_path / "view.npy"), "--intrinsics", "260,260,31.5,31.5", "--out", str(tmp_path / "out"), "--explain", "--model"]
    assert cli.main([*command, str(tmp_path / "m")]) == 0
    assert {"view_input.png", "view_hallucinated.png", "view_single1.png"} <= {p.name for p in (tmp_path / "out").iterdir()}
    assert "behind the empty bin" not in capsys.readouterr().err
    np.save(tmp_path / "view.npy", depth + np.float32(0.02))
    assert cli.main([*command, str(tmp_path / "m")]) == 0  # answered all the same
    assert "behind the empty bin" in capsys.readouterr().err
    write_classical_model(tmp_path / "classical")
    assert cli.main([*command, str(tmp_path / "classical")]) == 2
    assert "renders no instances" in capsys.readouterr().err
