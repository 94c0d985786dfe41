from __future__ import annotations

import pytest

from octa_backend.service import attempt_service, experiment
from octa_backend.service.launcher import WorkerOrder
from octa_backend.service.training_run import run_training
from octa_backend.storage.tables import Job, JobState
from octa_backend.training.config import TrainConfig
from tests.fakes import a_dataset, a_job
from tests.tiny import SLOW_CPU, one_thread, synthetic_pairs, tiny_networks, write_store


@pytest.fixture
def trained(settings, database, files, monkeypatch):
    """Train a tiny network in this process; returns the job as it ended."""
    monkeypatch.setattr(experiment, "probe", lambda device: SLOW_CPU)

    def run(**options):
        config = TrainConfig(**{"model": "small_unet", "batch_size": 2, "epochs": 1, **options})
        with database.writing() as session:
            dataset = a_dataset(session, scans=4)
            write_store(files.dataset(dataset.id), synthetic_pairs(4))
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
