"""The shipped InSeGAN models say which part they know: `bench segment` and `evaluate --benchmark` ask them."""

from __future__ import annotations

import pytest

pytest.importorskip("mujoco", reason="needs requirements/synth.txt")

from instseg_ros.methods.model_directory import read_config
from instseg_ros.resources import find_model
from instseg_ros.synthesis.benchmark import read_benchmark

PARTS = "bolt", "connector", "cylinder", "nut", "obj05", "obj14"


@pytest.mark.parametrize("part", PARTS)
def test_a_shipped_model_names_its_part(part):
    training = read_config(find_model(f"insegan-{part}"))["training"]
    assert training["parts"] == [part] and part in read_benchmark("insta10-sim-small").parts
