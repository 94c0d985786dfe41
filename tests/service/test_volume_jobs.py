"""Jobs on volumes from zip to mask: folds and their ensemble, a worker that dies, a cancel; a tiny network in here."""

from __future__ import annotations

import base64
import gzip

import nibabel as nib
import numpy as np
import pytest
from sqlalchemy import func, select

from octa_backend.inference.model_card import ModelCard
from octa_backend.inference.model_folder import read_card
from octa_backend.service import attempt_service, experiment, fold_service, train_service
from octa_backend.service.launcher import WorkerOrder
from octa_backend.service.report_service import read_report
from octa_backend.service.training_run import run_training
from octa_backend.settings import Settings
from octa_backend.storage.tables import EpochReport, Job, JobState
from octa_backend.training import precision
from octa_backend.training.config import TrainConfig
from tests.fakes import Api, zip_bytes
from tests.tiny import SLOW_CPU, one_thread
from tests.volumes import SHAPE, affine_of, case, msd_files, nifti

QUICK = {
    "model": "tiny_unet",
    "target_shape": (16, 16, 16),
    "batch_size": 2,
    "lr": 0.01,
    "augmentation": "none",
    "start_checks": False,
    "tensorboard": False,
}
ODD = affine_of("LPS", (1, 1, 2))
EPOCH = ("epoch", "train_loss", "val_loss", "val_dice", "val_iou", "lr", "gradient_norms", "per_class")


class Died(BaseException):
    """What a test raises where a worker's process would be gone."""


@pytest.fixture(scope="module")
def api(tmp_path_factory):
    settings = Settings(data_dir=tmp_path_factory.mktemp("jobs") / "data", device="cpu", engine="torch")
    with Api(settings) as running, one_thread(), pytest.MonkeyPatch.context() as patch:
        for module in (experiment, precision):
            patch.setattr(module, "probe", lambda device: SLOW_CPU)
        yield running


@pytest.fixture(scope="module")
def file_id(api):
    """Four volumes, of which the last has longer voxels, brought to one size."""
    files = msd_files(4)
    for folder, values in zip(("imagesTr", "labelsTr"), case(3), strict=True):
        files[f"{folder}/case_003.nii.gz"] = nifti(values, ODD)
    uploaded = api.upload(zip_bytes(files)).json()["file_id"]
    repaired = api.post(f"/datasets/{uploaded}/repair", json={"remedies": ["resample_spacing"]})
    assert repaired.status_code == 201, repaired.text
    return repaired.json()["file_id"]


def start(api, file_id, **options):
    with api.parts.database.writing() as session:
        return train_service.start(session, file_id, TrainConfig(**{**QUICK, **options})).id


def work(api, should_stop=lambda: False):
    """Do what waits next; gives the job as it ended."""
    with api.parts.database.writing() as session:
        attempt = attempt_service.claim_next(session, 1)
    order = WorkerOrder.of(api.parts.settings, attempt.job_id, attempt.id)
    run_training(order, api.parts.files, api.parts.database, should_stop)
    return row(api, attempt.job_id)


def row(api, job_id):
    with api.parts.database.reading() as session:
        return session.get_one(Job, job_id)


def epochs(api, job_id):
    """What the epochs of a job say, without what the clock says."""
    with api.parts.database.reading() as session:
        found = session.scalars(select(EpochReport).where(EpochReport.job_id == job_id).order_by(EpochReport.epoch))
        return [{name: getattr(report, name) for name in EPOCH} for report in found]


def done(api, job_id):
    with api.parts.database.reading() as session:
        return session.scalar(select(func.count()).select_from(EpochReport).where(EpochReport.job_id == job_id))


def predicted(api, model_id, affine):
    """The mask of a new case, as it was sent and as it came."""
    sent = nib.Nifti1Image(case(9)[0], affine)
    answer = api.post(
        "/predict", files={"file": ("new.nii.gz", nifti(case(9)[0], affine))}, data={"model_id": model_id}
    )
    assert answer.status_code == 200, answer.text
    mask = nib.Nifti1Image.from_bytes(gzip.decompress(base64.b64decode(answer.json()["mask_nii_gz"])))
    assert mask.shape == sent.shape == SHAPE
    np.testing.assert_array_equal(mask.affine, sent.affine)
    assert set(np.unique(np.asarray(mask.dataobj))) <= {0, 1}
    return answer.json()


def test_folds_on_volumes_are_summed_up_and_their_ensemble_predicts(api, file_id):
    parent = start(api, file_id, epochs=1, folds=2)
    for _ in range(3):
        assert work(api).state == JobState.SUCCEEDED
    job = row(api, parent)
    report = read_report(api.parts.files.job(parent))
    assert report["kind"] == "cross_validation"
    scans = report["out_of_fold"]["scans"]
    assert [scan["name"] for scan in scans] == [f"case_00{number}" for number in range(4)]
    assert all(scan["metrics"]["overall"]["volume_error"] is not None for scan in scans)
    with api.parts.database.reading() as session:
        folds = fold_service.folds_of(session, parent)
    card, *of_folds = (
        ModelCard.model_validate(read_card(api.parts.files.model(one.model_id))) for one in (job, *folds)
    )
    assert [member.model_id for member in card.members] == [fold.model_id for fold in folds]
    for one in (card, *of_folds):
        assert (one.spatial_dims, one.patch_shape, one.common_spacing_mm) == (3, [16, 16, 16], [1, 1, 1])
    assert predicted(api, job.model_id, affine_of())["network_spacing_mm"] == [None]
    assert predicted(api, job.model_id, ODD)["network_spacing_mm"] == [[1, 1, 1]]


@pytest.fixture(scope="module")
def straight(api, file_id):
    """The epochs of a job that nothing stopped."""
    job_id = start(api, file_id, epochs=3)
    assert work(api).state == JobState.SUCCEEDED
    return epochs(api, job_id)


@pytest.mark.parametrize("last", [1, 2])
def test_a_job_on_volumes_whose_worker_died_has_the_epochs_of_one_that_lived(api, file_id, straight, last):
    job_id = start(api, file_id, epochs=3)

    def die():
        if done(api, job_id) >= last:
            raise Died
        return False

    with pytest.raises(Died):
        work(api, die)
    assert (row(api, job_id).state, row(api, job_id).model_id) == (JobState.RUNNING, None)
    with api.parts.database.writing() as session:
        [attempt] = attempt_service.open_attempts(session)
        attempt_service.crashed(session, attempt.id, "died", 3, [])
    job = work(api)
    assert (job.id, job.state, job.crashes) == (job_id, JobState.SUCCEEDED, 1)
    assert [one["epoch"] for one in epochs(api, job_id)] == [1, 2, 3]
    assert epochs(api, job_id) == straight


def test_a_cancelled_job_on_volumes_publishes_the_model_that_it_has(api, file_id, straight):
    job_id = start(api, file_id, epochs=3)
    job = work(api, lambda: done(api, job_id) >= 1)
    assert (job.id, job.state, job.model_id) == (job_id, JobState.CANCELLED, f"{job_id}-e1")
    assert epochs(api, job_id) == straight[:1]
    assert predicted(api, job.model_id, ODD)["network_spacing_mm"] == [[1, 1, 1]]
