from __future__ import annotations

from xml.etree import ElementTree

import pytest

from octa_backend.training.evaluation_curves import BOTTOM, HEIGHT, LEFT, RIGHT, TOP, WIDTH, Line, chart, number, ticks

SVG = "{http://www.w3.org/2000/svg}"


def drawn(*lines, title="Dice"):
    return ElementTree.fromstring(chart(title, "epoch", lines))


def places(svg):
    return [[tuple(map(float, p.split(","))) for p in e.get("points").split()] for e in svg.iter(f"{SVG}polyline")]


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (0, 1, [0, 0.2, 0.4, 0.6, 0.8, 1.0]),
        (1, 11, [2, 4, 6, 8, 10]),
        (0.31, 0.72, [0.4, 0.5, 0.6, 0.7]),
        (0, 1e-3, [0, 2e-4, 4e-4, 6e-4, 8e-4, 1e-3]),
        (1, 10_000, [2000, 4000, 6000, 8000, 10_000]),
    ],
)
def test_ticks_are_round_numbers_within_the_range(low, high, expected):
    assert ticks(low, high) == pytest.approx(expected)


def test_ticks_of_epochs_are_whole():
    assert ticks(1, 2, 1) == [1, 2]
    assert ticks(0.5, 1.5, 1) == [1]
    assert ticks(1, 40, 1) == [10, 20, 30, 40]


@pytest.mark.parametrize(("value", "shown"), [(0.25, "0.25"), (40.0, "40"), (1e-5, "1e-05"), (3e-17, "0"), (0, "0")])
def test_numbers_are_short(value, shown):
    assert number(value) == shown


def test_a_line_runs_from_corner_to_corner_where_its_values_do():
    [line] = places(drawn(Line("Dice", "#123456", [(0, 0.0), (5, 0.5), (10, 1.0)])))
    bottom, right = HEIGHT - BOTTOM, WIDTH - RIGHT
    assert line == [(LEFT, bottom), ((LEFT + right) / 2, (TOP + bottom) / 2), (right, TOP)]


def test_a_gap_parts_the_line_and_a_point_alone_becomes_a_dot():
    svg = drawn(Line("loss", "red", [(1, 0.5), (2, 0.4), (3, None), (4, 0.2)]))
    assert [len(line) for line in places(svg)] == [2]
    assert len(list(svg.iter(f"{SVG}circle"))) == 1


def test_a_single_epoch_and_a_constant_line_are_drawn():
    svg = drawn(Line("lr", "red", [(1, 0.001)]))
    [dot] = svg.iter(f"{SVG}circle")
    assert LEFT < float(dot.get("cx")) < WIDTH - RIGHT
    assert [len(line) for line in places(drawn(Line("lr", "red", [(1, 0.0), (2, 0.0)])))] == [2]


def test_names_are_shown_and_escaped_and_a_legend_only_for_several_lines():
    one = Line("a<b", "red", [(1, 1.0), (2, 2.0)])
    texts = [element.text for element in drawn(one, title="x & y").iter(f"{SVG}text")]
    assert {"x & y", "epoch"} <= set(texts)
    assert "a<b" not in texts
    assert "a<b" in [element.text for element in drawn(one, Line("c", "blue", [(1, 1.0)])).iter(f"{SVG}text")]


def test_nothing_to_draw_gives_nothing():
    assert chart("Dice", "epoch", [Line("a", "red", [(1, None)])]) == ""
    assert chart("Dice", "epoch", []) == ""
