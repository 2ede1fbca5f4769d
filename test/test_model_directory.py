"""Model directories: round trip, and every way in which one can be broken."""

import pickle

import pytest
import torch
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from instseg_ros.errors import InputError
from instseg_ros.methods import ModelDirectory, load_segmenter, write_model
from instseg_ros.methods.segmenter import choose_device

CONFIG = {"method": "clusternet", "network": {"inputs": ["depth"]}, "input": {"modalities": ["depth"]}, "thresholds": {"mask": 0.5}}
WEIGHTS = {"a.weight": torch.arange(6.0).view(2, 3), "a.steps": torch.tensor(3)}


@pytest.fixture
def model(tmp_path):
    write_model(tmp_path / "model", config=CONFIG, weights=WEIGHTS, card="# A model\n")
    return tmp_path / "model"


def edit(model, change):
    file = model / "model.yaml"
    config = yaml.safe_load(file.read_text())
    change(config)
    file.write_text(yaml.safe_dump(config))


def test_round_trip(model):
    read = ModelDirectory.read(model)
    assert read.method == "clusternet" and read.config["thresholds"] == {"mask": 0.5}
    assert all(torch.equal(read.weights[name], value) for name, value in WEIGHTS.items())
    assert sorted(p.name for p in model.iterdir()) == ["README.md", "model.safetensors", "model.yaml"]  # no temporary file


def truncate(model):
    file = model / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-8])


def replace_by_pickle(model):
    (model / "model.safetensors").unlink()
    (model / "model.pt").write_bytes(pickle.dumps({"a": 1}))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (truncate, "truncated"),
        (replace_by_pickle, "model.pt is a pickle"),
        (lambda m: (m / "model.safetensors").unlink(), "model.safetensors is missing"),
        (lambda m: (m / "model.yaml").unlink(), "model.yaml is missing"),
        (lambda m: (m / "model.yaml").write_text("a: [1"), "not valid YAML"),
        (lambda m: (m / "model.yaml").write_text("- 1\n- 2\n"), "got list"),
        (lambda m: (m / "model.yaml").write_bytes(b"\xff\xfe\x00"), "not valid YAML"),
        (lambda m: edit(m, lambda c: c.pop("thresholds")), "'thresholds' is missing"),
        (lambda m: edit(m, lambda c: c.update(colour=1)), "unknown key 'colour'"),
        (lambda m: edit(m, lambda c: c.update(network=3)), "'network'"),
        (lambda m: edit(m, lambda c: c.update(weights_sha256="0" * 64)), "sha256"),
    ],
)
def test_damage_is_named(model, damage, message):
    damage(model)
    with pytest.raises(InputError, match=message) as error:
        ModelDirectory.read(model)
    assert "\n" not in str(error.value)


def test_missing_directory_points_at_the_list(tmp_path):
    with pytest.raises(InputError, match="instseg models"):
        ModelDirectory.read(tmp_path / "nothing")


def test_unknown_method_and_misfitting_weights(model):
    with pytest.raises(InputError, match="weights do not fit"):
        load_segmenter(model, "cpu")
    edit(model, lambda c: c.update(method="sorcery"))
    with pytest.raises(InputError, match="'sorcery'.*clusternet"):
        load_segmenter(model, "cpu")
    edit(model, lambda c: c.update(method="clusternet", network={"depht": 1}))
    with pytest.raises(InputError, match="depht"):
        load_segmenter(model, "cpu")


def test_device_names():
    assert choose_device("cpu").type == "cpu" and choose_device("auto").type in ("cpu", "cuda")
    for name in ("gpu", "cuda:99"):
        with pytest.raises(InputError, match=name):
            choose_device(name)


def test_failed_write_leaves_no_half_model(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot write"):
        write_model(tmp_path / "file" / "model", config=CONFIG, weights=WEIGHTS, card="")
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=st.text(max_size=60))
def test_no_text_in_model_yaml_raises_anything_else(model, text):
    (model / "model.yaml").write_text(text, encoding="utf-8", errors="replace")
    with pytest.raises(InputError):
        ModelDirectory.read(model)
