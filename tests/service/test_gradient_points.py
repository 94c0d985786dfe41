from __future__ import annotations

import time

import pytest
from sqlalchemy import insert
from sqlalchemy.dialects import postgresql

from octa_backend.errors import JobNotFound
from octa_backend.service import gradient_points as module
from octa_backend.service.gradient_points import gradient_points
from octa_backend.storage.tables import GradientNorm
from octa_backend.training.events import GRADIENT_GROUPS
from tests.fakes import a_job

CPU_SECONDS = 3.0
"""A hundred thousand steps take 0.3 s; a test machine may be ten times as slow."""


def a_run(database, steps_of_epochs):
    """A job's steps, whose loss counts them from 0, and those of another job; the job's id."""
    with database.writing() as session:
        job_id, other = a_job(session).id, a_job(session).id
        places = [(epoch, step + 1) for epoch, steps in enumerate(steps_of_epochs, 1) for step in range(steps)]
        if places:
            session.execute(insert(GradientNorm), [row(job_id, *place, n) for n, place in enumerate(places)])
        session.execute(insert(GradientNorm), [row(other, 1, step, 1e6) for step in (1, 2, 3)])
    return job_id


def row(job_id, epoch, step, number):
    norms = {name: number * factor for factor, name in enumerate(GRADIENT_GROUPS, 2)}
    return {"job_id": job_id, "epoch": epoch, "step": step, "loss": number, "lr": 0.5 * number, **norms}


def points_of(database, job_id, points):
    with database.reading() as session:
        return gradient_points(session, job_id, points)


def test_a_point_is_the_mean_and_the_largest_of_its_steps(database):
    first, second, third = points_of(database, a_run(database, [4, 4, 2]), 3)
    assert (first.epoch, first.first_step, first.steps) == (1, 1, 4)
    assert (second.epoch, second.first_step, second.steps) == (2, 1, 4)
    assert (third.epoch, third.first_step, third.steps) == (3, 1, 2)
    assert (second.mean["loss"], second.largest["loss"], second.lr) == (5.5, 7.0, 2.75)
    assert (second.mean["encoder_conv1"], second.largest["encoder_conv1"]) == (11.0, 14.0)
    assert (second.mean["decoder_output"], second.largest["decoder_output"]) == (27.5, 35.0)


def test_a_point_reaches_over_the_end_of_an_epoch(database):
    found = points_of(database, a_run(database, [4, 4, 4]), 2)
    assert [(point.epoch, point.first_step, point.steps) for point in found] == [(1, 1, 6), (2, 3, 6)]


@pytest.mark.parametrize("points", [1, 2, 6, 7, 12, 13, 5000])
def test_points_are_no_more_than_asked_for_and_leave_no_step_out(database, points):
    found = points_of(database, a_run(database, [5, 5, 3]), points)
    assert len(found) <= points
    assert sum(point.steps for point in found) == 13
    assert len({point.steps for point in found[:-1]}) <= 1
    assert sum(point.mean["loss"] * point.steps for point in found) == pytest.approx(sum(range(13)))


def test_few_steps_are_points_of_their_own(database):
    found = points_of(database, a_run(database, [2, 1]), 3)
    assert [(point.epoch, point.first_step, point.steps) for point in found] == [(1, 1, 1), (1, 2, 1), (2, 1, 1)]
    assert all(point.mean == point.largest for point in found)


def test_a_run_without_steps_has_no_points(database):
    assert points_of(database, a_run(database, []), 100) == []


def test_an_unknown_job_has_no_points(database):
    with pytest.raises(JobNotFound):
        points_of(database, "nope", 100)


def test_a_run_of_a_hundred_thousand_steps_answers_soon(database):
    job_id = a_run(database, [1000] * 100)
    start = time.process_time()
    found = points_of(database, job_id, 2000)
    assert time.process_time() - start < CPU_SECONDS
    assert [point.steps for point in found] == [50] * 2000
    assert (found[-1].epoch, found[-1].first_step) == (100, 951)


def test_statement_of_postgresql_divides_whole_numbers():
    statement = str(module._grouped("j1", 2000).compile(dialect=postgresql.dialect()))
    assert "row_number() OVER (ORDER BY gradient_norms.epoch, gradient_norms.step)" in statement
    assert "FLOOR" not in statement
    assert "NUMERIC" not in statement
