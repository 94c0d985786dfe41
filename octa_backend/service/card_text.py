"""A model's card in words: Markdown, with the headings in English and Chinese."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from octa_backend.inference.model_card import ModelCard

SCORES = {
    "dice": "Dice, 0 to 1",
    "iou": "IoU, 0 to 1",
    "precision": "precision, 0 to 1",
    "recall": "recall, 0 to 1",
    "loss": "loss",
}
"""Name and unit of each number on validation and test scans."""

HEADLINE = (
    "A network that segments eye scans, for research use only. It is no medical device: do not diagnose with it.",
    "用于眼部扫描分割的网络，仅供科研使用。它不是医疗器械：请勿用于诊断。",
)
CURVE_NAMES = {
    "epoch": "epoch",
    "train_loss": "training loss",
    "val_loss": "validation loss",
    "val_dice": "Dice",
    "lr": "lr",
}
MOST_EPOCHS = 50
"""Rows of the curves' table; longer runs are thinned out."""


def card_text(card: ModelCard) -> str:
    """The card as Markdown."""
    parts = [
        f"# {_plain(card.name or card.model_id or card.network)}",
        *HEADLINE,
        _section("What it is · 模型", _identity(card)),
        _section("Data · 数据", _data(card)),
        _section("Results · 结果", _results(card)),
        _section("Training · 训练", _training(card)),
        _section("Findings · 发现", _findings(card)),
        _section("Versions · 版本", _table(("package", "version"), card.versions.items())),
        _section("Licence · 许可", _plain(card.licence or "not stated")),
        _section("Notes · 备注", _plain(card.notes)) if card.notes else "",
        f"*{_plain(card.notice)} · 仅供科研使用*",
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _section(title: str, text: str) -> str:
    return f"## {title}\n\n{text}" if text else ""


def _identity(card: ModelCard) -> str:
    facts: dict[str, Any] = {
        "model": card.model_id,
        "network": card.network,
        "networks in the ensemble": len(card.members) if card.members else None,
        "parameters": (card.plan.get("estimate") or {}).get("parameters"),
        "channels of a scan": card.channels,
        "classes with background": card.classes,
        "class names": ", ".join(label.name for label in card.labels) or None,
        "class that was ignored": card.ignore_index,
        "intensities": card.normalisation,
        "size of a voxel, mm": "×".join(f"{side:g}" for side in card.common_spacing_mm) or None,
        "imported from": card.imported.file if card.imported else None,
    }
    return _table(("field", "value"), ((name, value) for name, value in facts.items() if value is not None))


def _data(card: ModelCard) -> str:
    splits = card.splits
    grouped = "whole patients" if splits.grouped_by_patient else "single scans, not by patient"
    facts = {
        "dataset": card.dataset.name or "not stated",
        "SHA-256": card.dataset.sha256 or "not stated",
        "training scans": len(splits.train),
        "validation scans": len(splits.val),
        "test scans": len(splits.test),
        "divided by": grouped,
    }
    return _table(("field", "value"), facts.items())


def _results(card: ModelCard) -> str:
    validation, test = card.validation or {}, card.test or {}
    rows = [
        (unit, _number(validation.get(name)), _number(test.get(name)), _number(test.get(f"{name}_std")))
        for name, unit in SCORES.items()
        if name in validation or name in test
    ]
    told = [_table(("metric, mean over scans", "validation", "test", "test, standard deviation"), rows)] if rows else []
    if card.best is not None:
        told.insert(0, f"Epoch {card.best.epoch}, the best on the validation scans: Dice {card.best.val_dice:.4f}.")
    if card.test is None:
        told.append("No test scans were scored.")
    return "\n\n".join(told)


def _training(card: ModelCard) -> str:
    config = card.plan.get("config", {})
    reasons = [(one["field"], one["value"], one["reason"]) for one in card.plan.get("reasons", ())]
    told = [_table(("option", "value"), config.items())]
    if reasons:
        told.append(_table(("decided by the plan", "value", "because"), reasons))
    if card.curves.get("epoch"):
        told.append(_curves(card.curves))
    return "\n\n".join(told)


def _curves(curves: Mapping[str, Sequence[float | None]]) -> str:
    names = [name for name in CURVE_NAMES if name in curves]
    rows = list(zip(*(curves[name] for name in names), strict=False))
    thinned = rows[:: -(-len(rows) // MOST_EPOCHS)]
    shown = [(f"{row[0]:.0f}", *map(_number, row[1:])) for row in thinned if row[0] is not None]
    return _table([CURVE_NAMES[name] for name in names], shown)


def _findings(card: ModelCard) -> str:
    if not card.findings:
        return "Nothing was noticed. · 未发现问题。"
    rows = [(one.severity, one.code, one.message) for one in card.findings]
    return _table(("severity", "code", "what was noticed"), rows)


def _table(head: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(map(_plain, line)) + " |" for line in lines)


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.4g}"


def _plain(value: Any) -> str:
    """Text that stays in its cell and is no markup of its own."""
    text = " ".join(str(value).split())
    for letter in "\\|<>[]`*":
        text = text.replace(letter, f"\\{letter}")
    return text
