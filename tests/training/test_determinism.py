from __future__ import annotations

import pytest
import torch

from octa_backend.training.determinism import generator_states, reproducible, restore_generators


def test_equal_seeds_draw_equal_numbers_and_the_callers_state_stays():
    before = torch.get_rng_state()
    drawn = []
    for seed in (1, 1, 2):
        with reproducible(seed, "cpu", deterministic=False):
            drawn.append(torch.rand(3))
    assert torch.equal(drawn[0], drawn[1])
    assert not torch.equal(drawn[0], drawn[2])
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("wanted", [True, False])
def test_deterministic_algorithms_are_asked_for_while_it_runs_and_only_then(wanted):
    with reproducible(1, "cpu", deterministic=wanted):
        assert torch.are_deterministic_algorithms_enabled() is wanted
    assert not torch.are_deterministic_algorithms_enabled()


def test_an_error_inside_leaves_all_as_it_was():
    with pytest.raises(RuntimeError, match="inside"), reproducible(1, "cpu", deterministic=True):
        raise RuntimeError("inside")
    assert not torch.are_deterministic_algorithms_enabled()


def test_what_the_caller_asked_for_stays():
    torch.use_deterministic_algorithms(True, warn_only=True)
    try:
        with reproducible(1, "cpu", deterministic=False):
            assert torch.is_deterministic_algorithms_warn_only_enabled()
        assert torch.is_deterministic_algorithms_warn_only_enabled()
    finally:
        torch.use_deterministic_algorithms(False)


def test_generators_go_on_from_their_states():
    states = generator_states("cpu")
    expected = torch.rand(3)
    torch.rand(10)
    restore_generators(states, "cpu")
    assert torch.equal(torch.rand(3), expected)
