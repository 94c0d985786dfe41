from __future__ import annotations

import base64
import re
from html.parser import HTMLParser

import numpy as np
import pytest

from octa_backend.training.evaluation_html import Picture, to_html
from octa_backend.training.evaluation_words import (
    COLUMNS,
    COST,
    CURVE_NAMES,
    HEADINGS,
    LEGEND,
    METRIC_NAMES,
    NOTES,
    SENTENCES,
    SUBJECT,
)
from octa_backend.training.html_parts import shown
from octa_backend.training.scan_metrics import METRICS, Scale
from octa_backend.training.threshold import ProbabilityHistogram, tune_threshold
from tests.reports import epoch, metrics, report, run_facts, scan, subject

VOID = {"meta", "img", "line", "circle", "polyline"}


class Page(HTMLParser):
    """Reads a page, and fails where an element is not closed in turn."""

    def __init__(self, text: str):
        super().__init__()
        self.open, self.rows, self.elements, self.texts = [], [], [], []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.texts.append(data)
        if {"td", "th"} & set(self.open):
            self.rows[-1][-1] += data

    def row(self, first: str) -> list[str]:
        """The only row whose first cell begins so."""
        [row] = [row for row in self.rows if row and row[0].startswith(first)]
        return row

    @property
    def text(self) -> str:
        return "".join(self.texts)


@pytest.fixture(scope="module")
def tuned():
    return tune_threshold([ProbabilityHistogram.of(np.float32([0.2, 0.45]), np.array([False, True]))])


def test_the_page_says_everything_in_both_languages(tuned):
    text = to_html(
        report(tuned=tuned, notes=NOTES, history=[epoch(1), epoch(2)], about=subject(classes=3), training=run_facts()),
        [Picture("a", b"png")],
    )
    page = Page(text)
    shown = [*HEADINGS.values(), *COLUMNS.values(), *METRIC_NAMES.values(), *SUBJECT.values(), *LEGEND.values()]
    shown += COST.values()
    of_volumes = [METRIC_NAMES[name] for name in METRIC_NAMES if "volume_error" in name]
    elsewhere = [HEADINGS["class"], HEADINGS["region"], *of_volumes]
    for words in [*shown, *NOTES.values(), *CURVE_NAMES.values(), SENTENCES["notice"]]:
        if words not in elsewhere:
            assert words.en in page.text
            assert words.zh in page.text
    assert SENTENCES["no_history"].en not in page.text


def test_nothing_is_loaded_from_anywhere_and_nothing_runs(tuned):
    page = Page(text := to_html(report(tuned=tuned, history=[epoch(1)]), [Picture("a", b"png")]))
    assert {tag for tag, _ in page.elements}.isdisjoint({"script", "link", "iframe", "object"})
    for _, attributes in page.elements:
        assert attributes.get("src", "data:").startswith("data:")
        assert "href" not in attributes
    assert set(re.findall(r"https?://[^\"' ]*", text)) == {"http://www.w3.org/2000/svg"}
    assert "url(" not in text
    assert "default-src 'none'" in text


def test_the_summary_shows_mean_spread_interval_and_number_of_scans():
    page = Page(to_html(report(scan("a", metrics(0.5, hd95=None)), scan("b", metrics(1.0, hd95=3.0, auc=None))), []))
    assert page.row("Dice")[1:] == ["0.7500", "0.2500", "0.5000 … 1.0000", "2", "0"]
    assert page.row("HD95 (px)")[1:] == ["3.00", "0.00", "–", "1", "1"]


@pytest.mark.parametrize(
    ("value", "text"),
    [(3.0, "3.00"), (12.345, "12.35"), (0.5, "0.500"), (0.00612, "0.00612"), (-0.00612, "-0.00612"), (0.0, "0.00")],
)
def test_small_lengths_and_volumes_keep_three_digits_that_say_something(value, text):
    assert shown("hd95", value) == shown("volume_error", value) == text
    assert shown("dice", 0.00612) == "0.0061"


def test_a_metric_that_is_defined_nowhere_is_a_dash():
    page = Page(to_html(report(scan("a", metrics(0.5, auc=None))), []))
    assert page.row("ROC AUC")[1:] == ["–", "–", "–", "0", "–"]


def test_every_scan_has_a_row():
    page = Page(to_html(report(scan("s1", metrics(0.5)), scan("s2", metrics(0.25, cldice=None), split=None)), []))
    assert page.row("s2") == ["s2", "–", *["0.2500"] * 6, "0.250", "0.250", "0.2500", "–", "25.0%", "50.0%"]
    assert page.row("s1")[1] == "test"


def test_lengths_carry_the_unit_of_the_scale():
    page = Page(to_html(report(about=subject(scale=Scale((9.5, 4.0), 5.0, "µm"))), []))
    assert page.row("HD95 (µm)")
    assert page.row("pixel size")[1] == "9.5 × 4 µm"
    assert page.row("tolerance")[1] == "5 µm"


def test_each_class_has_a_table_where_there_are_several():
    one, several = (to_html(report(scan("a", *classes)), []) for classes in ([metrics(0.5)], [metrics(0.5), None]))
    assert "Class (1)" not in one
    for number in (1, 2):
        assert f"Class ({number})" in several


def test_classes_have_the_numbers_of_the_dataset_where_one_is_ignored():
    page = to_html(report(scan("a", metrics(0.5), metrics(0.7)), about=subject(classes=3, ignore_index=2)), [])
    assert "Class (1)" in page
    assert "Class (2)" not in page
    assert "Class (3)" in page


def test_pictures_are_embedded_with_their_dice():
    page = Page(to_html(report(), [Picture("a", b"\x89PNG...")]))
    [image] = [attributes for tag, attributes in page.elements if tag == "img"]
    assert base64.b64decode(image["src"].removeprefix("data:image/png;base64,")) == b"\x89PNG..."
    assert image["alt"] == "a"
    assert "a: Dice 0.5000" in page.text
    assert HEADINGS["worst"].en not in to_html(report(), [])


def test_a_tuned_threshold_is_told_with_what_it_gains(tuned):
    page = Page(to_html(report(tuned=tuned), []))
    assert "highest mean Dice over 1 validation scans is 1.0000 at 0.45; at 0.5 it is 0.0000." in page.text
    assert HEADINGS["threshold"].en not in to_html(report(), [])


def test_what_the_training_took_and_why_is_told_where_it_is_known():
    page = Page(to_html(report(training=run_facts()), []))
    assert page.row("epochs")[1] == "12"
    assert page.row("best epoch")[1] == "9"
    assert page.row("time per epoch")[1] == "7.5 s"
    assert page.row("time per batch")[1] == "0.25 s"
    assert page.row("training samples per second")[1] == "8"
    assert page.row("peak memory")[1] == "1024 MiB"
    assert page.row("lr") == ["lr", "0.01", "found by <trial>"]
    assert "batch_size=2, pos_weight=–" in page.text
    assert HEADINGS["plan"].en not in to_html(report(), [])


def test_three_curves_are_drawn_where_the_epochs_are_known():
    assert to_html(report(history=[epoch(1), epoch(2)]), []).count("<svg") == 3
    assert to_html(report(history=[epoch(1)]), []).count("<circle") == 4
    page = Page(text := to_html(report(), []))
    assert "<svg" not in text
    assert SENTENCES["no_history"].en in page.text


def test_an_epoch_without_a_finite_loss_is_a_gap():
    history = [epoch(1), epoch(2, val_loss=float("nan")), epoch(3)]
    assert "nan" not in to_html(report(history=history), [])


def test_names_are_escaped():
    name = "<script>alert('x')</script>&\""
    text = to_html(report(scan(name, metrics(0.5)), about=subject(model=name, dataset=name)), [Picture(name, b"")])
    assert "<script" not in text
    assert name in Page(text).text


def test_words_name_every_metric():
    assert tuple(METRIC_NAMES) == METRICS
