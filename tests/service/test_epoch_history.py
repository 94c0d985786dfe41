from __future__ import annotations

from dataclasses import asdict

from octa_backend.service.epoch_history import read_history, recorded
from tests.fakes import a_step, an_epoch


def numbers(path):
    return [epoch["epoch"] for epoch in read_history(path)]


def test_finished_epochs_are_noted_and_all_events_are_passed_on(tmp_path):
    told, path = [], tmp_path / "history.jsonl"
    emit = recorded(told.append, path)
    events = [a_step(1, 1), an_epoch(1), a_step(2, 1), an_epoch(2, 0.75)]
    for event in events:
        emit(event)
    assert told == events
    assert read_history(path) == [asdict(an_epoch(1)), asdict(an_epoch(2, 0.75))]


def test_an_epoch_told_again_after_a_restart_counts_once(tmp_path):
    path = tmp_path / "history.jsonl"
    for attempt in ((1, 2), (2, 3)):
        emit = recorded(lambda event: None, path)
        for epoch in attempt:
            emit(an_epoch(epoch))
    assert numbers(path) == [1, 2, 3]


def test_a_run_that_began_anew_forgets_the_epochs_of_the_one_before(tmp_path):
    path = tmp_path / "history.jsonl"
    emit = recorded(lambda event: None, path)
    for epoch in (1, 2, 3, 1):
        emit(an_epoch(epoch))
    assert numbers(path) == [1]


def test_a_line_that_was_cut_off_spoils_no_other(tmp_path):
    path = tmp_path / "history.jsonl"
    recorded(lambda event: None, path)(an_epoch(1))
    with path.open("a") as file:
        file.write('\n{"epoch": 2, "train_lo')
    recorded(lambda event: None, path)(an_epoch(2))
    assert numbers(path) == [1, 2]


def test_no_file_is_no_history(tmp_path):
    assert read_history(tmp_path / "none.jsonl") == []
