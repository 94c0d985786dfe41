"""Settings: where things are and how big they may be. Built once in the CLI and passed down."""

from __future__ import annotations

import difflib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict, SettingsError

from octa_backend.errors import InvalidSettings

PREFIX = "OCTA_"
DATABASE_FILE = "octa.sqlite3"
EngineName = Literal["auto", "torch", "openvino-int8"]
LOOPBACK = ("127.0.0.1", "localhost", "::1")


def _fit_for_a_header(key: SecretStr) -> SecretStr:
    letters = key.get_secret_value()
    if not letters.strip():
        raise ValueError("an API key is empty")
    if not (letters.isascii() and letters.isprintable() and letters == letters.strip()):
        raise ValueError("an API key has ASCII letters, digits and signs alone; with others nobody would be let in")
    return key


def _names_a_database(url: str) -> str:
    if not url:
        return url
    from sqlalchemy import make_url  # noqa: PLC0415 - only where one is set
    from sqlalchemy.exc import ArgumentError  # noqa: PLC0415

    try:
        parts = make_url(url)
    except ArgumentError as error:
        raise ValueError("it is no SQLAlchemy URL, as postgresql+psycopg://name@host/octa is") from error
    if parts.get_backend_name() == "sqlite" and parts.database in (None, "", ":memory:"):
        raise ValueError("SQLite needs a file that workers can open, too, as in sqlite:////data/octa.sqlite3")
    return url


class Settings(BaseSettings):
    """Read from the environment with the prefix `OCTA_`; lists are JSON, for example `OCTA_API_KEYS='["…"]'`."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX, frozen=True, extra="forbid", use_attribute_docstrings=True, validate_default=True
    )

    host: str = "127.0.0.1"
    """Address to listen on. Anything but loopback needs `api_keys`."""

    port: int = Field(default=8000, ge=0, le=65535)
    """Port to listen on; 0 takes a free one."""

    data_dir: Path = Path("octa_data")
    """Folder of the database, datasets, jobs and models."""

    database_url: Annotated[str, AfterValidator(_names_a_database)] = ""
    """SQLAlchemy URL; empty is SQLite in `data_dir`. The driver of another database is yours to install."""

    device: str = "auto"
    """Where trainings run: `auto` (CUDA where there is one), `cpu`, `cuda` or `cuda:N`."""

    jobs_per_device: int = Field(default=1, ge=1, le=64)
    """How many trainings run at the same time; the others wait in order."""

    max_attempts: int = Field(default=3, ge=1, le=100)
    """How many worker processes may die over one job before it fails."""

    max_upload_mib: int = Field(default=4096, ge=1)
    """Largest upload of a dataset, MiB."""

    max_unpacked_mib: int = Field(default=16384, ge=1)
    """Largest sum of a zip's unpacked files, MiB."""

    max_files: int = Field(default=50_000, ge=1)
    """Most files in a zip."""

    max_compression_ratio: float = Field(default=200.0, gt=1)
    """A file over 1 MiB that unpacks to more than so many times its packed size is taken for a bomb."""

    max_scan_pixels: int = Field(default=64_000_000, ge=256)
    """Most pixels of one image."""

    max_scan_voxels: int = Field(default=2**28, ge=4096)
    """Most voxels of one volume, all its channels together; one of 512×512×1024 has as many as the default."""

    max_model_mib: int = Field(default=4096, ge=1)
    """Largest upload of `POST /models/import`, MiB."""

    max_predict_mib: int = Field(default=256, ge=1)
    """Largest request of `POST /predict`, MiB."""

    max_predict_files: int = Field(default=64, ge=1)
    """Most scans in one request of `POST /predict`."""

    predict_queue: int = Field(default=64, ge=1)
    """Most requests of `POST /predict` that are answered or wait at the same time; the next one gets 503."""

    predictions_kept: int = Field(default=10_000, ge=0)
    """How many predictions the history keeps, those of prediction jobs not counted; the oldest leave first. 0: none."""

    engine: EngineName = "auto"
    """What predictions on a CPU are computed with: `auto` (OpenVINO once the model's graph is made), `torch`, or
    `openvino-int8` (8-bit integers: quicker, a little less exact; needs the extra `int8`)."""

    models_memory_mib: int = Field(default=4096, ge=64)
    """Memory for loaded models, MiB; the least recently used one leaves first. The one that answers always fits."""

    warm_models: int = Field(default=0, ge=0)
    """How many of the newest models are loaded when the server starts, so that their first prediction is quick."""

    cors_origins: list[str] = Field(default_factory=list)
    """Origins of web pages that may call the API, for example `["http://localhost:5173"]`; `["*"]` allows all."""

    allowed_hosts: list[str] = Field(default_factory=list)
    """Names with a dot by which a server without keys may be called, for example `["octa.lab.example"]` behind a proxy;
    `["*"]` allows all. Addresses and names without a dot always are."""

    api_keys: list[Annotated[SecretStr, AfterValidator(_fit_for_a_header)]] = Field(default_factory=list)
    """Keys of which one must come as `Authorization: Bearer KEY`; empty asks for none."""

    heartbeat_seconds: float = Field(default=2.0, gt=0, le=60)
    """How often a worker shows that it lives, seconds."""

    worker_niceness: int = Field(default=10, ge=0, le=19)
    """How much a worker yields to other processes, 0 to 19."""

    language: Literal["en", "zh"] = "en"
    """Language of findings where a request names none, and of hints in the workers' logs."""

    @property
    def effective_database_url(self) -> str:
        """The database to use."""
        return self.database_url or _address_of(self.data_dir.absolute() / DATABASE_FILE)

    @property
    def has_database(self) -> bool:
        """Whether there is a database to read; opening one in the data folder would make an empty one."""
        return bool(self.database_url) or (self.data_dir / DATABASE_FILE).exists()

    def without_secrets(self) -> dict[str, Any]:
        """The effective settings as they may be shown."""
        shown = self.model_dump(mode="json", exclude={"api_keys", "database_url"})
        shown["api_keys"] = f"{len(self.api_keys)} keys" if self.api_keys else "none"
        shown["database_url"] = _without_password(self.effective_database_url)
        return shown

    def check_binding(self) -> None:
        """Refuse to serve a network without a key.

        Raises:
            InvalidSettings: the host is not loopback and there is no API key.
        """
        if self.host not in LOOPBACK and not self.api_keys:
            raise InvalidSettings(
                f"listening on {self.host} would let everybody on the network in; set a key first, for example "
                "OCTA_API_KEYS='[\"a-long-random-key\"]', or listen on 127.0.0.1"
            )


def _address_of(file: Path) -> str:
    from sqlalchemy import URL  # noqa: PLC0415 - help need not wait for it

    return URL.create("sqlite", database=str(file)).render_as_string()


def _without_password(url: str) -> str:
    from sqlalchemy import make_url  # noqa: PLC0415 - only when shown

    return make_url(url).render_as_string(hide_password=True)


def load_settings(**given: Any) -> Settings:
    """Build the settings from the environment; `given` values win.

    Raises:
        InvalidSettings: a value is out of range, or a variable with the prefix is not a setting.
    """
    _refuse_misspelt(os.environ)
    try:
        return Settings(**{name: value for name, value in given.items() if value is not None})
    except SettingsError as error:
        raise InvalidSettings(
            f"{error}; lists are JSON, for example OCTA_API_KEYS='[\"a-long-random-key\"]'"
        ) from error
    except ValidationError as error:
        faults = "; ".join(f"{'.'.join(map(str, e['loc'])) or 'settings'}: {e['msg']}" for e in error.errors())
        raise InvalidSettings(faults) from error


def _refuse_misspelt(environment: Mapping[str, str]) -> None:
    """pydantic-settings ignores a variable it does not know, so a typing error would pass without a word."""
    names = {f"{PREFIX}{name}".upper() for name in Settings.model_fields}
    for variable in environment:
        if variable.upper().startswith(PREFIX) and variable.upper() not in names:
            close = difflib.get_close_matches(variable.upper(), names, n=1)
            hint = f"; did you mean {close[0]}?" if close else ""
            raise InvalidSettings(f"{variable} is not a setting{hint}")
