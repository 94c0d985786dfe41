from __future__ import annotations

import pytest

from octa_backend.controller.preferences import in_place_of_json, weighted


@pytest.mark.parametrize(
    ("accept", "found"),
    [
        ("", None),
        ("*/*", None),
        ("application/json", None),
        ("text/html, */*;q=0.8", None),
        ("image/png", "image/png"),
        ("IMAGE/PNG", "image/png"),
        ("image/*", "image/png"),
        ("*/*, image/png", "image/png"),
        ("image/png;q=0", None),
        ("image/png; q=0, */*", None),
        ("image/png;q=0.5, application/json", None),
        ("application/json;q=0.5, image/png;q=0.9", "image/png"),
        ("image/png;q=oops", None),
    ],
)
def test_the_type_that_a_client_likes_best_is_sent(accept, found):
    assert in_place_of_json(accept, ["image/png"]) == found


def test_of_several_types_the_first_of_the_likeliest_is_sent():
    kinds = ["application/gzip", "application/octet-stream"]
    assert in_place_of_json("application/octet-stream, application/gzip;q=0.5", kinds) == "application/octet-stream"
    assert in_place_of_json("application/gzip, application/octet-stream", kinds) == "application/gzip"


def test_weights_may_have_spaces_around_them_and_those_out_of_range_are_left_out():
    found = list(weighted("en; q=0.1, zh ;q=0.9,fr;q=2, de;level=1;q=0.5, , es;q=nan"))
    assert found == [("en", 0.1), ("zh", 0.9), ("de", 0.5)]
