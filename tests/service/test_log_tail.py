from __future__ import annotations

import pytest

from octa_backend.service.log_tail import PAGE_BYTES, TAIL_CHARACTERS, TAIL_LINES, last_lines, read_page
from octa_backend.training.log_lines import step_line
from tests.fakes import NORMS


@pytest.fixture
def path(tmp_path):
    return tmp_path / "worker.log"


# --- the lines that explain a failure --------------------------------------------------------------------------------


def test_a_log_that_is_not_there_has_no_lines(path):
    assert last_lines(path) == []


def test_an_empty_log_has_no_lines(path):
    path.touch()
    assert last_lines(path) == []


def test_the_last_lines_come_in_order(path):
    path.write_text("".join(f"line {n}\n" for n in range(100)))
    assert last_lines(path) == [f"line {n}" for n in range(100 - TAIL_LINES, 100)]
    assert last_lines(path, 2) == ["line 98", "line 99"]


def test_lines_of_steps_do_not_push_out_those_that_explain(path):
    steps = [f"2026-01-01 10:00:00,000 INFO {step_line(2, step, NORMS, 'zh')}" for step in range(1, 201)]
    path.write_text("\n".join(["a finding", *steps, "Epoch [2/9] | Train Loss: 0.4", *steps, "killed"]), "utf-8")
    assert last_lines(path) == ["a finding", "Epoch [2/9] | Train Loss: 0.4", "killed"]


def test_a_line_without_end_is_cut(path):
    path.write_bytes(b"x" * 10 * TAIL_CHARACTERS + b"\nlast")
    first, last = last_lines(path)
    assert (len(first), last) == (TAIL_CHARACTERS - 5, "last")


def test_bytes_that_are_no_text_do_not_break_it(path):
    path.write_bytes(b"caf\xe9\n" + "训练".encode())
    assert last_lines(path) == ["caf\N{REPLACEMENT CHARACTER}", "训练"]


# --- pages -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("lines", [1, 3, 7, 1000])
def test_pages_from_the_end_backwards_show_every_line_once(path, lines):
    whole = "".join(f"line {n} 训练\n" for n in range(100))
    path.write_text(whole, "utf-8", newline="")
    found, before = "", None
    while before != 0:
        page = read_page(path, lines, before)
        assert len(page.text.splitlines()) <= lines
        found, before = page.text + found, page.start
    assert found == whole


def test_a_page_of_a_long_log_is_a_part_of_it(path):
    path.write_bytes(b"0123456789\n" * 300_000)
    page = read_page(path, 10**9)
    assert PAGE_BYTES - 11 <= len(page.text) <= PAGE_BYTES
    assert page.text.startswith("0123456789\n")
    assert read_page(path, 2, page.start).start == page.start - 22


def test_a_line_longer_than_a_page_is_walked_in_pieces(path):
    path.write_bytes(b"x" * (PAGE_BYTES + 5))
    page = read_page(path, 10)
    assert (len(page.text), page.start) == (PAGE_BYTES, 5)
    assert read_page(path, 10, page.start).text == "xxxxx"


def test_a_page_before_a_byte_that_is_not_there_is_the_last_one(path):
    path.write_bytes(b"one\ntwo\n")
    assert read_page(path, 1, 10**12) == read_page(path, 1)
