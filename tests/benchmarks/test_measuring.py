"""Results are kept, found again and shown."""

from __future__ import annotations

import json

import pytest
from measuring import (
    MeasurementFailed,
    Results,
    by_machine,
    machine,
    opened_results,
    parser,
    read_records,
    revision,
    spread,
    table,
)

from tests.benchmarks.records import record

HERE, THERE = "this machine", "another machine"


def forbidden(_job, _folder):
    raise AssertionError("it is known")


def test_a_repeated_command_measures_nothing_again(tmp_path) -> None:
    path = tmp_path / "kept" / "results.jsonl"
    assert Results(path).measure_all([{"size": 1}], HERE, lambda job, _: {"twice": 2 * job["size"]}) == []
    again = Results(path)
    assert again.measure_all([{"size": 1}], HERE, forbidden) == []
    assert [known.found for known in again.records] == [{"twice": 2}]
    assert again.records[0].revision == revision()


def test_another_job_and_another_machine_are_measured(tmp_path) -> None:
    path = tmp_path / "results.jsonl"
    for where, size in ((HERE, 1), (HERE, 2), (THERE, 1)):
        Results(path).measure_all([{"size": size}], where, lambda job, _: dict(job))
    assert [(known.machine, known.found["size"]) for known in read_records(path)] == [(HERE, 1), (HERE, 2), (THERE, 1)]


def test_a_failure_is_named_and_keeps_its_folder_but_not_the_others_from_being_measured(tmp_path) -> None:
    path = tmp_path / "results.jsonl"

    def measure(job, folder):
        (folder / "checkpoint").touch()
        if job["size"] == 1:
            raise MeasurementFailed
        return {}

    assert Results(path).measure_all([{"size": 1}, {"size": 2}], HERE, measure) == [json.dumps({"size": 1})]
    assert [known.job for known in read_records(path)] == [{"size": 2}]
    assert len(list(tmp_path.glob("*.unfinished/*/checkpoint"))) == 1

    def goes_on(_job, folder):
        return {"found": (folder / "checkpoint").exists()}

    assert Results(path).measure_all([{"size": 1}], HERE, goes_on) == []
    assert read_records(path)[-1].found == {"found": True}
    assert [left.name for left in tmp_path.iterdir()] == ["results.jsonl"]


def test_a_line_that_was_cut_off_spoils_no_other(tmp_path) -> None:
    path = tmp_path / "results.jsonl"
    path.write_text('\n{"job": {"size": 1}, "mach', "utf-8")
    Results(path).measure_all([{"size": 1}], HERE, lambda _job, _folder: {"whole": True})
    assert [known.found for known in read_records(path)] == [{"whole": True}]


def test_without_a_file_results_are_forgotten(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    results = Results(None)
    results.measure_all([{"size": 1}], HERE, lambda _job, _folder: {})
    assert len(results.records) == 1
    assert not list(tmp_path.iterdir())


def test_a_table_needs_a_file_of_results(tmp_path, capsys) -> None:
    options = parser(None)
    with pytest.raises(SystemExit):
        opened_results(options, options.parse_args(["--table", "--results", str(tmp_path / "absent.jsonl")]))
    assert "name a file that is there" in capsys.readouterr().err


def test_records_stand_under_their_machine_and_revisions() -> None:
    records = [record({}, {}, HERE, "a" * 40), record({}, {}, THERE, None), record({}, {}, HERE, "b" * 40)]
    assert {where: len(there) for where, there in by_machine(records).items()} == {
        f"{HERE}; revision {'a' * 12}, {'b' * 12}": 2,
        f"{THERE}; revision unknown": 1,
    }


def test_the_machine_is_told_with_its_cores_and_its_torch() -> None:
    assert "cores, torch " in machine("cpu")


@pytest.mark.parametrize(
    ("values", "shown"),
    [([], "–"), ([None], "–"), ([0.5], "0.5000"), ([0.5, None], "0.5000"), ([0.4, 0.6], "0.5000 ± 0.1000")],
)
def test_the_mean_stands_with_its_spread(values, shown) -> None:
    assert spread(values) == shown


def test_a_table_is_markdown() -> None:
    assert table(["a", "b"], [["1", "2"]]) == "| a | b |\n| --- | --- |\n| 1 | 2 |"
