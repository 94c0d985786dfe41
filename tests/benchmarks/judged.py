"""Runs of the doctor's benchmark as they are judged, drawn up by hand."""

from __future__ import annotations

from judged_runs import Judgement, Run

from octa_backend.diagnosis.findings import Remedy


def a_job(case, *remedies, seed=0, data="drawn"):
    applied = [{"code": code, "changes": {}, "from_checkpoint": False} for code in remedies]
    return {"case": case, "data": data, "seed": seed, "epochs": None, "remedies": applied}


def a_run(
    case, *remedies, dice=0.8, val_dice=None, told=None, verdict=None, remedy=None, seed=0, findings=(), diverged=False
):
    """A run of 20 epochs; `told` maps codes to epochs, `remedy` is the code that its verdict proposes."""
    proposed = Remedy(remedy, from_checkpoint=False) if remedy else None
    seen = dice if val_dice is None else val_dice
    judgement = Judgement(told or {}, verdict, verdict, proposed, epochs=20, val_dice=seen)
    return Run(a_job(case, *remedies, seed=seed), judgement, dice, findings, diverged)
