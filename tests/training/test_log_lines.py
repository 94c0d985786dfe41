from __future__ import annotations

import math

import pytest

from octa_backend.diagnosis.curves import Shape
from octa_backend.training.events import GRADIENT_GROUPS
from octa_backend.training.log_lines import gradient_hint, is_step_line, plateau_block, step_line


def norms(*values):
    return dict(zip(GRADIENT_GROUPS, values, strict=True))


HEALTHY = norms(0.052314, 0.003101, 0.004522, 0.002881)
LINE = (
    "Epoch [5] Step 8 | encoder_conv1: 0.052314 | encoder_last: 0.003101 | decoder_first: 0.004522 "
    "| decoder_output: 0.002881 | Hint: "
)


def test_line_of_a_step():
    assert step_line(5, 8, HEALTHY, "en") == LINE + "healthy (all groups > 1e-4)"
    assert step_line(5, 8, HEALTHY, "zh") == LINE + "健康（各组均 > 1e-4）"


@pytest.mark.parametrize(
    ("values", "en", "zh"),
    [
        (
            (0.001, 0.002, 0.003, 0.0251),
            "mild vanishing (shallow/deep ratio > 10): 25.1",
            "轻微梯度消失（浅层/深层比值 > 10）：25.1",
        ),
        (
            (1e-4, 0.002, 0.003, 0.01),
            "vanishing (encoder_conv1 at most 1e-4): the first layers hardly learn",
            "梯度消失（encoder_conv1 不超过 1e-4）：浅层几乎不学习",
        ),
        (
            (0.5, 0.002, 1001.0, math.nan),
            "exploding (decoder_first, decoder_output above 1000 or not finite): lower the learning rate or clip "
            "gradients",
            "梯度爆炸（decoder_first, decoder_output 超过 1000 或不是有限数）：请降低学习率或裁剪梯度",
        ),
        (
            (0.5, 0.00001, 0.5, 0.5),
            "encoder_last at most 1e-4, the first layers still learn",
            "encoder_last 不超过 1e-4，浅层仍在学习",
        ),
    ],
)
def test_hints(values, en, zh):
    assert gradient_hint(norms(*values), "en") == en
    assert gradient_hint(norms(*values), "zh") == zh


def plateau(losses, variance, improvement, is_plateau, verdict):
    return {
        "last_losses": list(losses),
        "variance": variance,
        "improvement": improvement,
        "is_due": True,
        "is_plateau": is_plateau,
        "verdict": verdict,
    }


def test_block_of_a_loss_that_stands_still():
    report = plateau((0.5001, 0.50005, 0.50005, 0.50005, 0.50005), 4e-10, 0.00005, True, "flat")
    assert plateau_block(11, report, "en") == (
        "[diagnosis] loss plateau check (epoch 11)\n"
        "  last 5 losses: 0.500100, 0.500050, 0.500050, 0.500050, 0.500050\n"
        "  variance: 4.00e-10 | improvement over 5 epochs: 0.000050\n"
        "  classic rule (variance < 1e-6 and improvement < 1e-4): plateau\n"
        "  doctor: flat"
    )


def test_block_of_a_loss_that_moves_in_chinese():
    report = plateau((0.6, 0.55, 0.5, 0.45, 0.4), 0.005, 0.2, False, "improving")
    assert plateau_block(21, report, "zh") == (
        "[诊断] Loss平台期检查（第 21 轮）\n"
        "  最近 5 轮损失：0.600000, 0.550000, 0.500000, 0.450000, 0.400000\n"
        "  方差：5.00e-03 | 5 轮内改善：0.200000\n"
        "  经典规则（方差 < 1e-6 且改善 < 1e-4）：非平台期\n"
        "  诊断结论：仍在下降"
    )


@pytest.mark.parametrize("shape", list(Shape))
def test_every_shape_has_words(shape):
    report = plateau((0.5,), 0.0, 0.0, False, shape.value)
    assert plateau_block(1, report, "en") != plateau_block(1, report, "zh")


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (step_line(5, 8, HEALTHY, "en"), True),
        ("2026-01-01 10:00:00,123 INFO " + step_line(120, 4000, HEALTHY, "zh"), True),
        ("Epoch [5/100] | Train Loss: 0.8234 (BCE: 0.2156) | Val Dice: 0.3845", False),
        ("[diagnosis] loss plateau check (epoch 11)", False),
        ("RuntimeError: Epoch [5] Step 8", False),
        ("", False),
    ],
)
def test_lines_of_steps_are_told_from_others(line, expected):
    assert is_step_line(line) is expected
