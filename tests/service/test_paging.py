from __future__ import annotations

import base64
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from octa_backend.errors import InvalidCursor
from octa_backend.service.paging import Page, cursor_of, read_cursor


@given(st.lists(st.integers(), unique=True), st.integers(1, 5))
def test_pages_walk_all_rows_exactly_once(numbers, limit):
    rows = sorted(numbers)
    found, cursor = [], None
    while True:
        after = read_cursor(cursor, int)[0] if cursor else None
        rest = [row for row in rows if after is None or row > after]
        page = Page.cut(rest[: limit + 1], limit, cursor_of)
        found += page.rows
        cursor = page.next_cursor
        if cursor is None:
            break
        assert len(page.rows) == limit
    assert found == rows


@given(st.text(alphabet=st.characters(exclude_categories=["Cs"])), st.integers())
def test_a_cursor_gives_back_the_position_and_fits_an_address(text, number):
    cursor = cursor_of(text, number)
    assert read_cursor(cursor, str, int) == (text, number)
    assert not set(cursor) & set("=+/&? ")


@given(st.text(max_size=30))
def test_any_text_is_a_cursor_or_refused(text):
    try:
        read_cursor(text, int)
    except InvalidCursor as error:
        assert repr(text) in error.message  # noqa: PT017


@pytest.mark.parametrize("position", ["[]", "[1, 2]", '["x"]', "[null]", "{}", "5", "[[1]]", "[Infinity]", "[NaN]"])
def test_a_cursor_of_another_list_is_refused(position):
    with pytest.raises(InvalidCursor, match="take next_cursor of its last page"):
        read_cursor(base64.urlsafe_b64encode(position.encode()).decode(), int)


def test_a_cursor_nested_too_deeply_is_refused():
    deep = "[" * 100_000
    with pytest.raises(InvalidCursor):
        read_cursor(base64.urlsafe_b64encode(deep.encode()).decode(), int)


def test_a_cursor_is_plain_json_inside():
    assert json.loads(base64.urlsafe_b64decode(cursor_of("a", 1) + "==")) == ["a", 1]
