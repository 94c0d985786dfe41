"""Numbers in the text format of Prometheus, version 0.0.4."""

from __future__ import annotations

from collections.abc import Mapping

from fastapi.responses import PlainTextResponse

from octa_backend.service.metrics import Metrics

HELP = {
    "jobs": "Trainings, by state.",
    "prediction_jobs": "Prediction jobs, by state.",
    "datasets": "Datasets that are kept.",
    "models": "Models on the shelf.",
    "predictions": "Predictions in the history.",
    "loaded_models": "Models in memory.",
    "loaded_models_bytes": "Memory that these take, about.",
    "free_bytes": "Free space on the disk of the data folder.",
}
"""What each number of `Metrics` is."""


class MetricsResponse(PlainTextResponse):
    """Says which version of the format it is."""

    media_type = "text/plain; version=0.0.4"


def metrics_text(found: Metrics) -> str:
    """All numbers; each may go down again, so that all are gauges."""
    return "".join(_family(f"octa_{name}", text, getattr(found, name)) for name, text in HELP.items())


def _family(name: str, text: str, value: int | Mapping[str, int]) -> str:
    if isinstance(value, Mapping):
        samples = "".join(f'{name}{{state="{state}"}} {count}\n' for state, count in value.items())
    else:
        samples = f"{name} {value}\n"
    return f"# HELP {name} {text}\n# TYPE {name} gauge\n{samples}"
