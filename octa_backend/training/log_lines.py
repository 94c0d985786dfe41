"""Lines for a log that people read while a training runs: gradients of a step, and whether the loss stands still."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from octa_backend.diagnosis.letter_words import SHAPES
from octa_backend.diagnosis.text import Language, Text, render
from octa_backend.diagnosis.training import EXPLODING_NORM, HEALTHY_NORM, MILD_RATIO, gradient_verdict
from octa_backend.training.events import GRADIENT_GROUPS

HINTS: Mapping[str, Text] = {
    "healthy": Text("healthy (all groups > {threshold})", "健康（各组均 > {threshold}）"),
    "weak": Text(
        "{groups} at most {threshold}, the first layers still learn", "{groups} 不超过 {threshold}，浅层仍在学习"
    ),
    "mild_vanishing": Text(
        "mild vanishing (shallow/deep ratio > {ratio}): {value}", "轻微梯度消失（浅层/深层比值 > {ratio}）：{value}"
    ),
    "vanishing": Text(
        "vanishing (encoder_conv1 at most {threshold}): the first layers hardly learn",
        "梯度消失（encoder_conv1 不超过 {threshold}）：浅层几乎不学习",
    ),
    "exploding": Text(
        "exploding ({groups} above {exploding} or not finite): lower the learning rate or clip gradients",
        "梯度爆炸（{groups} 超过 {exploding} 或不是有限数）：请降低学习率或裁剪梯度",
    ),
}
"""What a step's gradients say, by `gradient_verdict`; `weak` where healthy does not hold for all groups."""


_BLOCK = Text(
    "[diagnosis] loss plateau check (epoch {epoch})\n"
    "  last {count} losses: {losses}\n"
    "  variance: {variance:.2e} | improvement over {count} epochs: {improvement:.6f}\n"
    "  classic rule (variance < 1e-6 and improvement < 1e-4): {classic}\n"
    "  doctor: {doctor}",
    "[诊断] Loss平台期检查（第 {epoch} 轮）\n"
    "  最近 {count} 轮损失：{losses}\n"
    "  方差：{variance:.2e} | {count} 轮内改善：{improvement:.6f}\n"
    "  经典规则（方差 < 1e-6 且改善 < 1e-4）：{classic}\n"
    "  诊断结论：{doctor}",
)
_PLATEAU = Text("plateau", "平台期")
_MOVING = Text("no plateau", "非平台期")
_STEP = re.compile(r"\bEpoch \[\d+\] Step \d+ \| ")


def step_line(epoch: int, step: int, norms: Mapping[str, float], language: Language) -> str:
    """One step's gradient norms, and what they say.

    Args:
        epoch: from 1.
        step: within the epoch, from 1.
        norms: L2 norm of each gradient group.
        language: of the hint; all else is the same in both.
    """
    groups = " | ".join(f"{name}: {norms[name]:.6f}" for name in GRADIENT_GROUPS)
    return f"Epoch [{epoch}] Step {step} | {groups} | Hint: {gradient_hint(norms, language)}"


def gradient_hint(norms: Mapping[str, float], language: Language) -> str:
    """A few words on the gradient norms of the four groups."""
    verdict = gradient_verdict(norms)
    named = [name for name in GRADIENT_GROUPS if norms[name] <= HEALTHY_NORM]
    if verdict == "exploding":
        named = [name for name in GRADIENT_GROUPS if not norms[name] <= EXPLODING_NORM]
    elif verdict == "healthy" and named:
        verdict = "weak"
    evidence = {
        "threshold": f"{HEALTHY_NORM:.0e}".replace("e-0", "e-"),
        "exploding": f"{EXPLODING_NORM:g}",
        "ratio": f"{MILD_RATIO:g}",
        "value": f"{norms['decoder_output'] / norms['encoder_conv1']:.1f}" if verdict == "mild_vanishing" else "",
        "groups": ", ".join(named),
    }
    return render(HINTS[verdict], evidence, language)


def is_step_line(line: str) -> bool:
    """Whether a line of a log is one of `step_line`, with or without a time before it."""
    return _STEP.search(line) is not None


def plateau_block(epoch: int, plateau: Mapping[str, Any], language: Language) -> str:
    """Whether the loss stands still, by the classic rule and by the training doctor.

    Args:
        epoch: the last one, from 1.
        plateau: what `diagnosis.doctor.plateau_report` says of the losses so far.
        language: of all words.
    """
    losses = plateau["last_losses"]
    evidence = {
        "epoch": epoch,
        "count": len(losses),
        "losses": ", ".join(f"{loss:.6f}" for loss in losses),
        "variance": plateau["variance"],
        "improvement": plateau["improvement"],
        "classic": render(_PLATEAU if plateau["is_plateau"] else _MOVING, {}, language),
        "doctor": render(SHAPES[plateau["verdict"]], {}, language),
    }
    return render(_BLOCK, evidence, language)
