"""Training of InSeGAN from unlabelled images: every configuration for two steps, resuming, and the template found in toy scenes."""

import numpy as np
import pytest
import torch
import yaml
from torch.nn.utils import parameters_to_vector

pytest.importorskip("pytorch_lightning", reason="needs requirements/train.txt")

from instseg_ros.benchmarks import Options
from instseg_ros.benchmarks.insegan import LADDER, Step
from instseg_ros.benchmarks.insegan import run as run_benchmark
from instseg_ros.errors import InputError
from instseg_ros.frame import Frame
from instseg_ros.methods.insegan.generator import Generator, GeneratorConfig
from instseg_ros.methods.insegan.normalisation import Normalisation
from instseg_ros.methods.insegan.refine import Camera, Poses, draw, mismatch
from instseg_ros.methods.insegan.rotations import exponential_map
from instseg_ros.methods.insegan.shape import Shape, pixel_rays
from instseg_ros.methods.segmenter import load_segmenter
from instseg_ros.training.config import read_training_config
from instseg_ros.training.depth_images import DepthImages
from instseg_ros.training.fit_insegan import RunConfig, check_insegan, fit_insegan
from instseg_ros.training.insegan_template import TemplateConfig, learn_template

SIZE = 32
K = np.array([[130.0, 0, 15.5], [0, 130.0, 15.5], [0, 0, 1]])
NORMALISATION = Normalisation(K, (SIZE, SIZE), (0, 0, SIZE), SIZE, 0.38, 0.5, np.full((8, 8), 0.5, np.float32), 0.004)
CAMERA = Camera(pixel_rays(torch.tensor(K, dtype=torch.float32), SIZE, SIZE), 0.38, 0.5)
GAN = {"network": dict(size=32, volume=8, features=16, volume_channels=4, template_channels=8, latent=8, instances=2), "trainer": {"batch_size": 4, "epochs": 1}}
EXPLICIT = {
    "network": {"kind": "explicit", "size": SIZE, "instances": 2, "width": 4},
    "template": {"rounds": 1, "images": 4, "rotations": 24, "steps": 2, "trial_images": 2, "resolution": 12},
    "pool": {"images": 6, "rotations": 24, "steps": 2},
    "trainer": {"batch_size": 4, "epochs": 3},
}


def scenes(count, seed=0):
    """(count, S, S) values of two cigars of 50 × 18 mm each, on the floor or on each other."""
    shape = Shape.in_box(24, torch.tensor([0.03, 0.014, 0.014]))
    shape.set_ellipsoid(torch.tensor([0.025, 0.009, 0.009]))
    g = torch.Generator().manual_seed(seed)
    place = (torch.rand(count, 2, 3, generator=g) - 0.5) * torch.tensor([0.06, 0.06, 0.0]) + torch.tensor([0, 0, 0.485])
    place[:, 1, 2] -= 0.02
    turn = torch.rand(count, 2, 1, generator=g) * torch.tensor([0.0, 0.0, 3.14]) + torch.tensor([0.0, 0.1, 0.0])
    with torch.no_grad():
        image = draw(shape, Poses(exponential_map(turn), place, torch.ones(count, 2, dtype=torch.bool)), CAMERA).image
    return image.clamp(-1, 1).view(count, SIZE, SIZE)


def images(count=8):
    return DepthImages(scenes(count).numpy(), NORMALISATION, {"source": "toy", "frames": count, "distinct": count})


@pytest.mark.parametrize(
    "config",
    [
        GAN,
        GAN | {"network": GAN["network"] | {"kind": "2d"}, "loss": {"matching": "greedy", "spectral": True}},
        GAN | {"loss": {"matching": "hungarian", "r1": 1.0, "diffaugment": True, "real": 1.0}, "optimizer": {"ema": 0.99}},
        GAN | {"trainer": GAN["trainer"] | {"precision": "bf16-mixed"}},
        EXPLICIT,
        EXPLICIT | {"loss": {"adversarial": 0.1}, "thresholds": {"search": True, "refine_steps": 2}},
        EXPLICIT | {"network": EXPLICIT["network"] | {"perspective": False, "composition": "mean"}},
        EXPLICIT | {"loss": {"real": 0.0, "drop": 0.0}},
        EXPLICIT | {"loss": {"real": 1.0}},
    ],
    ids=["faithful", "2d", "remedies", "bfloat16", "explicit", "explicit-adversarial", "explicit-flat-mean", "explicit-drawn-alone", "explicit-real-alone"],
)
def test_two_steps_of_every_configuration_give_a_model_that_answers(config, tmp_path):
    metrics = fit_insegan(images(), tmp_path / "m", config, seed=0, resume=False, limit_steps=2, validation=images(3))
    assert metrics.keys() == {"mismatch", "coverage", "instances"}
    segmenter = load_segmenter(tmp_path / "m", "cpu")
    assert not segmenter.needs_color
    depth = NORMALISATION.to_metres(scenes(1)[0].numpy())
    answer = segmenter.segment(Frame(depth, K))
    assert answer.labels.shape == depth.shape
    stored = yaml.safe_load((tmp_path / "m" / "model.yaml").read_text())
    assert stored["method"] == "insegan" and stored["normalisation"]["size"] == SIZE and stored["amodal"] is True
    assert "toy" in (tmp_path / "m" / "README.md").read_text()


def test_a_run_is_resumed_where_it_stopped_and_never_overwritten(tmp_path):
    out = tmp_path / "m"
    with pytest.raises(InputError, match="nothing to resume"):
        check_insegan(out, EXPLICIT, resume=True)
    fit_insegan(images(), out, EXPLICIT, seed=0, resume=False, limit_steps=1)
    template = (out / "run" / "template.safetensors").read_bytes()
    with pytest.raises(InputError, match="--resume"):
        fit_insegan(images(), out, EXPLICIT, seed=0, resume=False)
    fit_insegan(images(), out, EXPLICIT, seed=0, resume=True, limit_steps=3)
    assert (out / "run" / "template.safetensors").read_bytes() == template
    assert torch.load(out / "run" / "last.ckpt", weights_only=True)["global_step"] == 3


@pytest.mark.parametrize("name", ["insegan_faithful", "insegan_2d", "insegan_improved"])
def test_shipped_configurations_are_valid(name):
    run = RunConfig.read(read_training_config(name))
    assert run.network.size == 64 and run.network.instances == 5


@pytest.mark.parametrize(
    "config, word",
    [({"nets": {}}, "nets"), (GAN | {"template": {"rounds": 1}}, "explicit"), ({"network": {"kind": "explicit"}, "loss": {"matching": "ot"}}, "matching"), ({"network": {"instances": 0}}, "instances"),
     (EXPLICIT | {"template": {"starts": 16}}, "starts"), (EXPLICIT | {"template": {"starts": 2, "start_rounds": 9}}, "start_rounds"),
     (EXPLICIT | {"network": {"kind": "explicit", "composition": "max"}}, "composition"), (EXPLICIT | {"network": {"kind": "explicit", "perspective": 1}}, "perspective"),
     (EXPLICIT | {"trainer": {"precision": "bf16-mixed"}}, "bf16-mixed"), (GAN | {"trainer": {"precision": "half"}}, "half"),
     (EXPLICIT | {"loss": {"real": 1.5}}, "real"), (EXPLICIT | {"loss": {"real": 0.0, "adversarial": 0.1}}, "between 0 and 1")],
)
def test_bad_configurations_are_refused_before_anything_is_written(config, word, tmp_path):
    with pytest.raises(InputError, match=word):
        check_insegan(tmp_path / "m", config, resume=False)
    assert not (tmp_path / "m").exists()


def test_the_template_is_learned_from_unlabelled_images():
    pictures = scenes(16).flatten(1)
    losses = []

    def look(turn, shape, batch, poses):
        with torch.no_grad():
            losses.append(mismatch(draw(shape, poses, CAMERA).image, batch).mean().item())

    config = TemplateConfig(resolution=20, rounds=2, images=8, rotations=60, steps=12, batch=8, trial_images=4)
    shape = learn_template(pictures, CAMERA, SIZE, 2, config, 0, lambda items, name: items, look)
    inside = shape.voxels()[shape.grid[0, 0] > 0]
    size = (inside.amax(0) - inside.amin(0)).sort().values * 1e3
    assert losses[-1] < 0.06 < mismatch(torch.full_like(pictures, -1.0), pictures).mean()
    # Millimetres, to about a voxel. From above a lying cigar of 50 × 18 and a disc on its edge look alike.
    assert 38 < size[2] < 58 and 10 < size[0] < 25


def ellipsoid(*half_axes):
    shape = Shape.in_box(20, torch.tensor(half_axes) + 0.006)
    shape.set_ellipsoid(torch.tensor(half_axes))
    return shape


@pytest.mark.parametrize("good", [0, 1])
def test_of_several_starts_the_one_that_explains_the_images_goes_on(good, monkeypatch):
    starts = [ellipsoid(0.004, 0.004, 0.004), ellipsoid(0.004, 0.004, 0.004)]
    starts[good] = ellipsoid(0.025, 0.009, 0.009)  # the truth
    monkeypatch.setattr("instseg_ros.training.insegan_template.first_templates", lambda *_: [*starts, ellipsoid(0.02, 0.02, 0.02)])
    left, seen = [], []
    config = TemplateConfig(resolution=20, rounds=2, start_rounds=1, starts=2, polish=1, images=6, rotations=48, steps=6, batch=6, trial_images=2)
    shape = learn_template(
        scenes(12).flatten(1), CAMERA, SIZE, 2, config, 0, lambda items, name: items, lambda turn, *_: seen.append(turn),
        lambda what, values: left.extend(values) if what == "starts" else None,
    )  # fmt: skip
    assert seen == [0, 0, 1, 2]  # the first round of both, the second and the polish of one
    assert len(left) == 2 and left[good] < 0.7 * left[1 - good]
    inside = shape.voxels()[shape.grid[0, 0] > 0]
    assert 0.038 < (inside.amax(0) - inside.amin(0)).max() < 0.062


@pytest.fixture
def double():
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def test_every_rung_of_the_benchmark_has_the_straightforward_step_s_losses_and_gradients(double):
    """In double precision; plain gradient descent leaves the gradients in the parameters."""
    network, pictures = GeneratorConfig(**GAN["network"]), torch.rand(3, 1, SIZE, SIZE) * 2 - 1
    results = {}
    for name, rung in LADDER.items():
        torch.manual_seed(0)
        step = Step(rung, network)
        parts = {"discriminator": step.discriminator, "generator": step.generator, "encoder": step.encoder}
        step.each_optimizer = [torch.optim.SGD(part.parameters(), lr=0.01) for part in parts.values()]
        before = {part: parameters_to_vector(module.parameters()).clone() for part, module in parts.items()}
        if not rung.half:
            step.training_step([pictures], 0)
            moved = {part: parameters_to_vector(module.parameters()) - before[part] for part, module in parts.items()}
            results[name] = step.losses | moved
    expected = results.pop("straightforward")
    assert len(results) == sum(not rung.half for rung in LADDER.values()) - 1 and expected.keys() > {"D", "G", "alignment", "intermediate", "perceptual", "generator"}
    for name, found in results.items():
        for key, value in expected.items():
            error = (found[key] - value).norm() / value.norm()
            assert value.norm() > 0 and error < 1e-6, (name, key)


def test_the_benchmark_tells_every_rung(monkeypatch):
    monkeypatch.setattr("instseg_ros.benchmarks.insegan.STEPS", 1)
    result = run_benchmark(Options(frames=1, device="cpu"))
    rungs = result["rungs"]
    assert list(rungs) == list(LADDER) and result["batch"] == 1 and result["speedup"] == rungs[result["chosen"]]["speedup"]
    for rung in rungs.values():
        assert rung["speedup"] == pytest.approx(rungs["straightforward"]["seconds"] / rung["seconds"], rel=0.02)
        assert rung["images_per_second"] == pytest.approx(1 / rung["seconds"], rel=0.02)


def test_poses_are_exact_in_half_precision():
    torch.manual_seed(0)
    instances = Generator(GeneratorConfig(**GAN["network"])).instances
    z, volume = torch.randn(3, 8), instances.template()
    exact = instances.move(volume, z)
    with torch.autocast("cpu", torch.bfloat16):
        torch.testing.assert_close(instances.move(volume, z), exact, atol=0, rtol=0)
