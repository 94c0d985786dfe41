from __future__ import annotations

import json

from octa_backend.inference.scale import MeasureOptions
from octa_backend.service.predict_service import PredictOptions
from octa_backend.service.prediction_job_service import OPTIONS, eta_seconds
from octa_backend.storage.prediction_tables import PredictionJob


def test_options_come_back_from_a_row_as_they_were():
    options = PredictOptions(0.3, True, MeasureOptions(None, 3.0, 2), True, True, "zh")
    stored = json.dumps(OPTIONS.dump_python(options, mode="json"))
    assert OPTIONS.validate_python(json.loads(stored)) == options


def test_a_row_of_an_earlier_version_has_the_defaults_of_what_it_does_not_name():
    assert OPTIONS.validate_python({"threshold": 0.3}) == PredictOptions(threshold=0.3)


def test_the_time_that_is_left_follows_from_the_scans_that_are_done():
    job = PredictionJob(state="running", total=10, processed=4, busy_seconds=2.0)
    assert eta_seconds(job) == 3.0
    assert eta_seconds(PredictionJob(state="running", total=10, processed=0, busy_seconds=0.0)) is None
    assert eta_seconds(PredictionJob(state="cancelled", total=10, processed=4, busy_seconds=2.0)) is None
