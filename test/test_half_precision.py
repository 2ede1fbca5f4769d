"""Half precision: chosen by what the hardware multiplies, and without harm to the answer."""

import numpy as np
import pytest
import torch

from instseg_ros.bags import read_frames
from instseg_ros.methods import fused, half_precision, load_segmenter
from instseg_ros.methods.clusternet import segmenter
from instseg_ros.resources import find_bag, find_model
from instseg_ros.training import config


@pytest.mark.parametrize(
    ("device", "capabilities", "expected"),
    [
        ("cuda", {}, torch.float16),
        ("cpu", {"avx512_bf16": True}, torch.bfloat16),
        ("cpu", {"avx512_bf16": False}, None),
        ("cpu", {"architecture": "aarch64"}, None),
        ("mps", {"avx512_bf16": True}, None),
    ],
)
def test_half_precision_is_what_the_hardware_multiplies(device, capabilities, expected, monkeypatch):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities)
    assert half_precision.half_type.__wrapped__(device) == expected


def test_the_answer_is_the_same_but_for_its_borders(monkeypatch):
    frame = next(iter(read_frames(find_bag())))
    answers = []
    for kind in (None, torch.bfloat16):  # emulated, and slow, where the CPU has none
        for module in (half_precision, fused, segmenter):
            monkeypatch.setattr(module, "half_type", lambda device, kind=kind: kind)
        answers.append(load_segmenter(find_model("clusternet-bin"), "cpu").segment(frame))
    full, half = answers
    assert len(full) == len(half) > 5
    nearest = np.linalg.norm(full.centroid[:, None] - half.centroid[None], axis=2)
    match = nearest.argmin(1)
    assert sorted(match) == list(range(len(full))) and nearest.min(1).max() < 1e-3  # metres
    mapped = np.concatenate([[0], match + 1])[full.labels]
    assert (mapped == half.labels).mean() > 0.995


@pytest.mark.parametrize(("precision", "cuda", "half", "expected"), [
    ("auto", False, None, "32-true"), ("auto", False, torch.bfloat16, "bf16-mixed"), ("auto", True, torch.float16, "bf16-mixed"),
    ("32-true", True, torch.float16, "32-true"), ("bf16-mixed", False, None, "bf16-mixed"),
])  # fmt: skip
def test_training_takes_the_precision_that_the_hardware_is_faster_in(precision, cuda, half, expected, monkeypatch):
    asked = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda)
    monkeypatch.setattr(config, "half_type", lambda device: asked.append(device) or half)
    assert config.TrainerConfig(precision=precision).chosen_precision == expected
    assert asked in ([], ["cuda" if cuda else "cpu"])
