from __future__ import annotations

import copy
import math
from statistics import fmean

import numpy as np
import pytest
import torch

from octa_backend.data.splits import assign_splits
from octa_backend.errors import TrainingDiverged
from octa_backend.models.unet import UNet
from octa_backend.training import trainer
from octa_backend.training.checkpoint import Best, Checkpoints
from octa_backend.training.config import TrainConfig
from octa_backend.training.events import GRADIENT_GROUPS, EpochFinished, StepFinished
from octa_backend.training.network import build_network
from octa_backend.training.trainer import Outcome
from tests.tiny import SmallUNet, a_plan, synthetic_pairs, training_data, write_store
from tests.training.runs import Stopper, assert_same, epochs, numbers, steps, train

pytestmark = pytest.mark.usefixtures("tiny_registry")


# --- two epochs of the product's own `unet` -------------------------------------------------------------------------

UNET = {"model": "unet", "bce_weight": 0.3, "dice_weight": 0.7, "lr": 1e-3}


@pytest.fixture(scope="module")
def unet_run(tmp_path_factory, data):
    folder = tmp_path_factory.mktemp("unet")
    return *train(folder, data, **UNET), folder


def test_steps_and_epochs_are_told_in_order_and_count_from_1(unet_run):
    events, _, _ = unet_run
    told = [(e.epoch, e.step) if isinstance(e, StepFinished) else e.epoch for e in events]
    assert told == [(1, 1), (1, 2), 1, (2, 1), (2, 2), 2]
    assert {step.steps for step in steps(events)} == {2}


def test_train_loss_is_exactly_the_weighted_sum_of_its_components(unet_run):
    for event in epochs(unet_run[0]):
        assert event.train_loss == 0.3 * event.loss_components["bce"] + 0.7 * event.loss_components["dice"]
    for event in steps(unet_run[0]):
        assert event.loss == 0.3 * event.loss_components["bce"] + 0.7 * event.loss_components["dice"]


def test_epochs_components_are_the_mean_of_its_steps(unet_run):
    for epoch in epochs(unet_run[0]):
        own = [step for step in steps(unet_run[0]) if step.epoch == epoch.epoch]
        for name, value in epoch.loss_components.items():
            assert value == pytest.approx(sum(step.loss_components[name] for step in own) / 2)
        for name, value in epoch.gradient_norms.items():
            assert value == pytest.approx(sum(step.gradient_norms[name] for step in own) / 2)


def test_epoch_report_is_complete_and_plausible(unet_run):
    for event in epochs(unet_run[0]):
        assert tuple(event.gradient_norms) == GRADIENT_GROUPS
        assert all(norm > 0 for norm in event.gradient_norms.values())
        assert event.gradient_verdict in {"healthy", "mild_vanishing"}
        assert 0 <= event.val_iou <= event.val_dice <= 1
        assert 0 <= event.val_precision <= 1
        assert 0 <= event.val_recall <= 1
        assert event.val_loss > 0
        assert event.lr == 1e-3
        assert event.seconds > 0
        assert event.scans_per_second > 0
        assert event.peak_memory_mb > 10
        assert event.per_class is None


def test_outcome_names_the_best_epoch_and_the_checkpoint_holds_it(unet_run):
    events, outcome, folder = unet_run
    best = max(epochs(events), key=lambda event: (event.val_dice, -event.epoch))
    assert outcome == Outcome(finished=True, best=Best(best.epoch, best.val_dice))
    assert Checkpoints(folder).index.best == outcome.best
    assert Checkpoints(folder).best_weights().exists()


GOLDEN_LOSSES = [0.91125264, 0.82374012, 0.86717757, 0.85312815, 0.8756833, 0.81507217]


def test_losses_of_a_run_are_the_known_ones(tmp_path, data):
    """Of a network that does not make rounding grow: the same on processors with SSE, AVX2 and AVX-512 to 1e-7."""
    events, _ = train(tmp_path, data, **{**UNET, "model": "small_unet"}, epochs=3)
    assert [step.loss for step in steps(events)] == pytest.approx(GOLDEN_LOSSES, rel=1e-5)


def test_same_seed_gives_the_same_run(unet_run, tmp_path, data):
    again, _ = train(tmp_path, data, **UNET)
    for found, expected in zip(steps(again), steps(unet_run[0]), strict=True):
        assert found.loss == pytest.approx(expected.loss, abs=1e-5)
    for found, expected in zip(epochs(again), epochs(unet_run[0]), strict=True):
        assert found.train_loss == pytest.approx(expected.train_loss, abs=1e-5)
        assert found.val_loss == pytest.approx(expected.val_loss, abs=1e-5)


# --- learning -------------------------------------------------------------------------------------------------------


def test_loss_falls_and_dice_rises(tmp_path, data):
    events, outcome = train(tmp_path, data, epochs=8, lr=0.05, augmentation="none", ema_decay=0.0)
    assert epochs(events)[-1].train_loss < 0.8 * epochs(events)[0].train_loss
    assert outcome.best.val_dice > epochs(events)[0].val_dice


def test_colour_scans_with_several_classes_are_learnt_with_a_softmax(tmp_path):
    rng = np.random.default_rng(0)
    masks = [rng.integers(0, 3, (32, 48)).astype(np.uint8) for _ in range(3)]
    pairs = [(np.stack([mask * 80, 255 - mask * 80, mask]).astype(np.uint8), mask) for mask in masks]
    events, outcome = train(
        tmp_path / "job", training_data(write_store(tmp_path / "data", pairs, mask_values=(0, 1, 2))), epochs=1
    )
    assert outcome.finished
    report = epochs(events)[0]
    assert set(report.loss_components) == {"ce", "dice"}
    assert [found["class"] for found in report.per_class] == [1, 2]
    assert fmean(found["dice"] for found in report.per_class) == pytest.approx(report.val_dice)
    assert fmean(found["iou"] for found in report.per_class) == pytest.approx(report.val_iou)
    assert steps(events)[0].loss_components["ce"] == pytest.approx(math.log(3), abs=0.7)


@pytest.mark.parametrize("loss", ["dice_bce", "dice_ce"])
def test_binary_masks_are_learnt_with_either_loss(tmp_path, data, loss):
    _, outcome = train(tmp_path, data, epochs=1, loss=loss)
    assert outcome.finished


def test_last_batch_may_be_smaller_and_counts_by_its_scans(tmp_path, data):
    events, _ = train(tmp_path, data, epochs=1, batch_size=3)
    big, small = steps(events)
    for name, value in epochs(events)[0].loss_components.items():
        expected = (3 * big.loss_components[name] + small.loss_components[name]) / 4
        assert value == pytest.approx(expected)


# --- stopping and going on ------------------------------------------------------------------------------------------


def test_asked_before_the_start_it_computes_nothing(tmp_path, data):
    events, outcome = train(tmp_path, data, should_stop=lambda: True)
    assert events == []
    assert outcome == Outcome(finished=False, best=None)
    assert Checkpoints(tmp_path).index is None


def test_it_stops_between_two_batches(tmp_path, data):
    stopper = Stopper(lambda event: True)
    _, outcome = train(tmp_path, data, emit=stopper.emit, should_stop=stopper.should_stop)
    assert [(event.epoch, event.step) for event in stopper.events] == [(1, 1)]
    assert outcome == Outcome(finished=False, best=None)


def test_it_stops_before_the_validation(tmp_path, data):
    stopper = Stopper(lambda event: isinstance(event, StepFinished) and event.step == 2)
    _, outcome = train(tmp_path, data, emit=stopper.emit, should_stop=stopper.should_stop)
    assert epochs(stopper.events) == []
    assert not outcome.finished


def test_stopped_run_keeps_its_best_epoch(tmp_path, data):
    stopper = Stopper(lambda event: isinstance(event, EpochFinished))
    _, outcome = train(tmp_path, data, emit=stopper.emit, should_stop=stopper.should_stop)
    assert not outcome.finished
    assert outcome.best == Best(1, epochs(stopper.events)[0].val_dice)


@pytest.mark.parametrize(
    "when",
    [
        pytest.param(lambda event: isinstance(event, EpochFinished), id="after epoch 1"),
        pytest.param(lambda event: event.epoch == 2, id="in the middle of epoch 2"),
    ],
)
def test_stopped_and_resumed_run_is_the_run_that_was_never_stopped(tmp_path, data, when):
    options = {"epochs": 3, "scheduler": "cosine"}
    straight, expected = train(tmp_path / "straight", data, **options)
    stopper = Stopper(when)
    train(tmp_path / "stopped", data, emit=stopper.emit, should_stop=stopper.should_stop, **options)
    resumed, outcome = train(tmp_path / "stopped", data, **options)
    # The last finished epoch is told again, then all goes on as if nothing had happened.
    assert_same(resumed, straight[2:])
    assert outcome.finished
    assert outcome.best.epoch == expected.best.epoch
    assert outcome.best.val_dice == pytest.approx(expected.best.val_dice, rel=1e-6)


def test_finished_run_can_be_extended_with_more_epochs_and_another_rate(tmp_path, data):
    train(tmp_path, data, epochs=1)
    events, outcome = train(tmp_path, data, epochs=2, lr=0.001)
    assert [event.epoch for event in epochs(events)] == [1, 2]
    assert {step.epoch: step.lr for step in steps(events)} == {2: 0.001}
    assert outcome.finished


def test_run_with_nothing_left_to_do_tells_its_last_epoch_again(tmp_path, data):
    first, expected = train(tmp_path, data)
    again, outcome = train(tmp_path, data)
    assert_same(again, first[-1:])
    assert outcome == expected


# --- numbers that are no numbers ------------------------------------------------------------------------------------


def catch_network(monkeypatch):
    """The networks that `fit` builds, as it builds them."""
    built = []

    def build_and_keep(plan):
        built.append(build_network(plan))
        return built[-1]

    monkeypatch.setattr(trainer, "build_network", build_and_keep)
    return built


@pytest.mark.parametrize(("model", "broken"), [("overflowing", "bce"), ("steep", "decoder_output")])
def test_loss_or_gradient_that_is_not_finite_ends_the_run_before_the_weights_change(
    tmp_path, data, monkeypatch, model, broken
):
    built = catch_network(monkeypatch)
    events = []
    with pytest.raises(TrainingDiverged, match=broken) as caught:
        train(tmp_path, data, emit=events.append, model=model)
    assert "learning rate is too high" in caught.value.message
    assert not steps(events) + epochs(events)
    fresh = build_network(a_plan(data, model=model))
    for (name, found), expected in zip(built[0].named_parameters(), fresh.parameters(), strict=True):
        assert torch.equal(found, expected), name


def test_nan_pixel_ends_the_run_before_the_weights_change(tmp_path, monkeypatch):
    pairs = [(image.astype(np.float32), mask) for image, mask in synthetic_pairs(3)]
    pairs[0][0][0, 5, 5] = np.nan
    broken = training_data(write_store(tmp_path / "data", pairs))
    built = catch_network(monkeypatch)
    with pytest.raises(TrainingDiverged, match="a scan holds NaN"):
        train(tmp_path / "job", broken)
    assert all(torch.isfinite(parameter).all() for parameter in built[0].parameters())


def test_diverged_run_keeps_its_last_finished_epoch(tmp_path, data):
    train(tmp_path, data, epochs=1)
    with pytest.raises(TrainingDiverged):
        train(tmp_path, data, epochs=2, model="overflowing")
    assert Checkpoints(tmp_path).index.last == 1


# --- the network ----------------------------------------------------------------------------------------------------


def test_seed_alone_decides_the_first_weights(data):
    plan = a_plan(data, model="small_unet", seed=3)
    torch.manual_seed(1)
    state = torch.get_rng_state()
    first = build_network(plan)
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(2)
    again = build_network(plan)
    other = build_network(a_plan(data, model="small_unet", seed=4))
    assert torch.equal(first.head.weight, again.head.weight)
    assert not torch.equal(first.head.weight, other.head.weight)


def test_config_names_the_network(data):
    assert type(build_network(a_plan(data, model="unet"))) is UNet
    assert type(build_network(a_plan(data, model="small_unet"))) is SmallUNet


# --- every option does something ------------------------------------------------------------------------------------

BASE = {"weight_decay": 0.1, "epochs": 2, "lr": 0.01, "batch_size": 2, "step_size": 1, "gamma": 0.5}

SGD, POLY = {"optimizer": "sgd"}, {"scheduler": "poly"}
PLATEAU = {"scheduler": "plateau", "plateau_patience": 1, "epochs": 4, "lr": 1e-6}

CHANGES = {
    "epochs": (3, {}),
    "lr": (0.02, {}),
    "batch_size": (4, {}),
    "accumulation_steps": (2, {}),
    "deep_supervision": (True, {"model": "tiny_unet", "epochs": 1}),
    "bce_weight": (0.9, {}),
    "dice_weight": (0.9, {}),
    "pos_weight": (5.0, {}),
    "class_weights": ("1,5", {"loss": "weighted_ce"}),
    "border_weight": (1.0, {"loss": "unet_weight_map"}),
    "border_sigma": (1.0, {"loss": "unet_weight_map"}),
    "dice_denominator": ("squared", {}),
    "focal_weight": (0.9, {"loss": "focal_dice"}),
    "focal_alpha": (0.5, {"loss": "focal"}),
    "focal_gamma": (1.0, {"loss": "focal"}),
    "tversky_alpha": (0.6, {"loss": "tversky"}),
    "tversky_beta": (0.4, {"loss": "tversky"}),
    "focal_tversky_exponent": (0.9, {"loss": "focal_tversky"}),
    "cldice_alpha": (0.1, {"loss": "cldice"}),
    "cldice_iterations": (1, {"loss": "cldice"}),
    "boundary_weight": (0.9, {"loss": "boundary"}),
    "optimizer": ("adamw", {"optimizer": "adam"}),
    "momentum": (0.5, SGD),
    "nesterov": (True, SGD),
    "weight_decay": (0.9, {}),
    "gradient_clipping": (0.01, SGD),
    "scheduler": ("cosine", {}),
    "warmup_epochs": (1, {}),
    "step_size": (2, {}),
    "gamma": (0.1, {}),
    "power": (3.0, POLY),
    "plateau_patience": (3, PLATEAU),
    "normalisation": ("zscore", {}),
    "augmentation": ("none", {}),
    "augmentation_overrides": ("brightness_probability=1", {}),
    "foreground_oversampling": (1.0, {"patch_size": 32}),
    "patch_size": (32, {}),
    "patch_growth": ("on", {}),
    "ema_decay": (0.0, {}),
    "precision": ("bf16", {}),
    "val_freq": (3, {"epochs": 3}),
    "seed": (7, {}),
}
"""A value that differs from the base run's, and what both runs have beside that so that it counts."""

ELSEWHERE = {
    "model": "the network, above",
    "loss": "test_losses.py",
    "compile": "test_compilation.py",
    "ignore_index": "test_ignored.py",
    "val_fraction": "the splits, below",
    "folds": "test_cross_validation.py",
    "residual": "test_volume_plan.py",
    "target_shape": "test_volume_plan.py",
    "activation_checkpointing": "test_volume_plan.py and models/test_recomputing.py",
    "regions": "test_spacings.py",
    "target": "test_region_targets.py",
    "patience": "test_control.py",
    "max_minutes": "test_control.py",
    "save_freq": "test_control.py",
    "keep_last": "test_control.py",
    "deterministic": "test_control.py",
    "auto_heal": "service/test_training_run.py and service/test_local_training.py",
    "pretrained": "test_initial_weights.py",
    "start_checks": "service/test_run_start.py",
    "tensorboard": "service/test_tensorboard_sink.py",
    "tensorboard_images": "service/test_tensorboard_sink.py",
}


def test_every_option_is_looked_at():
    assert CHANGES.keys() | ELSEWHERE.keys() == TrainConfig.model_fields.keys()


@pytest.fixture(scope="module")
def larger_data(tmp_path_factory):
    return training_data(write_store(tmp_path_factory.mktemp("larger"), synthetic_pairs(5, size=48)))


@pytest.fixture(scope="module")
def base_run(tmp_path_factory, larger_data):
    return train(tmp_path_factory.mktemp("base"), larger_data, **BASE)[0]


@pytest.mark.parametrize("option", CHANGES)
def test_option_changes_the_result(tmp_path, larger_data, base_run, option):
    value, context = CHANGES[option]
    base = train(tmp_path / "base", larger_data, **{**BASE, **context})[0] if context else base_run
    events, _ = train(tmp_path / "changed", larger_data, **{**BASE, **context, option: value})
    assert [numbers(event) for event in events] != [numbers(event) for event in base]


@pytest.fixture
def changed_run(tmp_path, larger_data):
    def run(**options):
        return train(tmp_path, larger_data, **{**BASE, **options})[0]

    return run


def test_loss_weights_change_the_loss_but_not_its_first_components(changed_run, base_run):
    first, base = steps(changed_run(bce_weight=0.9))[0], steps(base_run)[0]
    assert first.loss_components == pytest.approx(base.loss_components)
    assert first.loss == pytest.approx(base.loss + 0.4 * base.loss_components["bce"])


def test_pos_weight_changes_the_first_cross_entropy_but_not_the_first_dice(changed_run, base_run):
    first, base = steps(changed_run(pos_weight=5))[0], steps(base_run)[0]
    assert first.loss_components["dice"] == pytest.approx(base.loss_components["dice"])
    assert first.loss_components["bce"] > base.loss_components["bce"]


def test_average_changes_the_validation_but_not_the_training(changed_run, base_run):
    found = changed_run(ema_decay=0)
    for one, base in zip(steps(found), steps(base_run), strict=True):
        assert one.loss == pytest.approx(base.loss)
    assert epochs(found)[0].val_loss != pytest.approx(epochs(base_run)[0].val_loss, rel=1e-4)


def test_published_weights_are_the_average_or_without_it_the_live_ones(tmp_path, data, monkeypatch):
    built = catch_network(monkeypatch)
    for name, decay, equal in (("live", 0.0, True), ("average", 0.98, False)):
        train(tmp_path / name, data, epochs=1, ema_decay=decay)
        published = copy.deepcopy(built[-1])
        trainer.Checkpoints(tmp_path / name).load_last(copy.deepcopy(built[-1]), published)
        assert torch.equal(published.head.weight, built[-1].head.weight) is equal


def test_first_step_does_not_depend_on_optimizer_rate_and_schedule(changed_run, base_run):
    found = changed_run(optimizer="adamw", lr=0.02, scheduler="constant")
    assert steps(found)[0].loss == pytest.approx(steps(base_run)[0].loss)
    assert steps(found)[1].loss != pytest.approx(steps(base_run)[1].loss, rel=1e-5)
    assert {step.lr for step in steps(found)} == {0.02}


def test_step_schedule_sets_the_rate_of_each_epoch(base_run):
    assert [step.lr for step in steps(base_run)] == [0.01, 0.01, 0.005, 0.005]
    assert [epoch.lr for epoch in epochs(base_run)] == [0.01, 0.005]


def test_batch_size_and_epochs_set_the_number_of_steps(changed_run):
    assert [(s.epoch, s.step, s.steps) for s in steps(changed_run(batch_size=4, epochs=3))] == [
        (1, 1, 1),
        (2, 1, 1),
        (3, 1, 1),
    ]


def test_bf16_is_near_fp32(changed_run, base_run):
    found = changed_run(precision="bf16")
    assert steps(found)[0].loss == pytest.approx(steps(base_run)[0].loss, rel=0.02)


def test_val_fraction_decides_how_many_scans_validate(data):
    entries = data.store.manifest.scans
    assert len(assign_splits(entries, TrainConfig(val_fraction=0.2).val_fraction, seed=42).val) == 1
    assert len(assign_splits(entries, TrainConfig(val_fraction=0.4).val_fraction, seed=42).val) == 2
