"""What was tried before the first step, in sentences: for the log, the console and the doctor's letter."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from octa_backend.diagnosis.run_checks_rate import bracket
from octa_backend.diagnosis.run_history import TRIALS, StartChecks
from octa_backend.diagnosis.text import Language, Text, render

START_WORDS: Mapping[str, Text] = {
    "initial_loss": Text("initial loss {loss} (expected {expected})", "初始损失 {loss}（理论值 {expected}）"),
    "initial_loss_alone": Text(
        "initial loss {loss} (this loss has no expected value)", "初始损失 {loss}（该损失函数没有理论值）"
    ),
    "not_finite": Text("the initial loss is not finite", "初始损失不是有限数"),
    "overfit": Text(
        "one batch by heart: Dice {dice} after {steps} steps at lr {lr}",
        "记住单个批次：以学习率 {lr} 训练 {steps} 步后 Dice 为 {dice}",
    ),
    "zeroed": Text(
        "loss on that batch {loss}, with all intensities zeroed {zeroed}",
        "该批次上的损失 {loss}，全部灰度置零后 {zeroed}",
    ),
    "rates": Text(
        "range test: suggests lr {found}, {diverges}; "
        "the chosen lr {lr} is {place} the sound range, {lowest} to {highest}",
        "学习率范围测试：建议 {found}，{diverges}；所选学习率 {lr} {place}合理范围（{lowest} 至 {highest}）",
    ),
    "diverges": Text("diverges from {rate} on", "自 {rate} 起发散"),
    "stays": Text("diverges nowhere", "未见发散"),
    "inside": Text("within", "处于"),
    "below": Text("below", "低于"),
    "above": Text("above", "高于"),
    "no_fall": Text("range test: the loss fell at no rate", "学习率范围测试：损失在任何学习率下都未下降"),
    "skipped": Text("{trial} not tried: {reason}", "未进行{trial}：{reason}"),
}

TRIAL_NAMES: Mapping[str, Text] = {
    "initial_loss": Text("initial loss", "初始损失"),
    "overfit": Text("one batch by heart", "记住单个批次"),
    "rates": Text("range test", "学习率范围测试"),
}

REASONS: Mapping[str, Text] = {
    "time": Text("the time did not suffice", "时间不足"),
    "memory": Text("the device's memory did not suffice", "设备内存不足"),
    "no_batch": Text("no batch has both foreground and background", "没有同时包含前景和背景的批次"),
}


def start_lines(checks: StartChecks, language: Language) -> Iterator[str]:
    """A line per trial, and why one was left out; none where nothing was to be tried."""
    if checks == StartChecks():
        return
    tell = {"initial_loss": _first_loss, "overfit": _overfit, "rates": _rates}
    for trial in TRIALS:
        reason = checks.not_tried.get(trial)
        if reason is None:
            yield from tell[trial](checks, language)
        else:
            named = {"trial": TRIAL_NAMES[trial], "reason": REASONS[reason]}
            yield _say("skipped", language, **{name: render(text, {}, language) for name, text in named.items()})


def _say(word: str, language: Language, **values: object) -> str:
    return render(START_WORDS[word], values, language)


def _first_loss(checks: StartChecks, language: Language) -> Iterator[str]:
    if checks.initial_loss is None:
        yield _say("not_finite", language)
    elif checks.expected_initial_loss is None:
        yield _say("initial_loss_alone", language, loss=f"{checks.initial_loss:.4f}")
    else:
        losses = {"loss": f"{checks.initial_loss:.4f}", "expected": f"{checks.expected_initial_loss:.4f}"}
        yield _say("initial_loss", language, **losses)


def _overfit(checks: StartChecks, language: Language) -> Iterator[str]:
    if checks.overfit_dice is not None and checks.lr is not None:
        dice, lr = f"{checks.overfit_dice:.4f}", f"{checks.lr:g}"
        yield _say("overfit", language, dice=dice, steps=checks.overfit_steps, lr=lr)
    if checks.loss is not None and checks.zeroed_input_loss is not None:
        yield _say("zeroed", language, loss=f"{checks.loss:.4f}", zeroed=f"{checks.zeroed_input_loss:.4f}")


def _rates(checks: StartChecks, language: Language) -> Iterator[str]:
    limits = bracket(checks)
    if limits is None or checks.lr is None:
        yield _say("no_fall", language)
        return
    lowest, highest = limits
    place = "below" if checks.lr < lowest else "above" if checks.lr > highest else "inside"
    rate = checks.lr_diverges
    diverges = _say("stays", language) if rate is None else _say("diverges", language, rate=f"{rate:.2g}")
    yield _say(
        "rates",
        language,
        found=f"{checks.lr_found:.2g}",
        diverges=diverges,
        lr=f"{checks.lr:g}",
        place=_say(place, language),
        lowest=f"{lowest:.2g}",
        highest=f"{highest:.2g}",
    )
