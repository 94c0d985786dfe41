"""The gradient norms of a whole run in so many points, each of a group of steps; the database does the arithmetic."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Integer, Row, Select, case, func, select
from sqlalchemy.orm import Session

from octa_backend.service import train_service
from octa_backend.storage.tables import GradientNorm
from octa_backend.training.events import GRADIENT_GROUPS

MEASURED = ("loss", *GRADIENT_GROUPS)


@dataclass(frozen=True, slots=True)
class GradientPoint:
    """Successive steps as one point of a curve.

    Attributes:
        epoch, first_step: of the first of them, both from 1.
        steps: how many they are; fewer in the last point of a run than in the others.
        lr: mean.
        mean, largest: of the loss and of the L2 norm of each gradient group.
    """

    epoch: int
    first_step: int
    steps: int
    lr: float
    mean: Mapping[str, float]
    largest: Mapping[str, float]


def gradient_points(session: Session, job_id: str, points: int) -> Sequence[GradientPoint]:
    """A job's steps in order, in at most `points` groups of equally many; single steps where they are no more.

    Raises:
        JobNotFound: no job has this id.
    """
    train_service.get(session, job_id)
    return [_point(row) for row in session.execute(_grouped(job_id, points))]


def _grouped(job_id: str, points: int) -> Select[Any]:
    """One statement, so that steps that a worker adds meanwhile make no point too many."""
    of_job = GradientNorm.job_id == job_id
    count = select(func.count()).select_from(GradientNorm).where(of_job).scalar_subquery()
    number = func.row_number(type_=Integer).over(order_by=(GradientNorm.epoch, GradientNorm.step)) - 1
    size = (count + points - 1) // points
    numbered = select(GradientNorm, (number // size).label("point"), (number % size).label("place")).where(of_job)
    step = numbered.subquery().c
    return (
        select(
            func.min(step.epoch).label("epoch"),
            func.min(case((step.place == 0, step.step))).label("first_step"),
            func.count().label("steps"),
            func.avg(step.lr).label("lr"),
            *(func.avg(step[name]).label(f"mean_{name}") for name in MEASURED),
            *(func.max(step[name]).label(f"largest_{name}") for name in MEASURED),
        )
        .group_by(step.point)
        .order_by(step.point)
    )


def _point(row: Row[Any]) -> GradientPoint:
    found = row._mapping
    return GradientPoint(
        epoch=found["epoch"],
        first_step=found["first_step"],
        steps=found["steps"],
        lr=found["lr"],
        mean={name: found[f"mean_{name}"] for name in MEASURED},
        largest={name: found[f"largest_{name}"] for name in MEASURED},
    )
