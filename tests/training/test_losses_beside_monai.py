"""What is put together of MONAI's losses gives the numbers of MONAI's own sums and forms: values and gradients."""

from __future__ import annotations

import importlib

import pytest
import torch
from torch.nn import functional as F

from octa_backend.training.config import TrainConfig
from octa_backend.training.losses import compute_loss, make_loss

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning"),
]

SMOOTH = {"smooth_nr": 1, "smooth_dr": 1}


@pytest.fixture(scope="module")
def losses():
    """MONAI's, imported within a test, whose marks let the import warn."""
    return importlib.import_module("monai.losses")


def case(classes, sides):
    """Logits that ask for gradients, and classes (B, *spatial), of two scans."""
    generator = torch.Generator().manual_seed(5)
    logits = torch.randn(2, 1 if classes == 2 else classes, *sides, generator=generator).requires_grad_()
    return logits, torch.randint(classes, (2, *sides), generator=generator)


def all_classes(mask, classes):
    return F.one_hot(mask, classes).movedim(-1, 1).float()


def channels(mask, classes):
    """As the logits have them: of two classes the foreground alone."""
    return mask[:, None].float() if classes == 2 else all_classes(mask, classes)


def of_foreground(loss, logits, mask, classes, **options):
    activation = {"sigmoid": True} if classes == 2 else {"softmax": True}
    return loss(**activation, include_background=classes == 2, **options)(logits, channels(mask, classes))


def assert_alike(config, logits, mask, theirs):
    ours = compute_loss(make_loss(TrainConfig(**config)), logits, mask).total
    assert ours.item() == pytest.approx(theirs.item(), rel=1e-5)
    found, expected = (torch.autograd.grad(value, logits, retain_graph=True)[0] for value in (ours, theirs))
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-7)


CASES = pytest.mark.parametrize(("classes", "sides"), [(2, (16, 12)), (4, (16, 12)), (2, (6, 8, 10))])


@CASES
@pytest.mark.parametrize("gamma", [0.5, 2.0])
def test_focal(losses, classes, sides, gamma):
    """MONAI's mean is over pixels and channels; that of the source, and ours, is over pixels."""
    logits, mask = case(classes, sides)
    focal = losses.FocalLoss(gamma=gamma, alpha=0.3, use_softmax=classes > 2)
    theirs = focal(logits, channels(mask, classes)) * logits.shape[1]
    assert_alike({"loss": "focal", "focal_alpha": 0.3, "focal_gamma": gamma}, logits, mask, theirs)


@CASES
def test_dice_and_cross_entropy(losses, classes, sides):
    """MONAI's leaves the background out of both parts or of none: of several classes, each part is asked for alone."""
    logits, mask = case(classes, sides)
    if classes == 2:
        weights = {"lambda_dice": 0.7, "lambda_ce": 0.3}
        theirs = of_foreground(losses.DiceCELoss, logits, mask, classes, **SMOOTH, **weights)
    else:
        entropy = losses.DiceCELoss(softmax=True, lambda_dice=0, lambda_ce=0.3)(logits, channels(mask, classes))
        theirs = 0.7 * of_foreground(losses.DiceLoss, logits, mask, classes, **SMOOTH) + entropy
    name = "dice_bce" if classes == 2 else "dice_ce"
    assert_alike({"loss": name, "bce_weight": 0.3, "dice_weight": 0.7, "pos_weight": None}, logits, mask, theirs)
