"""The start of a training: is the dataset fit for it, shall it be repaired first, and what was changed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from octa_backend.data.file_findings import summary
from octa_backend.data.folds import check_folds
from octa_backend.diagnosis.findings import Finding, Severity
from octa_backend.diagnosis.remedies import CONFIG_REMEDIES, config_changes
from octa_backend.errors import InvalidDataset
from octa_backend.service import dataset_service, train_service
from octa_backend.service.dataset_service import Candidate, checked, keep
from octa_backend.service.pretrained import require_on_shelf
from octa_backend.service.repair_service import automatic, origin, repaired, safe_remedies
from octa_backend.settings import Settings
from octa_backend.storage.database import Database
from octa_backend.storage.tables import Dataset, Job
from octa_backend.storage.uploads import Upload
from octa_backend.training.config import TrainConfig

WAYS_OUT = "send repair=auto to have safe remedies applied, or force=true to train all the same"
"""What the options that answer errors in the data are called in the API."""


UNASKED: dict[str, Any] = {"pos_weight": "auto"}
"""What a repair takes unasked in place of what a remedy proposes: a plan weighs by the scans that train, within bounds,
and not where a weight beside the Dice part costs Dice."""


class StartOptions(BaseModel):
    """What to do where the checks find errors in the data."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    repair: Literal["none", "auto"] = "none"
    """`auto` applies the safe remedies that the findings propose, and trains on the repaired dataset."""

    force: bool = False
    """Train although there are errors: what can be read is used as it is."""


@dataclass(frozen=True, slots=True)
class Started:
    """A queued job, and what was changed before.

    Attributes:
        repairs: the changes of the dataset, by remedy.
        config_changes: fields of the configuration that remedies set.
    """

    job: Job
    repairs: Sequence[dict[str, Any]]
    config_changes: dict[str, Any]


@dataclass(frozen=True, slots=True)
class _Admitted:
    dataset: Dataset
    config: TrainConfig
    config_changes: dict[str, Any]
    repairs: Sequence[dict[str, Any]] = ()


def start_with_upload(
    database: Database, settings: Settings, upload: Upload, config: TrainConfig, options: StartOptions
) -> Started:
    """Check an upload and queue a training on it.

    Raises:
        InvalidDataset: it has errors that neither a repair nor the configuration answers; nothing was kept.
        InvalidConfig: there are fewer patients, or scans, than folds, or `pretrained` is not the id of a model of
            such scans with weights; nothing was kept.
        and as `dataset_service.take_in`.
    """
    with checked(database, settings, upload) as candidate:
        return _start(database, settings, candidate, config, options)


def start_with_dataset(
    database: Database, settings: Settings, file_id: str, config: TrainConfig, options: StartOptions
) -> Started:
    """Queue a training on a dataset.

    Raises:
        DatasetNotFound: no dataset has this id.
        InvalidDataset: it has errors that neither a repair nor the configuration answers.
        InvalidConfig: there are fewer patients, or scans, than folds, or `pretrained` is not the id of a model of
            such scans with weights.
    """
    with database.reading() as session:
        dataset = dataset_service.get(session, file_id)
    return _start(database, settings, dataset_service.as_candidate(settings, dataset), config, options)


def _start(
    database: Database, settings: Settings, candidate: Candidate, config: TrainConfig, options: StartOptions
) -> Started:
    with database.reading() as session:
        require_on_shelf(session, config.pretrained, candidate.spatial_dims)
    admitted = _admit(database, settings, candidate, config, options)
    with database.writing() as session:
        job = train_service.start(session, admitted.dataset.id, admitted.config)
    return Started(job, admitted.repairs, admitted.config_changes)


def _admit(
    database: Database, settings: Settings, candidate: Candidate, config: TrainConfig, options: StartOptions
) -> _Admitted:
    """Keep a candidate that may be trained on; or its repaired copy beside it."""
    if options.repair == "auto" and safe_remedies(candidate.findings):
        with repaired(settings, candidate.upload.path, candidate.upload.name, automatic) as made:
            if made is not None:
                upload, steps = made
                with checked(database, settings, upload) as better:
                    config, changes = judge(better.findings, config, options)
                    _check_folds(settings, better, config)
                    came = origin(keep(database, settings, candidate).id, steps)
                    return _Admitted(keep(database, settings, better, came), config, changes, came.summary)
    config, changes = judge(candidate.findings, config, options)
    _check_folds(settings, candidate, config)
    return _Admitted(keep(database, settings, candidate), config, changes)


def _check_folds(settings: Settings, candidate: Candidate, config: TrainConfig) -> None:
    if config.folds:
        check_folds(dataset_service.manifest_of(settings, candidate).scans, config.folds)


def judge(
    findings: Sequence[Finding], config: TrainConfig, options: StartOptions, ways_out: str = WAYS_OUT
) -> tuple[TrainConfig, dict[str, Any]]:
    """The configuration with the changes that remedies make where the user set nothing.

    Args:
        findings: of the dataset.
        config: what to compute.
        options: what to do where there are errors.
        ways_out: what the user is told to send or to give where errors are left.

    Raises:
        InvalidDataset: an error is left, and it was not forced.
    """
    changes = {}
    if options.repair == "auto":
        proposed = config_changes([found for found in findings if found.severity is not Severity.INFO])
        left_open = proposed.keys() - config.model_fields_set
        changes = {name: UNASKED.get(name, value) for name, value in proposed.items() if name in left_open}
        config = config.model_copy(update=changes)
    left = [found for found in findings if found.severity is Severity.ERROR and not _answers(config, changes, found)]
    if left and not options.force:
        raise InvalidDataset(f"{summary(left)}; {ways_out}", findings)
    return config, changes


def _answers(config: TrainConfig, changes: Mapping[str, Any], finding: Finding) -> bool:
    """Whether the configuration does already what the finding's remedy would, by these changes or by itself."""
    remedy = finding.remedy
    return (
        remedy is not None
        and remedy.code in CONFIG_REMEDIES
        and all(name in changes or _is_set(config, name) for name in remedy.changes)
    )


def _is_set(config: TrainConfig, name: str) -> bool:
    return getattr(config, name) not in (None, TrainConfig.model_fields[name].default)
