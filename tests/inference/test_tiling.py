from __future__ import annotations

from itertools import pairwise

import pytest
import torch

from octa_backend.inference.tiling import TILE, even_side, predict_logits, tile_starts


def pointwise(x):
    """Logits of two classes that depend on one pixel each."""
    return torch.cat([3 * x[:, :1] - 1, x[:, -1:] ** 2], dim=1)


class Recorder:
    """A network that remembers the sizes it was given."""

    def __init__(self):
        self.sizes = []

    def __call__(self, x):
        self.sizes.append(tuple(x.shape[-2:]))
        return pointwise(x)


def test_scan_that_fits_is_computed_whole():
    network = Recorder()
    x = torch.rand(2, 1, 32, 20)
    assert torch.equal(predict_logits(network, x, tile=32), pointwise(x))
    assert network.sizes == [(32, 20)]


@pytest.mark.parametrize(("height", "width"), [(33, 16), (16, 33), (50, 70), (64, 64), (129, 40), (31, 200)])
def test_tiles_of_a_network_that_looks_at_one_pixel_give_the_whole(height, width):
    network = Recorder()
    x = torch.rand(2, 3, height, width)
    found = predict_logits(network, x, tile=32)
    torch.testing.assert_close(found, pointwise(x), rtol=1e-5, atol=1e-5)
    assert len(network.sizes) > 1
    assert set(network.sizes) == {(min(32, height), min(32, width))}


def test_constant_logits_stay_constant():
    found = predict_logits(lambda x: torch.full_like(x, 2.5), torch.rand(1, 1, 75, 90), tile=32)
    torch.testing.assert_close(found, torch.full((1, 1, 75, 90), 2.5))


def test_every_size_beyond_the_tile_is_covered():
    for length in range(17, 70):
        found = predict_logits(torch.ones_like, torch.zeros(1, 1, length, 16), tile=16)
        assert torch.isfinite(found).all(), length
        torch.testing.assert_close(found, torch.ones_like(found))


def test_neighbouring_tiles_overlap_by_a_quarter_at_least():
    columns = []

    def network(x):
        columns.append(int(x[0, 0, 0, 0]))
        return x

    predict_logits(network, torch.arange(200.0).expand(1, 1, 32, 200), tile=32)
    assert columns[0] == 0
    assert columns[-1] == 200 - 32
    assert all(0 < after - before <= 24 for before, after in pairwise(columns))


def test_middle_of_a_tile_counts_more_than_its_edge():
    calls = []

    def network(x):
        calls.append(len(calls))
        return torch.full_like(x, calls[-1])

    found = predict_logits(network, torch.zeros(1, 1, 16, 28), tile=16)[0, 0, 8]
    assert calls == [0, 1]  # tiles start at columns 0 and 12
    assert (found[:12] == 0).all()
    assert (found[16:] == 1).all()
    assert (found[12:16].diff() > 0).all()
    assert found[13] < 0.5 < found[14]


def test_logits_are_float32_whatever_the_network_computes_in():
    x = torch.rand(1, 1, 40, 20)
    for tile in (64, 32):
        assert predict_logits(lambda x: x.bfloat16(), x, tile=tile).dtype == torch.float32


# --- overlap, sides and volumes -------------------------------------------------------------------------------------


@pytest.mark.parametrize("overlap", [0.0, 0.1, 0.25, 0.5, 0.9])
@pytest.mark.parametrize("tile", [1, 5, 16])
def test_tiles_of_one_axis_cover_it_from_edge_to_edge_with_their_overlap(overlap, tile):
    for length in range(1, 60):
        starts = tile_starts(length, tile, overlap)
        covered = {pixel for start in starts for pixel in range(start, min(start + tile, length))}
        assert covered == set(range(length))
        assert starts[0] == 0
        assert starts[-1] == max(0, length - tile)
        assert all(after - before <= max(1, tile * (1 - overlap)) for before, after in pairwise(starts))


@pytest.mark.parametrize("overlap", [0.0, 0.25, 0.6])
@pytest.mark.parametrize(
    ("spatial", "tile"), [((40, 33), 16), ((40, 33), (16, 64)), ((20, 9, 33), 8), ((6, 20, 33), (6, 8, 16))]
)
def test_every_pixel_is_covered_exactly_whatever_the_overlap(spatial, tile, overlap):
    x = torch.rand(2, 1, *spatial)
    sizes = set()

    def network(part):
        sizes.add(tuple(part.shape[2:]))
        return part

    found = predict_logits(network, x, tile=tile, overlap=overlap)
    torch.testing.assert_close(found, x, rtol=1e-5, atol=1e-6)
    sides = (tile,) * len(spatial) if isinstance(tile, int) else tile
    assert sizes == {tuple(min(pair) for pair in zip(spatial, sides, strict=True))}


def test_more_overlap_gives_more_tiles():
    counts = []
    for overlap in (0.0, 0.25, 0.5, 0.75):
        network = Recorder()
        predict_logits(network, torch.rand(1, 1, 64, 64), tile=32, overlap=overlap)
        counts.append(len(network.sizes))
    assert counts == [4, 9, 9, 25]


@pytest.mark.parametrize(
    ("length", "side", "count"),
    [(700, 704, 1), (1024, 1024, 1), (1025, 608, 2), (1272, 736, 2), (1792, 1024, 2), (1793, 736, 3)],
)
def test_tiles_are_no_larger_than_as_many_need(length, side, count):
    assert even_side(length, TILE[2], 0.25) == side
    assert len(tile_starts(length, side, 0.25)) == count == len(tile_starts(length, TILE[2], 0.25))


def test_even_tiles_never_need_more_than_the_largest():
    for length in range(1, 9000, 7):
        side = even_side(length, TILE[2], 0.25)
        assert side <= TILE[2]
        assert len(tile_starts(length, side, 0.25)) == len(tile_starts(length, TILE[2], 0.25)), length


def test_large_picture_is_cut_into_equal_tiles_and_a_smaller_one_is_whole():
    network = Recorder()
    predict_logits(network, torch.zeros(1, 1, 40, 1100))
    predict_logits(network, torch.zeros(1, 1, 1024, 33))
    assert network.sizes == [(40, 640)] * 2 + [(1024, 33)]


def test_volume_that_fits_is_computed_whole_and_a_larger_one_in_tiles():
    sizes = []

    def network(x):
        sizes.append(tuple(x.shape[2:]))
        return x

    predict_logits(network, torch.rand(1, 1, 8, 20, 20))
    predict_logits(network, torch.zeros(1, 1, 2, 2, 130))
    assert sizes[0] == (8, 20, 20)
    assert set(sizes[1:]) == {(2, 2, 128)}


@pytest.mark.parametrize(("tile", "overlap"), [(0, 0.25), ((8, 8, 8), 0.25), (8, 1.0), (8, -0.1)])
def test_tiles_that_make_no_sense_are_refused(tile, overlap):
    with pytest.raises(ValueError, match="tile"):
        predict_logits(pointwise, torch.rand(1, 1, 16, 16), tile=tile, overlap=overlap)
