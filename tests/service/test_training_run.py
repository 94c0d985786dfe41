from __future__ import annotations

import pytest
from sqlalchemy import select

from octa_backend.errors import ModelNotFound
from octa_backend.service import attempt_service, experiment
from octa_backend.service.launcher import WorkerOrder
from octa_backend.service.training_run import run_training
from octa_backend.storage.tables import Dataset, Job, JobFinding, JobState
from octa_backend.training.config import TrainConfig
from tests.fakes import a_dataset, a_job
from tests.tiny import SLOW_CPU, one_thread, synthetic_pairs, tiny_networks, write_store

DATASET = "d" * 20


@pytest.fixture
def trained(settings, database, files, monkeypatch):
    """Train a tiny network in this process; returns the job as it ended."""
    monkeypatch.setattr(experiment, "probe", lambda device: SLOW_CPU)

    def run(**options):
        config = TrainConfig(**{"model": "small_unet", "batch_size": 2, "epochs": 1, **options})
        with database.writing() as session:
            if session.get(Dataset, DATASET) is None:
                a_dataset(session, DATASET, scans=4)
                write_store(files.dataset(DATASET), synthetic_pairs(4))
            a_job(session).config = config.model_dump(mode="json")
            session.flush()
            attempt = attempt_service.claim_next(session, 1)
        order = WorkerOrder.of(settings, attempt.job_id, attempt.id)
        run_training(order, files, database, lambda: False)
        with database.reading() as session:
            return session.get_one(Job, order.job_id)

    with tiny_networks(), one_thread():
        yield run


def test_an_attempt_leaves_a_model_and_a_picture_of_the_augmentation(trained, files):
    job = trained()
    assert (job.state, job.epoch) == (JobState.SUCCEEDED, 1)
    assert (files.model(job.model_id) / "card.json").exists()
    assert (files.job(job.id) / "augmentation.png").exists()


def test_an_attempt_without_augmentation_draws_nothing(trained, files):
    assert not (files.job(trained(augmentation="none").id) / "augmentation.png").exists()


def test_components_of_any_loss_are_written_down(trained):
    assert trained(loss="focal_dice").state == JobState.SUCCEEDED


def test_an_attempt_writes_tensorboard_files_into_the_folder_of_its_job(trained, files):
    folder = files.tensorboard(trained().id)
    assert sorted(path.name for path in folder.iterdir()) == ["epochs", "scans", "steps"]
    assert list(folder.glob("steps/events.out.tfevents.*"))


def test_an_attempt_that_is_to_write_no_tensorboard_files_writes_none(trained, files):
    assert not files.tensorboard(trained(tensorboard=False).id).exists()


def test_an_attempt_begins_with_the_model_that_is_named_and_tells_what_was_taken(trained, database):
    first = trained()
    second = trained(pretrained=first.model_id)
    with database.reading() as session:
        rows = session.scalars(select(JobFinding).where(JobFinding.job_id == second.id)).all()
    assert "pretrained_taken" in [row.finding["code"] for row in rows]


def test_a_model_that_is_gone_ends_an_attempt_in_words(trained):
    with pytest.raises(ModelNotFound, match="no model has the id 'gone'"):
        trained(pretrained="gone")
