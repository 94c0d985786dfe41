"""What is planted is there: in scans, in networks, in configurations."""

from __future__ import annotations

import numpy as np
import planted_networks
import planted_scans
import pytest
import torch
import training_sets
from planted_networks import (
    dead_rectifiers,
    deep_without_norms,
    frozen,
    is_norm,
    overflowing_half,
    zero_head,
)
from planted_training import CASES, COMPARED, FAULTS, HEALTHY, options_of
from planting import Scan
from training_sets import sound_scans, take_in, write_repaired, write_upload

from octa_backend.data.scans import MaskPixels
from octa_backend.diagnosis.doctor import CHECKS
from octa_backend.models.tiny import WNet
from octa_backend.training.config import TrainConfig
from octa_backend.training.dead_channels import DeadChannels

SIDE = 48


@pytest.mark.skipif(not training_sets.rossa_zip().exists(), reason="rossa.zip is not there")
def test_real_scans_are_scaled_with_their_masks(monkeypatch):
    monkeypatch.setattr(training_sets, "TRAIN", 2)
    monkeypatch.setattr(training_sets, "VAL", 1)
    made = training_sets.sound_scans.__wrapped__("rossa", 0)
    assert [scan.split for scan in made] == ["train", "train", "val"]
    assert {scan.image.shape[1:] for scan in made} == {scan.mask.values.shape for scan in made}
    assert all(0.02 < (scan.mask.values > 0).mean() < 0.3 for scan in made)


@pytest.fixture(scope="module")
def scans():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training_sets, "TRAIN", 9)
        patch.setattr(training_sets, "VAL", 3)
        patch.setitem(training_sets.SIDES, "drawn", SIDE)
        yield sound_scans("drawn", 0)
    sound_scans.cache_clear()


@pytest.fixture
def network():
    torch.manual_seed(0)
    return WNet(in_channels=1)


FP32, FP16 = (TrainConfig(precision=precision) for precision in ("fp32", "fp16"))


# --- scans ------------------------------------------------------------------------------------------------------------


def taken(scans, folder):
    write_upload(folder / "scans.zip", scans)
    return take_in(folder / "scans.zip", folder / "data")


def planted(plant, scans):
    return plant(scans, np.random.default_rng(0))


def test_sound_scans_are_divided_as_they_say(scans, tmp_path):
    found = taken(scans, tmp_path)
    assert (len(found.data.train), len(found.data.val), found.data.test) == (9, 3, ())
    assert found.data.store.image(0).shape == (1, SIDE, SIDE)
    assert not {code for code, severity in found.findings.items() if severity == "error"}


@pytest.mark.parametrize(
    ("plant", "finding"),
    [
        (planted_scans.inverted, "masks_inverted"),
        (planted_scans.grey, "masks_not_binary"),
        (planted_scans.with_nan, "values_not_finite"),
    ],
    ids=["inverted", "grey", "nan"],
)
def test_checks_of_the_data_see_planted_scans_and_their_remedy_mends_them(plant, finding, scans, tmp_path):
    found = taken(planted(plant, scans), tmp_path)
    assert finding in found.findings
    remedy = {"masks_inverted": "invert_masks", "masks_not_binary": "binarize_masks"}.get(finding, "drop_unusable")
    assert write_repaired(tmp_path / "scans.zip", lambda _: [remedy], tmp_path / "repaired.zip")
    assert finding not in take_in(tmp_path / "repaired.zip", tmp_path / "repaired").findings


def test_scans_with_nan_are_left_out_of_training_alone(scans, tmp_path):
    found = taken(planted(planted_scans.with_nan, scans), tmp_path)
    assert (len(found.data.train), len(found.data.val)) == (8, 3)


def test_a_repair_that_changes_nothing_writes_nothing(scans, tmp_path):
    write_upload(tmp_path / "scans.zip", scans)
    assert not write_repaired(tmp_path / "scans.zip", lambda _: ["invert_masks"], tmp_path / "repaired.zip")
    assert not (tmp_path / "repaired.zip").exists()


@pytest.mark.parametrize("plant", [planted_scans.shuffled, planted_scans.shifted], ids=["shuffled", "shifted"])
def test_misplaced_masks_hardly_overlap_their_own(plant, scans):
    pairs = zip(scans, planted(plant, scans), strict=True)
    overlaps = [2 * (a.inside & b.inside).sum() / (a.inside.sum() + b.inside.sum()) for a, b in pairs]
    assert np.mean(overlaps) < 0.4


def test_a_fifth_of_the_labels_is_wrong_where_two_fifths_are_random(scans):
    pairs = zip(scans, planted(planted_scans.random_labels, scans), strict=True)
    assert np.mean([(a.inside != b.inside).mean() for a, b in pairs]) == pytest.approx(0.2, abs=0.02)


def test_scarce_foreground_is_bright_and_scarce():
    dark = Scan("dark", np.zeros((1, 128, 128), np.uint8), MaskPixels(np.zeros((128, 128), np.uint8)))
    spotted = planted(planted_scans.scarce, 5 * [dark])
    assert np.mean([scan.inside.mean() for scan in spotted]) == pytest.approx(planted_scans.SCARCE_SHARE, rel=0.2)
    assert all(scan.image[0][scan.inside].min() >= planted_scans.SPOT_LIGHT for scan in spotted)


def test_few_scans_are_few_to_learn_from_alone(scans):
    splits = [scan.split for scan in planted(planted_scans.few, scans)]
    assert (splits.count("train"), splits.count("val")) == (planted_scans.FEW, 3)


# --- networks ---------------------------------------------------------------------------------------------------------


def test_a_frozen_encoder_learns_nothing_and_the_rest_does(network):
    changed = frozen(network, FP32)
    learning = {name for name, parameter in changed.named_parameters() if parameter.requires_grad}
    assert learning
    assert not any("encoder" in name for name in learning)
    assert not any(parameter.requires_grad for parameter in changed.gradient_groups()["encoder_conv1"])


def test_zero_heads_give_logits_of_zero(network):
    assert zero_head(network, FP32)(torch.rand(2, 1, 32, 32)).abs().max() == 0


def test_dead_rectifiers_let_nothing_pass(network):
    watched = DeadChannels(dead_rectifiers(network, FP32))
    watched.watch()
    network.train()(torch.rand(2, 1, 32, 32))
    fractions = watched.fractions()
    assert fractions
    assert set(fractions.values()) == {1.0}


def test_the_deep_network_normalises_nothing(network):
    deep = deep_without_norms(network, FP32)
    assert not any(is_norm(module) for module in deep.modules())
    assert deep(torch.rand(2, 1, 64, 64)).shape == (2, 1, 64, 64)
    assert len(deep.first.encoder) == 2 * len(network.first.encoder)


def test_activations_overflow_fp16_after_a_while_and_nothing_else(network, monkeypatch):
    monkeypatch.setattr(planted_networks, "CALLS_TO_DOUBLE", 0.5)
    image = torch.rand(2, 1, 32, 32)
    changed = overflowing_half(network, FP16).train()
    assert changed(image).isfinite().all()
    assert any(not changed(image).isfinite().all() for _ in range(12))
    untouched = overflowing_half(WNet(in_channels=1), FP32).train()
    assert all(untouched(image).isfinite().all() for _ in range(12))


# --- cases ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", CASES)
def test_every_case_is_a_configuration(name):
    case = CASES[name]
    config = TrainConfig(**options_of(case, "drawn"), seed=1)
    assert config.model == "tiny_unet"
    assert set(case.right) <= {check.code for check in CHECKS}
    assert CASES[case.clean].is_healthy


def test_there_are_twenty_healthy_runs_of_different_length():
    assert 2 * len(HEALTHY) >= 20
    lengths = {options_of(case, "drawn")["epochs"] for case in HEALTHY.values()}
    assert (min(lengths), max(lengths)) == (6, 60)


def test_a_fault_is_compared_with_a_run_of_the_same_length():
    assert set(COMPARED) <= set(HEALTHY)
    for fault in FAULTS.values():
        assert options_of(fault, "drawn")["epochs"] == options_of(CASES[fault.clean], "drawn")["epochs"]
