"""What `GET /train/jobs/{job_id}/diagnosis` answers."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from pydantic import Field

from octa_backend.controller.schemas import Answer, FindingOut
from octa_backend.diagnosis.doctor import RunState
from octa_backend.diagnosis.findings import Finding
from octa_backend.diagnosis.messages import describe
from octa_backend.diagnosis.text import Language
from octa_backend.service.run_doctor import Examined


class StartOut(Answer):
    """What was tried in the seconds before the first step, on copies of the network; null where it was not."""

    lr: float | None = Field(description="the run's learning rate, which the batch was tried at", examples=[0.001])
    initial_loss: float | None = Field(description="of the weights that the run began with", examples=[0.71])
    expected_initial_loss: float | None = Field(
        description="what theory says for a network that is undecided everywhere; null for losses without such a value",
        examples=[0.69],
    )
    overfit_dice: float | None = Field(description="best Dice on one batch seen again and again", examples=[0.84])
    overfit_steps: int | None = Field(description="after how many steps that ended", examples=[37])
    loss: float | None = Field(description="of that copy on its batch")
    zeroed_input_loss: float | None = Field(description="the same with all intensities 0")
    lr_found: float | None = Field(description="the rate that a range test suggests; null where the loss never fell")
    lr_diverges: float | None = Field(description="the least rate above it that makes the loss worse than untrained")
    not_tried: dict[str, str] = Field(
        description="`initial_loss`, `overfit`, `rates`, where they were left out: `time`, `no_batch` or `memory`",
        examples=[{"rates": "time"}],
    )


class JobDiagnosisOut(Answer):
    """What the training doctor says of a job."""

    job_id: str
    state: RunState
    epochs: int = Field(description="how many epochs it looked at", examples=[8])
    verdict: FindingOut = Field(description="one finding, always; an info where nothing is wrong")
    others: list[FindingOut] = Field(description="further findings, surest first")
    ruled_out: list[str] = Field(description="causes that were looked for and not found", examples=[["lr_too_low"]])
    doubtful: dict[str, float] = Field(description="confidence of causes that are neither told nor ruled out")
    not_judged: list[str] = Field(description="causes that the numbers so far do not allow to look for")
    start: StartOut | None = Field(description="what was tried before the first step; null before that, or without it")
    plateau: dict[str, Any] | None
    resembles: dict[str, Any] | None = Field(description="the nearest row of the diagnosis matrix: supporting evidence")

    @classmethod
    def of(cls, examined: Examined, language: Language) -> JobDiagnosisOut:
        """In the reader's language."""
        found, start = examined.diagnosis, examined.job.start_checks

        def shown(finding: Finding) -> FindingOut:
            return FindingOut.model_validate(describe(finding, language))

        return cls(
            job_id=examined.job.id,
            state=found.state,
            epochs=len(examined.history.epochs),
            verdict=shown(found.verdict),
            others=[shown(finding) for finding in found.others],
            ruled_out=list(found.ruled_out),
            doubtful=dict(found.doubtful),
            not_judged=list(found.not_judged),
            start=StartOut(**asdict(examined.history.start)) if start else None,
            plateau=dict(found.plateau) if found.plateau else None,
            resembles=asdict(found.resembles) if found.resembles else None,
        )
