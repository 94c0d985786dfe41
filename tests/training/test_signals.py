from __future__ import annotations

import copy
import math
from statistics import fmean, pstdev

import pytest
import torch

from octa_backend.data.store import Manifest, ScanEntry
from octa_backend.training import signals as watching
from octa_backend.training.batches import Batch
from octa_backend.training.config import TrainConfig
from octa_backend.training.events import GRADIENT_GROUPS
from octa_backend.training.plan import make_plan
from octa_backend.training.signals import Signals
from octa_backend.training.step import Step, Stepper
from tests.tiny import SLOW_CPU, Hungry, Normless, SmallUNet
from tests.training.toys import Toy


def a_plan(**options):
    entry = ScanEntry("s0", None, None, (32, 32), "uint8", 0, 0)
    usual = {"batch_size": 2, "lr": 0.1, "optimizer": "sgd", "momentum": 0}
    return make_plan(TrainConfig(**{**usual, **options}), Manifest(2, 1, 2, (0, 1), 0.1, (entry,)), SLOW_CPU)


def batches(count, scans=2, size=16):
    generator = torch.Generator().manual_seed(1)
    return [
        Batch(
            torch.rand(scans, 1, size, size, generator=generator),
            torch.randint(2, (scans, size, size), generator=generator),
        )
        for _ in range(count)
    ]


def watched(network, plan, pairs, lr=0.1):
    """The signals of an epoch of these batches, and its steps."""
    found = Signals(network, plan)
    stepper = Stepper(network.train(), plan, lambda _: None, hooks=found)
    steps = [stepper.step(batch, lr) for batch in found.batches(pairs)]
    return found.epoch(), steps


# --- a run is the same with them ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "options", [{"optimizer": "adam"}, {"gradient_clipping": 0.1, "loss": "cldice"}, {"batch_size": 1}]
)
def test_watched_steps_give_the_same_numbers_bit_by_bit(options):
    network = SmallUNet(1, 1).train()
    plan = a_plan(**options)
    plain = Stepper(copy.deepcopy(network), plan, lambda *_: None)
    pairs = batches(7)
    random_state = torch.get_rng_state()
    expected = [plain.step(batch, 0.01) for batch in pairs]
    _, found = watched(network, plan, pairs, lr=0.01)
    assert found == expected
    assert torch.equal(torch.get_rng_state(), random_state)
    for one, other in zip(network.parameters(), plain.network.parameters(), strict=True):
        assert torch.equal(one, other)


def test_no_hook_stays_on_the_network():
    network = SmallUNet(1, 1)
    watched(network, a_plan(), batches(2))
    assert not any(module._forward_hooks for module in network.modules())


# --- numbers by hand ------------------------------------------------------------------------------------------------


def test_one_step_of_a_toy_by_hand():
    # Ones through (1, -1), the rectifier and (2, 5): logits 2, of which a quarter of the pixels should be 1.
    network = Toy(first=(1, -1), second=(2, 5))
    plan = a_plan(loss="bce", batch_size=1)
    mask = torch.tensor([[[1, 0], [0, 0]]])
    found, (step,) = watched(network, plan, [Batch(torch.ones(1, 1, 2, 2), mask)], lr=0.5)
    pull = 1 / (1 + math.exp(-2)) - 1 / 4  # mean of p - g, what the mean BCE gives for a shift of all logits
    assert found.gradient_norms == pytest.approx(
        {"encoder_conv1": 2 * pull, "encoder_last": 2 * pull, "decoder_first": pull, "decoder_output": pull}
    )
    first = math.hypot(1 - 0.5 * 2 * pull, 1)
    second = math.hypot(2 - 0.5 * pull, 5)
    assert found.weight_norms["encoder_conv1"] == pytest.approx(first)
    assert found.update_ratios["encoder_conv1"] == pytest.approx(pull / first)
    assert found.update_ratios["decoder_output"] == pytest.approx(0.5 * pull / second)
    assert found.layer_ratios == pytest.approx({"first": pull / first, "second": 0.5 * pull / second})
    assert found.layer_norms == pytest.approx({"first": 2 * pull, "second": pull})
    assert found.dead_fraction == {"active": 0.5}
    assert (found.predicted_foreground, found.true_foreground) == (1.0, 0.25)
    assert (found.component_cosine, found.loss_spread, found.noise_scale) == (None, 0.0, None)
    p = 1 / (1 + math.exp(-2))
    assert found.component_gradients == {"bce": pytest.approx(math.hypot(p - 1, p, p, p) / 4)}
    assert step.components["bce"] == pytest.approx(math.log(1 + math.exp(2)) - 2 / 4)


def test_parts_of_a_batch_count_as_the_whole():
    whole, parted = Normless(), Normless()
    parted.load_state_dict(whole.state_dict())
    pairs = batches(1, scans=5)
    expected, _ = watched(whole, a_plan(batch_size=5), pairs)
    found, _ = watched(parted, a_plan(batch_size=2), pairs)
    assert found.component_gradients["bce"] == pytest.approx(expected.component_gradients["bce"], rel=1e-4)
    assert found.component_cosine == pytest.approx(expected.component_cosine, rel=1e-4)
    assert found.predicted_foreground == expected.predicted_foreground
    assert found.true_foreground == expected.true_foreground


def test_means_and_spread_are_over_the_steps():
    found, steps = watched(Normless(), a_plan(), batches(4))
    losses = [0.5 * step.components["bce"] + 0.5 * step.components["dice"] for step in steps]
    assert found.loss_spread == pytest.approx(pstdev(losses))
    for name in GRADIENT_GROUPS:
        assert found.gradient_norms[name] == pytest.approx(fmean(step.gradient_norms[name] for step in steps))


def test_noise_scale_is_told_after_enough_steps():
    pairs = batches(1) * 7  # the same batch again and again: hardly any noise beside what the steps change
    found, _ = watched(Normless(), a_plan(), pairs, lr=1e-3)
    assert found.noise_scale == pytest.approx(0, abs=0.01)


# --- when it looks --------------------------------------------------------------------------------------------------


def test_layers_are_looked_at_in_the_first_step_and_every_so_often(monkeypatch):
    monkeypatch.setattr(watching, "LAYERS_EVERY", 3)
    network = Normless()
    found = Signals(network, a_plan())
    stepper = Stepper(network, a_plan(), lambda _: None, hooks=found)
    looked = []
    for batch in batches(7):
        stepper.step(batch, 0.1)
        looked.append(len(found._seen.products))
    assert looked == [1, 1, 1, 2, 2, 2, 3]
    found.epoch()
    stepper.step(batches(1)[0], 0.1)
    assert len(found._seen.products) == 1


def test_an_epoch_begins_anew():
    network, plan = Normless(), a_plan(gradient_clipping=1e-6)
    found = Signals(network, plan)
    stepper = Stepper(network, plan, lambda _: None, hooks=found)
    for batch in found.batches(batches(6)):
        stepper.step(batch, 0.1)
    first = found.epoch()
    assert first.noise_scale is not None
    assert 0 < first.data_seconds < first.step_seconds
    (batch,) = batches(1)
    step = stepper.step(batch._replace(mask=torch.ones_like(batch.mask)), 0.1)
    second = found.epoch()
    assert (second.noise_scale, second.loss_spread, second.data_seconds, second.step_seconds) == (None, 0, 0, 0)
    assert second.true_foreground == 1
    assert second.gradient_norms == step.gradient_norms


def test_activations_of_a_compiled_network_are_left_alone():
    network = SmallUNet(1, 1).train()
    found = Signals(network, a_plan(), compiled=True)
    found.before_step()
    assert not any(module._forward_hooks for module in network.modules())
    Stepper(network, a_plan(), lambda _: None, hooks=found).step(batches(1)[0], 0.1)
    assert found.epoch().dead_fraction == {}


# --- steps that go wrong --------------------------------------------------------------------------------------------


def test_share_of_clipped_steps():
    pairs, network = batches(4), Normless()
    _, steps = watched(copy.deepcopy(network), a_plan(), pairs, lr=1e-9)
    lengths = sorted(math.hypot(*step.gradient_norms.values()) for step in steps)
    limit = (lengths[0] + lengths[1]) / 2
    assert watched(copy.deepcopy(network), a_plan(gradient_clipping=limit), pairs, lr=1e-9)[0].clipped_share == 3 / 4
    assert watched(network, a_plan(), pairs)[0].clipped_share == 0


def test_batch_that_is_computed_again_in_halves_counts_once():
    pairs = batches(1, scans=4)
    found, _ = watched(Hungry(), a_plan(batch_size=4), pairs)
    assert found.true_foreground == pairs[0][1].float().mean().item()


def test_try_that_overflowed_is_counted_and_forgotten():
    network, plan = Toy(), a_plan(loss="bce")
    found = Signals(network, plan)
    logits, mask = torch.ones(1, 1, 2, 2), torch.ones(1, 2, 2, dtype=torch.int64)
    found.before_step()
    found.after_forward(logits, Batch(logits, mask))
    found.overflowed()
    found.before_step()
    found.after_forward([-logits, logits], Batch(logits, mask))  # several levels: the finest counts
    found.before_update()
    found.after_step(Step(1, {"bce": 0.5}, dict.fromkeys(GRADIENT_GROUPS, 1.0), 0.1))
    summary = found.epoch()
    assert (summary.overflows, summary.predicted_foreground) == (1, 0.0)
    assert found._seen.overflows == 0
