from __future__ import annotations

import csv
import hashlib
import io
import threading

import numpy as np
import pytest
from rich.console import Console
from typer.testing import CliRunner

from octa_backend.cli import app
from octa_backend.commands import compare as compare_command
from octa_backend.commands import import_model as import_command
from octa_backend.data.splits import Splits
from octa_backend.data.store import DatasetStore
from octa_backend.errors import InvalidRequest, OctaError, UploadTooLarge
from octa_backend.service import comparison_run, model_service
from octa_backend.service.comparison_run import compare, scans_to_compare
from octa_backend.service.comparison_service import BROKEN_OFF, Comparisons
from octa_backend.service.comparison_table import COMPARED, table_csv
from octa_backend.service.evaluation_data import EvaluatedZip
from octa_backend.service.evaluation_model import open_model
from octa_backend.service.evaluation_run import EvaluationOptions, design_evaluation
from octa_backend.service.import_wish import ImportWish, read_wish
from octa_backend.service.model_fit import other_scans
from octa_backend.service.models_in_use import ModelsInUse
from octa_backend.settings import Settings
from octa_backend.storage.tables import Comparison, ComparisonState
from tests.data.zips import dataset
from tests.fakes import a_job, wait_for, zip_bytes
from tests.held import KNOWN, held_at_removal
from tests.published import publish, read_card
from tests.shelf import package, put, weights
from tests.tiny import one_thread, synthetic_pairs, tiny_networks, write_store

SHA = "a" * 64


@pytest.fixture(autouse=True)
def _networks():
    with tiny_networks(), one_thread():
        yield


@pytest.fixture
def store(tmp_path):
    return write_store(tmp_path / "store", synthetic_pairs(5), splits=("train", "train", "val", "test", "test"))


def compared(folders, store, split="test", on_scan=lambda model, scan: None):
    cards = [read_card(folder) for folder in folders]
    data = EvaluatedZip(store, "scans.zip", SHA)
    indices = scans_to_compare(data, cards, split)
    return compare(folders, cards, data, indices, split, "cpu", on_scan)


def test_every_model_is_scored_on_the_same_scans_and_warned_of_what_it_has_seen(tmp_path, store):
    own = publish(tmp_path / "own", store, SHA)
    seen = publish(tmp_path / "seen", store, SHA, Splits((0, 1, 3), (4,), (2,), False))
    foreign = publish(tmp_path / "foreign", store, "b" * 64)
    heard = []
    table = compared([own, seen, foreign], store, on_scan=lambda *scan: heard.append(scan))
    assert heard == [(model, scan) for model in ("own", "seen", "foreign") for scan in ("s3", "s4")]
    assert (table.scans, table.unit, table.device) == (["s3", "s4"], "px", "cpu")
    found = table.to_dict()["models"]
    assert [[one["code"] for one in row["warnings"]] for row in found] == [
        [],
        ["trained_on_these_scans", "epoch_chosen_on_these_scans"],
        [],
    ]
    assert "trained on 1 of these scans" in found[1]["warnings"][0]["message"]
    for row in found:
        assert row["metrics"] == found[0]["metrics"]
        assert set(row["metrics"]) == set(COMPARED)
        assert row["metrics"]["dice"]["scans"] == 2
        assert (row["members"], row["parameters"], row["milliseconds_per_scan"] > 0) == (1, 2, True)


def test_the_scans_of_a_split_are_the_official_ones_or_those_of_the_first_model(tmp_path, store):
    data = EvaluatedZip(store, "scans.zip", SHA)
    card = read_card(publish(tmp_path / "m", store, SHA))
    assert scans_to_compare(data, [card], "all") == (0, 1, 2, 3, 4)
    assert scans_to_compare(data, [card], "val") == (2,)
    plain = EvaluatedZip(write_store(tmp_path / "plain", synthetic_pairs(4)), "plain.zip", SHA)
    other = {**card, "dataset": {"sha256": "b" * 64}}
    mine = {**card, "splits": {"train": ["s0", "s1"], "val": ["s3"], "test": []}}
    assert scans_to_compare(plain, [other, mine], "val") == (3,)
    with pytest.raises(OctaError, match=r"plain\.zip has no scans for test; choose another split"):
        scans_to_compare(plain, [other, mine], "test")


def test_the_table_is_a_line_of_csv_for_each_model(tmp_path, store):
    table = compared([publish(tmp_path / "a", store, SHA)], store).to_dict()
    table["models"][0]["metrics"]["hd95"] = None
    [row] = csv.DictReader(io.StringIO(table_csv(table)))
    assert float(row["dice_mean"]) == table["models"][0]["metrics"]["dice"]["mean"]
    assert (row["model_id"], row["scans"], row["hd95_mean"], row["trained_on"]) == ("a", "2", "", "0")
    assert "dice_class_1_mean" not in row


def test_several_classes_have_a_column_each(tmp_path):
    pairs = [(image, (mask + (np.arange(32) > 20) * mask).astype(np.uint8)) for image, mask in synthetic_pairs(3)]
    store = write_store(tmp_path / "store", pairs, (0, 1, 2))
    table = compared([publish(tmp_path / "a", store, SHA)], store, "all").to_dict()
    [row] = csv.DictReader(io.StringIO(table_csv(table)))
    assert len(table["models"][0]["classes"]) == 2
    assert float(row["dice_class_2_mean"]) == table["models"][0]["classes"][1]["mean"]


def test_a_class_has_the_same_column_for_models_that_leave_one_out(tmp_path):
    bands = np.arange(32) // 11
    pairs = [(image, (mask * (1 + bands)).astype(np.uint8)) for image, mask in synthetic_pairs(3)]
    store = write_store(tmp_path / "store", pairs, (0, 1, 2, 3))
    folders = [publish(tmp_path / "all", store, SHA), publish(tmp_path / "but_one", store, SHA, ignore_index=1)]
    table = compared(folders, store, "all").to_dict()
    whole, but_one = csv.DictReader(io.StringIO(table_csv(table)))
    assert None not in [*whole.values(), *but_one.values()]
    assert but_one["dice_class_1_mean"] == ""
    data, on_all = EvaluatedZip(store, "scans.zip", SHA), EvaluationOptions(split="all")
    alone = design_evaluation(open_model(folders[1], "cpu"), data, on_all).run(lambda _: None).report
    second, third = (summary["dice"].mean for summary in alone.class_summaries)
    assert (float(but_one["dice_class_2_mean"]), float(but_one["dice_class_3_mean"])) == (second, third)
    shown = Console(width=120, file=io.StringIO())
    compare_command._show(shown, table)
    assert "Dice, class 3" in shown.file.getvalue()


def on_the_server(api, *names):
    """A dataset, and models trained on two of its three scans."""
    content = zip_bytes(dataset())
    file_id = api.upload(content).json()["file_id"]
    store = DatasetStore(api.parts.files.dataset(file_id))
    with api.parts.database.writing() as session:
        job = a_job(session, file_id=file_id)
        for name in names:
            folder = api.parts.files.model(name)
            publish(folder, store, hashlib.sha256(content).hexdigest(), Splits((0, 1), (2,), (), False))
            model_service.register(session, name, job, read_card(folder))
    return file_id


def finished(api, comparison_id):
    def done():
        shown = api.get(f"/models/comparisons/{comparison_id}").json()
        return shown if shown["state"] != "running" else None

    return wait_for("the comparison", done)


def test_a_comparison_runs_in_the_background_and_its_table_is_downloaded(api):
    file_id = on_the_server(api, "m1", "m2")
    asked = api.post("/models/compare", json={"model_ids": ["m2", "m1"], "file_id": file_id, "split": "all"})
    assert asked.status_code == 202, asked.text
    comparison_id = asked.json()["comparison_id"]
    assert asked.headers["location"] == f"/models/comparisons/{comparison_id}"
    found = finished(api, comparison_id)
    assert (found["state"], found["done"], found["total"], found["error"]) == ("succeeded", 6, 6, None)
    assert [row["model_id"] for row in found["table"]["models"]] == ["m2", "m1"]
    assert [one["code"] for one in found["table"]["models"][0]["warnings"]] == [
        "trained_on_these_scans",
        "epoch_chosen_on_these_scans",
    ]
    answer = api.get(f"/models/comparisons/{comparison_id}/table.csv")
    assert answer.headers["content-type"].startswith("text/csv")
    assert [row["model_id"] for row in csv.DictReader(io.StringIO(answer.text))] == ["m2", "m1"]
    assert api.delete("/models/m1").status_code == 204


def test_a_comparison_that_cannot_be_made_says_why(api):
    file_id = on_the_server(api, "m1")
    asked = api.post("/models/compare", json={"model_ids": ["m1"], "file_id": file_id, "split": "test"})
    found = finished(api, asked.json()["comparison_id"])
    assert (found["state"], found["table"]) == ("failed", None)
    assert "scans.zip has no scans for test" in found["error"]
    answer = api.get(f"/models/comparisons/{asked.json()['comparison_id']}/table.csv")
    assert (answer.status_code, answer.json()["type"]) == (409, "urn:octa:no-table-yet")
    assert "no scans for test" in answer.json()["detail"]


def test_models_of_pictures_and_datasets_of_volumes_are_not_compared(api):
    file_id = on_the_server(api, "pictures", "volumes")
    with api.parts.database.writing() as session:
        model = model_service.get(session, "volumes")
        model.card = {**model.card, "spatial_dims": 3}
    answer = api.post("/models/compare", json={"model_ids": ["pictures", "volumes"], "file_id": file_id})
    assert (answer.status_code, answer.json()["type"]) == (400, "urn:octa:invalid-request")
    assert answer.json()["detail"] == "model volumes was trained on volumes, but the dataset holds pictures"


def test_volumes_of_other_channels_are_not_compared():
    card = {"spatial_dims": 3, "channels": 3}
    said = "was trained on volumes of 3 channels, but those of the dataset have 1 channel"
    assert other_scans(card, 3, 1) == said
    assert other_scans(card, 3, 3) is None
    assert other_scans({"spatial_dims": 2, "channels": 3}, 2, 1) is None


def test_a_comparison_without_its_dataset_says_what_is_gone(api):
    file_id = on_the_server(api, "m1")
    (api.parts.files.dataset(file_id) / "manifest.json").unlink()
    asked = api.post("/models/compare", json={"model_ids": ["m1"], "file_id": file_id, "split": "all"})
    found = finished(api, asked.json()["comparison_id"])
    assert (found["state"], "manifest.json is not there any more" in found["error"]) == ("failed", True)


def test_a_model_is_kept_while_it_is_compared_and_a_server_that_ends_says_so(api, monkeypatch):
    file_id = on_the_server(api, "m1")
    inside, go_on = threading.Event(), threading.Event()
    plain = comparison_run.open_model

    def slow(*given):
        inside.set()
        assert go_on.wait(20)
        return plain(*given)

    monkeypatch.setattr(comparison_run, "open_model", slow)
    asked = api.post("/models/compare", json={"model_ids": ["m1"], "file_id": file_id, "split": "all"}).json()
    assert inside.wait(20)
    refused = api.delete("/models/m1")
    assert (refused.status_code, f"comparison {asked['comparison_id']}" in refused.json()["detail"]) == (409, True)
    monkeypatch.setattr(api.parts.comparisons, "_closing", True)
    go_on.set()
    found = finished(api, asked["comparison_id"])
    assert (found["state"], found["error"]) == ("failed", BROKEN_OFF)


def test_what_an_earlier_server_left_running_is_marked_as_failed(database, settings, files):
    with database.writing() as session:
        for state in ComparisonState:
            session.add(Comparison(id=state.value, state=state, model_ids=[], file_id="f", split="all"))
    Comparisons(settings, files, database, ModelsInUse()).open()
    with database.reading() as session:
        found = {row.id: (row.state, row.error) for row in session.query(Comparison)}
    assert found == {"running": ("failed", BROKEN_OFF), "succeeded": ("succeeded", None), "failed": ("failed", None)}


# --- the command line -------------------------------------------------------------------------------------------------


@pytest.fixture
def command(tmp_path, monkeypatch):
    """Run `octa compare` on two models of the scans in an empty folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    content = zip_bytes(dataset())
    (tmp_path / "scans.zip").write_bytes(content)
    store = write_store(tmp_path / "store", synthetic_pairs(3))
    for name in ("one", "two"):
        publish(tmp_path / name, store, hashlib.sha256(content).hexdigest())
    return lambda *options: CliRunner().invoke(app, ["compare", "one", "two", "--data", "scans.zip", *options])


def test_the_command_shows_models_side_by_side_and_writes_csv(command, tmp_path):
    ran = command("--split", "all", "--csv", "found.csv")
    assert ran.exit_code == 0, (ran.output, ran.exception)
    for phrase in ("scans.zip, all: 3 scans", "one", "two", "ms per scan", "parameters", "±"):
        assert phrase in ran.output
    assert [row["model_id"] for row in csv.DictReader((tmp_path / "found.csv").read_text("utf-8").splitlines())] == [
        "one",
        "two",
    ]
    assert not list(tmp_path.glob(".dataset*"))
    wrong = command("--split", "test")
    assert wrong.exit_code == 2
    assert "no scans for test" in " ".join(wrong.output.split())


@KNOWN
def test_the_command_holds_nothing_of_the_folder_that_it_removes(command, monkeypatch):
    noted = held_at_removal(monkeypatch)
    assert command("--split", "all").exit_code == 0
    assert command("--split", "test").exit_code == 2
    assert noted == [set(), set()]


def test_a_model_is_imported_into_the_data_folder_without_a_server(tmp_path):
    (tmp_path / "m.zip").write_bytes(package())
    (tmp_path / "w.safetensors").write_bytes(weights())
    data = ["--data-dir", str(tmp_path / "data")]
    ran = CliRunner().invoke(app, ["import", str(tmp_path / "m.zip"), "--name", "mine", *data])
    assert ran.exit_code == 0, (ran.output, ran.exception)
    assert "m.zip is model" in ran.output
    named = ["--network", "small_unet", "--channels", "1"]
    assert CliRunner().invoke(app, ["import", str(tmp_path / "w.safetensors"), *named, *data]).exit_code == 0
    assert len(list((tmp_path / "data" / "models").iterdir())) == 2
    wrong = CliRunner().invoke(app, ["import", str(tmp_path / "w.safetensors"), *data])
    assert (wrong.exit_code, "send network and channels" in " ".join(wrong.output.split())) == (2, True)


def test_a_file_over_the_limit_is_not_imported(tmp_path):
    (tmp_path / "m.zip").write_bytes(bytes(2 * 2**20))
    settings = Settings(data_dir=tmp_path / "data", max_model_mib=1)
    with pytest.raises(UploadTooLarge, match=r"2\.0 MiB, 1 are allowed"):
        import_command.import_model(Console(), settings, tmp_path / "m.zip", ImportWish())
    with pytest.raises(InvalidRequest, match="normalisation: Input should be"):
        read_wish({"normalisation": "log"})


def test_an_import_is_the_newest_model(api):
    on_the_server(api, "m1")
    model_id = put(api).json()["model_id"]
    assert api.get("/models/default").json()["model_id"] == model_id
