from __future__ import annotations

from itertools import pairwise

import pytest
import torch

from octa_backend.inference.tiling import predict_logits


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
