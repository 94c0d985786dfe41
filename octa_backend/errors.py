"""Every expected error of the product. A class's docstring is the title users read; no HTTP status stands here."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from octa_backend.diagnosis.findings import Finding


class OctaError(Exception):
    """The request could not be fulfilled."""

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message

    @classmethod
    def title(cls) -> str:
        """The first line of the class's docstring."""
        return (cls.__doc__ or "").strip().splitlines()[0]


# --- settings and start ---------------------------------------------------------------------------------------------


class InvalidSettings(OctaError):
    """The settings are not valid."""


class DataFolderInUse(OctaError):
    """Another server already works on this data folder."""


class DatabaseUnusable(OctaError):
    """The database cannot be used."""


# --- uploads and datasets -------------------------------------------------------------------------------------------


class UploadTooLarge(OctaError):
    """The upload is larger than this server accepts."""


class StorageFull(OctaError):
    """There is not enough free space on the server's disk."""


class InvalidRequest(OctaError):
    """The request cannot be read."""


class InvalidArchive(OctaError):
    """The upload is not a zip archive that can be read."""


class UnsafeArchive(OctaError):
    """The archive holds something that is never unpacked."""


class ArchiveTooLarge(OctaError):
    """The archive unpacks to more than this server accepts."""


class InvalidDataset(OctaError):
    """The scans and masks do not fit together."""

    def __init__(self, message: str, findings: Sequence[Finding]) -> None:
        super().__init__(message)
        self.findings = tuple(findings)


class RemedyNotApplicable(OctaError):
    """This remedy does not apply here."""


class DatasetNotFound(OctaError):
    """No dataset has this id."""


class DatasetInUse(OctaError):
    """A job uses this dataset."""


class UnreadableScan(OctaError):
    """This file is not an image that can be read."""


class ScanTooLarge(OctaError):
    """This image has more pixels than this server accepts."""


class InvalidScale(OctaError):
    """The size of a pixel is not clear."""


# --- training -------------------------------------------------------------------------------------------------------


class InvalidConfig(OctaError):
    """The training configuration is not valid."""


class UnknownNetwork(InvalidConfig):
    """No network has this name."""


class JobNotFound(OctaError):
    """No job has this id."""


class IllegalJobState(OctaError):
    """The job's state does not allow this."""


class NoReportYet(OctaError):
    """The job has no report yet."""


class NoDiagnosisYet(OctaError):
    """There is nothing to judge the job by yet."""


class TrainingDiverged(OctaError):
    """The loss is no longer a finite number."""

    def __init__(self, message: str, what: str) -> None:
        """`what` names the components of the loss, or the gradient groups, that are not finite."""
        super().__init__(message)
        self.what = what


class IncompatibleCheckpoint(OctaError):
    """The checkpoint does not fit the configuration."""


class DeviceUnavailable(OctaError):
    """The device asked for is not there."""


# --- models and predictions -----------------------------------------------------------------------------------------


class ModelNotFound(OctaError):
    """No model has this id."""


class NoModelYet(OctaError):
    """There is no trained model yet."""


class ModelDoesNotFit(OctaError):
    """The model does not fit the dataset."""


class ModelsDiffer(OctaError):
    """The models have different classes."""


class InvalidOptions(OctaError):
    """These options of a prediction do not fit together."""


class NoTunedThreshold(OctaError):
    """The model has no tuned threshold."""


class ScanDoesNotFit(OctaError):
    """The scan is not of the kind that the model was trained on."""


class MaskDoesNotFit(OctaError):
    """The mask does not fit the scan or the model."""


class ModelInUse(OctaError):
    """Something needs this model."""


class InvalidModel(OctaError):
    """This is not a model that can be used."""


class ComparisonNotFound(OctaError):
    """No comparison has this id."""


class NoTableYet(OctaError):
    """The comparison has no table."""


class PredictionNotFound(OctaError):
    """No prediction that was kept has this id."""


class PredictionJobNotFound(OctaError):
    """No prediction job has this id."""


class ExportFailed(OctaError):
    """This model cannot be exported in this format."""


class TooManyPredictions(OctaError):
    """As many predictions wait as this server takes."""

    def __init__(self, message: str, retry_after_seconds: int) -> None:
        super().__init__(message)
        self.retry_after_seconds = retry_after_seconds


# --- lists and access -----------------------------------------------------------------------------------------------


class ServerUnreachable(OctaError):
    """The server does not answer."""


class InvalidCursor(OctaError):
    """The cursor is not one that this server gave."""


class ForeignPage(OctaError):
    """A web page of another site may not do this."""


class NotAuthenticated(OctaError):
    """A valid API key is needed."""
