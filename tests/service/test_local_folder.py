from __future__ import annotations

import json
import os

import pytest

from octa_backend.errors import NoModelYet
from octa_backend.service.local_folder import fold_folder, values_of
from octa_backend.service.train_service import read_config


def begin(folder, seconds, **fields):
    """Leave what a training that was begun at a time leaves, in seconds since 1970."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "plan.json"
    path.write_text(json.dumps({"config": fields, "config_changes": {}}), "utf-8")
    os.utime(path, (seconds, seconds))


def test_what_was_begun_last_in_a_folder_is_what_goes_on(tmp_path):
    with pytest.raises(NoModelYet, match="holds no training"):
        values_of(tmp_path)
    begin(tmp_path, 2, lr=0.5)
    begin(fold_folder(tmp_path, 1, 3), 1, folds=3)
    assert values_of(tmp_path) == {"lr": 0.5}
    begin(fold_folder(tmp_path, 2, 3), 3, folds=3, epochs=9)
    assert values_of(tmp_path) == {"folds": 3, "epochs": 9}


@pytest.mark.parametrize(("given", "lr"), [({"lr": "0.001"}, 1e-3), ({}, 3e-3)])
def test_volumes_go_on_at_the_rate_that_they_were_begun_with(tmp_path, given, lr):
    begin(tmp_path, 1, **read_config(given).for_scans(3).model_dump(mode="json"))
    assert read_config(values_of(tmp_path)).for_scans(3).lr == lr
