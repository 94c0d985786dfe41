from __future__ import annotations

import pytest

from octa_backend.storage.tables import EpochReport, GradientNorm, Job
from octa_backend.training.events import GRADIENT_GROUPS
from tests.fakes import add_epochs


@pytest.fixture
def job_id(api, file_id):
    """A job with five epochs of two steps each."""
    started = api.start(file_id)
    with api.parts.database.writing() as session:
        add_epochs(session, session.get_one(Job, started), 5)
    return started


@pytest.mark.parametrize(("route", "count"), [("epochs", 5), ("gradients", 10)])
def test_reports_and_gradients_are_walked_page_by_page(api, job_id, route, count):
    found, cursor = [], ""
    while cursor is not None:
        page = api.get(f"/train/jobs/{job_id}/{route}?limit=3{cursor and '&cursor=' + cursor}").json()
        found += [(item["epoch"], item.get("step")) for item in page["items"]]
        cursor = page["next_cursor"]
    assert len(found) == len(set(found)) == count
    assert found == sorted(found)


def test_reports_tell_what_was_measured_of_layers_and_polls_do_not(api, job_id):
    signals = {"layer_ratios": {"stem.0": 0.001}, "layer_norms": {"stem.0": 0.02}}
    with api.parts.database.writing() as session:
        session.get_one(EpochReport, (job_id, 5)).signals = signals
    *others, last = api.get(f"/train/jobs/{job_id}/epochs").json()["items"]
    assert last["signals"] == signals
    assert [report["signals"] for report in others] == [None] * 4
    assert "signals" not in api.get(f"/train/progress/{job_id}").json()["latest"]


# --- gradients in points ---------------------------------------------------------------------------------------------


def test_gradients_in_points_are_of_the_whole_run(api, job_id):
    with api.parts.database.writing() as session:
        session.get_one(GradientNorm, (job_id, 2, 2)).encoder_last = 0.25
    page = api.get(f"/train/jobs/{job_id}/gradients?points=3").json()
    assert page["next_cursor"] is None
    assert [(one["epoch"], one["first_step"], one["steps"]) for one in page["items"]] == [
        (1, 1, 4),
        (3, 1, 4),
        (5, 1, 2),
    ]
    first = page["items"][0]
    assert set(first) == {"epoch", "first_step", "steps", "lr", "mean", "max"}
    assert set(first["mean"]) == set(first["max"]) == {"loss", *GRADIENT_GROUPS}
    assert first["mean"]["encoder_last"] == pytest.approx((3 * 0.05 + 0.25) / 4)
    assert (first["max"]["encoder_last"], first["max"]["encoder_conv1"]) == (0.25, 0.05)
    assert (first["lr"], first["mean"]["loss"]) == (5e-4, pytest.approx(0.4))


@pytest.mark.parametrize("query", ["points=0", "points=5001", "points=x"])
def test_a_number_of_points_out_of_range_is_refused(api, job_id, query):
    answer = api.get(f"/train/jobs/{job_id}/gradients?{query}")
    assert (answer.status_code, answer.json()["type"]) == (422, "urn:octa:invalid-request")


@pytest.mark.parametrize("query", ["limit=10", "cursor=x"])
def test_points_are_not_paged(api, job_id, query):
    answer = api.get(f"/train/jobs/{job_id}/gradients?points=3&{query}")
    assert (answer.status_code, answer.json()["type"]) == (422, "urn:octa:invalid-request")
    assert "leave out limit and cursor, or points" in answer.json()["detail"]


def test_points_of_an_unknown_job_are_a_problem(api):
    assert api.get("/train/jobs/nope/gradients?points=3").json()["type"] == "urn:octa:job-not-found"


# --- log -------------------------------------------------------------------------------------------------------------


def write_log(api, job_id, text):
    api.parts.files.job(job_id).mkdir(parents=True)
    api.parts.files.job_log(job_id).write_bytes(text.encode())


def test_the_log_is_plain_text(api, file_id):
    job_id = api.start(file_id)
    assert api.get(f"/train/jobs/{job_id}/log").text == ""
    write_log(api, job_id, "Epoch [1/3] 训练\n")
    answer = api.get(f"/train/jobs/{job_id}/log")
    assert (answer.text, answer.headers["content-type"]) == ("Epoch [1/3] 训练\n", "text/plain; charset=utf-8")
    assert "link" not in answer.headers


def test_a_long_log_is_walked_from_its_end_by_links(api, job_id):
    whole = "".join(f"line {number}\n" for number in range(5000))
    write_log(api, job_id, whole)
    answer = api.get(f"/train/jobs/{job_id}/log")
    assert len(answer.text.splitlines()) == 2000
    found = answer.text
    while "prev" in answer.links:
        answer = api.get(f"/train/jobs/{job_id}/log{answer.links['prev']['url']}")
        found = answer.text + found
    assert found == whole


def test_so_many_last_lines_of_the_log_come_as_are_asked_for(api, job_id):
    write_log(api, job_id, "one\ntwo\nthree\n")
    answer = api.get(f"/train/jobs/{job_id}/log?tail=2")
    assert (answer.text, answer.headers["link"]) == ("two\nthree\n", '<?tail=2&before=4>; rel="prev"')


@pytest.mark.parametrize("query", ["tail=0", "tail=10001", "before=-1"])
def test_a_part_of_the_log_out_of_range_is_refused(api, job_id, query):
    assert api.get(f"/train/jobs/{job_id}/log?{query}").status_code == 422
