from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from octa_backend.training import boundary_loss as boundary
from octa_backend.training import distribution_losses
from octa_backend.training.checkpoint import Checkpoints
from octa_backend.training.config import TrainConfig
from octa_backend.training.ignored import IGNORED
from octa_backend.training.loss_options import OPTIONS, USES
from octa_backend.training.losses import RECIPES, DiceBCELoss, DiceCELoss, compute_loss, make_loss
from octa_backend.training.trainer import fit
from tests.tiny import a_plan, synthetic_pairs, tiny_networks, training_data, write_store

LN2 = math.log(2)


def scan(*rows):
    """One scan as (1, 1, H, W)."""
    return torch.tensor(rows, dtype=torch.float32)[None, None]


UNDECIDED = scan([0, 0], [0, 0])  # probability 1/2 everywhere
HALF = scan([1, 0], [0, 1])


def components(loss, logits, target):
    return {name: value.item() for name, value in loss(logits, target).components.items()}


# --- Dice + binary cross-entropy ------------------------------------------------------------------------------------


def test_bce_and_dice_of_an_undecided_network_by_hand():
    found = components(DiceBCELoss(), UNDECIDED, HALF)
    assert found == {"bce": pytest.approx(LN2), "dice": pytest.approx(0.4)}


def test_bce_by_hand_for_logits_that_are_not_zero():
    # p = 3/4 at logit ln 3. Right at the two foreground pixels, wrong at the two others.
    logits = torch.full((1, 1, 2, 2), math.log(3))
    found = components(DiceBCELoss(), logits, HALF)
    assert found["bce"] == pytest.approx((2 * -math.log(3 / 4) + 2 * -math.log(1 / 4)) / 4)
    assert found["dice"] == pytest.approx(1 - (2 * 1.5 + 1) / (3 + 2 + 1))


def test_dice_loss_is_the_mean_over_scans():
    empty = torch.zeros_like(HALF)
    found = components(DiceBCELoss(), torch.cat([UNDECIDED, UNDECIDED]), torch.cat([HALF, empty]))
    # an empty mask met by two pixels of probability: 1 / (2 + 0 + 1)
    assert found["dice"] == pytest.approx(1 - (0.6 + 1 / 3) / 2)


@pytest.mark.parametrize(("bce_weight", "dice_weight"), [(0.5, 0.5), (0.3, 0.7), (0, 1), (2, 0)])
def test_total_is_exactly_the_weighted_sum(bce_weight, dice_weight):
    torch.manual_seed(0)
    result = DiceBCELoss(bce_weight, dice_weight)(torch.randn(2, 1, 5, 5), (torch.rand(2, 1, 5, 5) > 0.5).float())
    assert torch.equal(result.total, bce_weight * result.components["bce"] + dice_weight * result.components["dice"])


def test_empty_mask_met_by_an_empty_prediction_costs_nothing():
    found = components(DiceBCELoss(), torch.full((1, 1, 2, 2), -50.0), torch.zeros(1, 1, 2, 2))
    assert found == {"bce": pytest.approx(0, abs=1e-12), "dice": pytest.approx(0, abs=1e-12)}


def test_false_vessels_in_an_empty_scan_cost():
    found = components(DiceBCELoss(), torch.full((1, 1, 2, 2), 50.0), torch.zeros(1, 1, 2, 2))
    assert found == {"bce": pytest.approx(50), "dice": pytest.approx(1 - 1 / 5)}


def test_mask_that_is_all_foreground_can_be_learnt_completely():
    found = components(DiceBCELoss(), torch.full((1, 1, 2, 2), 50.0), torch.ones(1, 1, 2, 2))
    assert found == {"bce": pytest.approx(0, abs=1e-12), "dice": pytest.approx(0, abs=1e-6)}


def test_pos_weight_weighs_foreground_pixels_in_the_cross_entropy_only():
    # two foreground pixels count 3 ln 2 each, two background pixels ln 2 each
    found = components(DiceBCELoss(pos_weight=3), UNDECIDED, HALF)
    assert found == {"bce": pytest.approx((2 * 3 * LN2 + 2 * LN2) / 4), "dice": pytest.approx(0.4)}


@pytest.mark.parametrize("autocast", [False, True])
def test_huge_bf16_logits_give_a_finite_float32_loss(autocast):
    logits = scan([1e4, -1e4], [1e4, -1e4]).bfloat16().requires_grad_()
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        result = DiceBCELoss()(logits, scan([1, 0], [0, 1]))
    # bf16 knows 9984, not 10000. Two of four pixels are wrong; one of two foreground pixels is found.
    assert result.components["bce"].item() == pytest.approx(9984 / 2)
    assert result.components["dice"].item() == pytest.approx(1 - (2 * 1 + 1) / (2 + 2 + 1))
    assert {value.dtype for value in (result.total, *result.components.values())} == {torch.float32}
    result.total.backward()
    assert torch.isfinite(logits.grad).all()


def test_gradient_points_from_the_prediction_to_the_mask():
    logits = UNDECIDED.clone().requires_grad_()
    DiceBCELoss()(logits, HALF).total.backward()
    assert (logits.grad[HALF == 1] < 0).all()
    assert (logits.grad[HALF == 0] > 0).all()


@pytest.mark.parametrize("shape", [(1, 2, 2), (1, 1, 2, 3), (1, 1, 2, 1), (2, 1, 2, 2)])
def test_masks_of_another_shape_are_refused_with_both_shapes(shape):
    with pytest.raises(ValueError, match=r"logits are \(1, 1, 2, 2\) but the mask is") as caught:
        DiceBCELoss()(UNDECIDED, torch.zeros(shape))
    assert str(tuple(shape)) in str(caught.value)


# --- Dice + softmax cross-entropy -----------------------------------------------------------------------------------

CLASSES = torch.tensor([[[0, 1], [2, 2]]])


def test_ce_and_dice_of_an_undecided_network_by_hand():
    # p = 1/3. Class 1: (2/3 + 1) / (4/3 + 1 + 1) = 1/2. Class 2: (4/3 + 1) / (4/3 + 2 + 1) = 7/13. Background is out.
    found = components(DiceCELoss(), torch.zeros(1, 3, 2, 2), CLASSES)
    assert found == {"ce": pytest.approx(math.log(3)), "dice": pytest.approx(1 - (1 / 2 + 7 / 13) / 2)}


def test_right_classes_cost_nothing():
    logits = 100 * torch.nn.functional.one_hot(CLASSES, 3).movedim(-1, 1).float()
    found = components(DiceCELoss(), logits, CLASSES)
    assert found == {"ce": pytest.approx(0, abs=1e-6), "dice": pytest.approx(0, abs=1e-6)}


def test_total_of_dice_and_ce_is_exactly_the_weighted_sum():
    torch.manual_seed(0)
    result = DiceCELoss(0.3, 0.7)(torch.randn(2, 4, 5, 5), torch.randint(4, (2, 5, 5)))
    assert torch.equal(result.total, 0.3 * result.components["ce"] + 0.7 * result.components["dice"])


def test_dice_and_ce_of_huge_bf16_logits_are_finite_float32():
    logits = torch.zeros(1, 3, 2, 2, dtype=torch.bfloat16)
    logits[:, 0], logits[:, 1] = 1e4, -1e4
    logits.requires_grad_()
    result = DiceCELoss()(logits, CLASSES)
    assert result.total.dtype == torch.float32
    assert torch.isfinite(result.total)
    result.total.backward()
    assert torch.isfinite(logits.grad).all()


@pytest.mark.parametrize("shape", [(1, 1, 2, 2), (2, 2, 2), (1, 2, 3)])
def test_class_masks_of_another_shape_are_refused_with_both_shapes(shape):
    with pytest.raises(ValueError, match=r"logits are \(1, 3, 2, 2\) but the mask is"):
        DiceCELoss()(torch.zeros(1, 3, 2, 2), torch.zeros(shape, dtype=torch.int64))


# --- from the config ------------------------------------------------------------------------------------------------


def test_config_decides_which_loss_with_which_weights():
    loss = make_loss(TrainConfig(loss="dice_bce", bce_weight=0.3, dice_weight=0.7, pos_weight=4))
    assert isinstance(loss, DiceBCELoss)
    assert (loss.weights, loss.pos_weight) == ({"bce": 0.3, "dice": 0.7}, 4)
    loss = make_loss(TrainConfig(loss="dice_ce", bce_weight=0.3, dice_weight=0.7))
    assert isinstance(loss, DiceCELoss)
    assert loss.weights == {"ce": 0.3, "dice": 0.7}


def test_class_indices_are_brought_to_the_form_that_each_loss_wants():
    binary = compute_loss(DiceBCELoss(), UNDECIDED, HALF[0].long())
    assert torch.equal(binary.total, DiceBCELoss()(UNDECIDED, HALF).total)
    logits = torch.zeros(1, 3, 2, 2)
    assert torch.equal(compute_loss(DiceCELoss(), logits, CLASSES).total, DiceCELoss()(logits, CLASSES).total)


# --- every loss -----------------------------------------------------------------------------------------------------

SINGLE = ("dice_bce", "bce")  # for binary masks alone
SEVERAL = ("dice_ce", "ce")  # for several classes alone
CASES = [
    *((loss, 2) for loss in USES if loss not in SEVERAL),
    *((loss, 3) for loss in USES if loss not in SINGLE),
]
every_loss = pytest.mark.parametrize(("loss", "classes"), CASES)


def a_loss(name, classes, **options):
    resolved = {"loss": name, "class_weights": (1.0, 2.0, 3.0)[:classes], "pos_weight": None}
    return make_loss(TrainConfig(**{**resolved, **options}))


def channels(classes):
    return 1 if classes == 2 else classes


def some_masks(classes):
    """A thick object, a thin one beside it, and one of another class where there are several."""
    mask = torch.zeros(2, 12, 16, dtype=torch.int64)
    mask[:, 1:8, 1:8], mask[:, 2:10, 10], mask[1, 10:, 3:12] = 1, 1, classes - 1
    return mask


def some_logits(classes, *shape):
    return torch.randn(2, channels(classes), *shape, generator=torch.Generator().manual_seed(3))


def test_cases_hold_every_loss():
    assert {loss for loss, _ in CASES} == set(USES) == {*RECIPES, "dice_bce", "dice_ce"}


@every_loss
def test_total_of_every_loss_is_exactly_the_weighted_sum_of_its_components(loss, classes):
    made = a_loss(loss, classes)
    result = compute_loss(made, some_logits(classes, 12, 16), some_masks(classes))
    assert list(result.components) == list(made.weights)
    assert all(value.ndim == 0 and value >= 0 for value in result.components.values())
    assert torch.equal(result.total, sum(made.weights[name] * value for name, value in result.components.items()))


@every_loss
def test_few_steps_down_the_gradient_lower_every_loss(loss, classes):
    logits = torch.zeros(2, channels(classes), 12, 16, requires_grad=True)
    made, optimizer = a_loss(loss, classes), torch.optim.Adam([logits], lr=0.3)
    losses = []
    for _ in range(10):
        optimizer.zero_grad()
        result = compute_loss(made, logits, some_masks(classes))
        result.total.backward()
        optimizer.step()
        losses.append(result.total.item())
    assert losses[-1] < 0.8 * losses[0]
    assert losses == sorted(losses, reverse=True)


@every_loss
def test_options_that_a_loss_looks_at_change_it_and_the_others_do_not(loss, classes):
    changes = {**CHANGES, "class_weights": (5.0, 1.0, 1.0)[:classes]}
    logits, mask = some_logits(classes, 12, 16), some_masks(classes)
    base = compute_loss(a_loss(loss, classes), logits, mask).total.item()
    found = {
        name
        for name in changes
        if compute_loss(a_loss(loss, classes, **{name: changes[name]}), logits, mask).total.item() != base
    }
    assert found == set(USES[loss])


CHANGES = {
    "bce_weight": 0.9,
    "dice_weight": 0.9,
    "pos_weight": 5.0,
    "class_weights": (),
    "border_weight": 1.0,
    "border_sigma": 1.0,
    "dice_denominator": "squared",
    "focal_weight": 0.9,
    "focal_alpha": 0.6,
    "focal_gamma": 1.0,
    "tversky_alpha": 0.6,
    "tversky_beta": 0.4,
    "focal_tversky_exponent": 2.0,
    "cldice_alpha": 0.3,
    "cldice_iterations": 1,
    "boundary_weight": 1.0,
}


def test_every_option_of_a_loss_is_looked_at():
    assert set(CHANGES) == set(OPTIONS)


@every_loss
@pytest.mark.parametrize("logit", [0.0, 200.0, -200.0])
@pytest.mark.parametrize("value", [0, 1])
def test_every_loss_and_its_gradient_are_finite_for_empty_and_full_masks(loss, classes, logit, value):
    logits = torch.full((2, channels(classes), 6, 8), logit)
    logits[:, 0] *= 1 if classes == 2 else -1
    logits.requires_grad_()
    result = compute_loss(a_loss(loss, classes), logits, torch.full((2, 6, 8), value))
    result.total.backward()
    assert all(torch.isfinite(number) for number in (result.total, *result.components.values()))
    assert torch.isfinite(logits.grad).all()


@every_loss
def test_every_loss_of_bf16_logits_under_autocast_is_finite_float32(loss, classes):
    logits = (1e4 * some_logits(classes, 12, 16)).bfloat16().requires_grad_()
    with torch.autocast("cpu", torch.bfloat16):
        result = compute_loss(a_loss(loss, classes), logits, some_masks(classes))
    result.total.backward()
    assert {number.dtype for number in (result.total, *result.components.values())} == {torch.float32}
    assert all(torch.isfinite(number) for number in (result.total, *result.components.values()))
    assert torch.isfinite(logits.grad).all()


@every_loss
@pytest.mark.parametrize("shape", [(2, 12, 15), (1, 12, 16), (2, 1, 12, 16)])
def test_every_loss_refuses_masks_of_another_shape(loss, classes, shape):
    with pytest.raises(ValueError, match="but the mask is"):
        compute_loss(a_loss(loss, classes), some_logits(classes, 12, 16), torch.zeros(shape, dtype=torch.int64))


@every_loss
def test_every_loss_takes_volumes_and_knows_no_preferred_axis(loss, classes):
    mask = torch.zeros(2, 5, 7, 9, dtype=torch.int64)
    mask[:, 1:4, 2:5, 1:6], mask[:, 2, 1:6, 7] = 1, classes - 1
    logits = some_logits(classes, 5, 7, 9).requires_grad_()
    result = compute_loss(a_loss(loss, classes), logits, mask)
    result.total.backward()
    assert torch.isfinite(logits.grad).all()
    turned = compute_loss(a_loss(loss, classes), logits.transpose(2, 4), mask.transpose(1, 3))
    assert turned.total.item() == pytest.approx(result.total.item(), rel=1e-5)


@pytest.mark.parametrize("loss", [loss for loss in USES if loss not in (*SINGLE, *SEVERAL)])
def test_one_channel_means_the_same_as_two_of_which_the_first_is_0(loss):
    one = some_logits(2, 12, 16)
    made = a_loss(loss, 2)
    expected = compute_loss(made, one, some_masks(2)).total.item()
    two = torch.cat([torch.zeros_like(one), one], dim=1)
    assert compute_loss(made, two, some_masks(2)).total.item() == pytest.approx(expected, rel=1e-5)


def test_components_of_the_combined_losses_are_weighed_as_configured():
    weights = {
        "focal_dice": (a_loss("focal_dice", 2, focal_weight=3, dice_weight=2), {"focal": 3, "dice": 2}),
        "cldice": (a_loss("cldice", 2, cldice_alpha=0.25), {"dice": 0.75, "cldice": 0.25}),
        "boundary": (a_loss("boundary", 2, dice_weight=2, boundary_weight=0.1), {"dice": 2, "boundary": 0.1}),
    }
    for made, expected in weights.values():
        assert made.weights == expected


def test_logits_of_several_channels_are_refused_by_the_binary_loss():
    with pytest.raises(ValueError, match="binary masks need one channel"):
        DiceBCELoss()(torch.zeros(1, 3, 2, 2), torch.zeros(1, 3, 2, 2))


# --- pixels that do not count ---------------------------------------------------------------------------------------


def with_ignored(classes):
    """Masks whose lower half is ignored, and the loss's config that says so."""
    mask = some_masks(classes)
    mask[:, 6:] = IGNORED
    return mask, {"ignore_index": 1}


@every_loss
def test_ignored_pixels_change_neither_a_loss_nor_its_gradient(loss, classes):
    mask, options = with_ignored(classes)
    logits = some_logits(classes, 12, 16).requires_grad_()
    result = compute_loss(a_loss(loss, classes, **options), logits, mask)
    result.total.backward()
    assert logits.grad[:, :, :6].abs().sum() > 0
    assert logits.grad[:, :, 6:].abs().sum() == 0
    other = torch.cat([logits[:, :, :6], 9 - logits[:, :, 6:]], dim=2)
    changed = compute_loss(a_loss(loss, classes, **options), other, mask)
    assert changed.components == result.components


@pytest.mark.parametrize(
    ("loss", "classes"), [case for case in CASES if case[0] not in ("cldice", "unet_weight_map", "boundary")]
)
def test_loss_with_ignored_pixels_is_that_of_the_others_unless_it_looks_at_neighbours(loss, classes):
    mask, options = with_ignored(classes)
    logits = some_logits(classes, 12, 16)
    found = compute_loss(a_loss(loss, classes, **options), logits, mask).total.item()
    alone = compute_loss(a_loss(loss, classes), logits[:, :, :6], mask[:, :6]).total.item()
    assert found == pytest.approx(alone, rel=1e-5)


@every_loss
def test_loss_of_a_batch_that_is_ignored_altogether_is_finite_and_has_no_gradient(loss, classes):
    logits = some_logits(classes, 12, 16).requires_grad_()
    result = compute_loss(a_loss(loss, classes, ignore_index=1), logits, torch.full((2, 12, 16), IGNORED))
    result.total.backward()
    assert torch.isfinite(result.total)
    assert logits.grad.abs().sum() == 0


# --- deep supervision -----------------------------------------------------------------------------------------------


@every_loss
def test_levels_are_weighed_by_1_and_a_half_and_a_quarter(loss, classes):
    made, mask = a_loss(loss, classes), some_masks(classes)
    levels = [some_logits(classes, 12, 16) * factor for factor in (1, 2, 3)]
    alone = [compute_loss(made, level, mask) for level in levels]
    result = compute_loss(made, levels, mask)
    for name, value in result.components.items():
        first, second, third = (level.components[name].item() for level in alone)
        assert value.item() == pytest.approx((4 * first + 2 * second + third) / 7, rel=1e-5)
    assert result.total.item() == pytest.approx(
        sum(made.weights[name] * value.item() for name, value in result.components.items()), rel=1e-5
    )


def test_one_level_in_a_list_is_that_level():
    logits, mask = some_logits(2, 12, 16), some_masks(2)
    made = a_loss("dice_bce", 2)
    assert compute_loss(made, [logits], mask).total == compute_loss(made, logits, mask).total


@pytest.mark.parametrize("loss", ["unet_weight_map", "boundary"])
def test_what_depends_on_the_mask_alone_is_made_once_for_all_levels(loss, monkeypatch):
    made, mask = a_loss(loss, 2), some_masks(2)
    seen = []
    for module, name in ((distribution_losses, "border_map"), (boundary, "signed_distance")):
        original = getattr(module, name)
        monkeypatch.setattr(module, name, lambda *args, make=original: seen.append(args[0]) or make(*args))
    compute_loss(made, [some_logits(2, 12, 16)] * 3, mask)
    of_the_mask = [x for x in seen if not x.requires_grad and x.unique().numel() <= 2]
    assert len(of_the_mask) == 1


# --- in a run -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.parametrize("loss", ["unet_weight_map", "focal_dice", "cldice", "boundary"])
def test_run_reports_the_components_and_their_weighted_sum(tmp_path, loss, classes):
    pairs = [(image, np.minimum(mask * index % 3, classes - 1)) for index, (image, mask) in enumerate(PAIRS, start=1)]
    data = training_data(write_store(tmp_path / "data", pairs, tuple(range(classes))))
    events = []
    with tiny_networks():
        plan = a_plan(data, loss=loss, model="small_unet", epochs=1, class_weights=(1, 2, 3)[:classes])
        fit(data, plan, checkpoints=Checkpoints(tmp_path / "job"), emit=events.append, should_stop=lambda: False)
    weights = make_loss(plan.config).weights
    found = events[-1].loss_components
    assert list(found) == list(weights)
    assert events[-1].train_loss == sum(weights[name] * value for name, value in found.items())


PAIRS = synthetic_pairs(3)
