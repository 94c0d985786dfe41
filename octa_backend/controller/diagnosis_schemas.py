"""What `GET /train/jobs/{job_id}/diagnosis` answers."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from pydantic import Field

from octa_backend.controller.schemas import Answer, FindingOut
from octa_backend.diagnosis.doctor import State
from octa_backend.diagnosis.findings import Finding
from octa_backend.diagnosis.messages import describe
from octa_backend.diagnosis.text import Language
from octa_backend.service.run_doctor import Examined


class DiagnosisOut(Answer):
    """What the training doctor says of a job."""

    job_id: str
    state: State
    epochs: int = Field(description="how many epochs it looked at", examples=[8])
    verdict: FindingOut = Field(description="one finding, always; an info where nothing is wrong")
    others: list[FindingOut] = Field(description="further findings, surest first")
    ruled_out: list[str] = Field(description="causes that were looked for and not found", examples=[["lr_too_low"]])
    doubtful: dict[str, float] = Field(description="confidence of causes that are neither told nor ruled out")
    not_judged: list[str] = Field(description="causes that the numbers so far do not allow to look for")
    plateau: dict[str, Any] | None
    resembles: dict[str, Any] | None = Field(description="the nearest row of the diagnosis matrix: supporting evidence")

    @classmethod
    def of(cls, examined: Examined, language: Language) -> DiagnosisOut:
        """In the reader's language."""
        found = examined.diagnosis

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
            plateau=dict(found.plateau) if found.plateau else None,
            resembles=asdict(found.resembles) if found.resembles else None,
        )
