from __future__ import annotations

from octa_backend.service.log_tail import TAIL_BYTES, TAIL_LINES, last_lines


def test_a_log_that_is_not_there_has_no_lines(tmp_path):
    assert last_lines(tmp_path / "worker.log") == []


def test_an_empty_log_has_no_lines(tmp_path):
    (tmp_path / "worker.log").touch()
    assert last_lines(tmp_path / "worker.log") == []


def test_the_last_lines_come_in_order(tmp_path):
    path = tmp_path / "worker.log"
    path.write_text("".join(f"line {n}\n" for n in range(100)))
    assert last_lines(path) == [f"line {n}" for n in range(100 - TAIL_LINES, 100)]
    assert last_lines(path, 2) == ["line 98", "line 99"]


def test_only_the_end_of_a_long_log_is_read(tmp_path):
    path = tmp_path / "worker.log"
    path.write_bytes(b"x" * 10 * TAIL_BYTES + b"\nlast")
    first, last = last_lines(path)
    assert (len(first), last) == (TAIL_BYTES - 5, "last")


def test_bytes_that_are_no_text_do_not_break_it(tmp_path):
    path = tmp_path / "worker.log"
    path.write_bytes(b"caf\xe9\n" + "训练".encode())
    assert last_lines(path) == ["caf\N{REPLACEMENT CHARACTER}", "训练"]
