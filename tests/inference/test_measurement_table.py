from __future__ import annotations

import csv

from octa_backend.inference.measurement import Measurement
from octa_backend.inference.measurement_table import (
    COLUMNS,
    csv_line,
    measurement_rows,
    scan_columns,
    scan_row,
    shown_measurements,
    table_file,
)

MEASURED = {"area": Measurement(0.5, "mm²"), "length": Measurement(None, "mm", "no_vessel")}


def test_a_table_is_read_back_with_values_units_and_reasons(tmp_path):
    shown = shown_measurements(MEASURED, "zh")
    with table_file(tmp_path / "t.csv", COLUMNS) as table:
        table.writelines(csv_line(row) for row in measurement_rows('左, "1".png', shown))
    with (tmp_path / "t.csv").open(encoding="utf-8-sig", newline="") as file:
        rows = list(csv.reader(file))
    assert rows == [
        list(COLUMNS),
        ['左, "1".png', "area", "0.5", "mm²", ""],
        ['左, "1".png', "length", "", "mm", "掩码中没有血管像素。"],
    ]


def test_a_row_for_each_scan_has_the_units_in_its_heads():
    shown = shown_measurements(MEASURED, "en")
    assert scan_columns(shown)[-2:] == ("area [mm²]", "length [mm]")
    row = scan_row(("1.png", 3, 2, 0.5, 0.1, 0.9, 0.0), shown)
    assert (len(row), row[-2:]) == (len(scan_columns(shown)), (0.5, None))


def test_a_name_that_a_spreadsheet_would_compute_is_text():
    assert csv_line(("=1+1.png", -1.5)) == "'=1+1.png,-1.5\r\n"
