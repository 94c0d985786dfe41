from __future__ import annotations

import math

import pytest
import torch

from octa_backend.data.store import Manifest, ScanEntry
from octa_backend.errors import InvalidConfig, TrainingDiverged
from octa_backend.training.batches import Batch
from octa_backend.training.config import TrainConfig
from octa_backend.training.plan import Plan, make_plan
from octa_backend.training.step import Stepper
from tests.tiny import SLOW_CPU, Hungry, Insatiable, Normless, SmallUNet


def a_plan(**options) -> Plan:
    entry = ScanEntry("s0", None, None, (32, 32), "uint8", 0, 0)
    usual = {"batch_size": 4, "lr": 0.1, "optimizer": "sgd", "momentum": 0}
    return make_plan(TrainConfig(**{**usual, **options}), Manifest(2, 1, 2, (0, 1), 0.1, (entry,)), SLOW_CPU)


def a_stepper(network, **options):
    """A stepper and the list of its halvings."""
    halvings = []

    def notice(finding):
        halvings.append((finding.evidence["scans"], finding.evidence["halved"]))

    return Stepper(network, a_plan(**options), notice), halvings


def a_batch(scans=4, sides=(8, 8)):
    return Batch(torch.rand(scans, 1, *sides), torch.randint(2, (scans, *sides)))


def weights(network):
    return torch.cat([parameter.detach().flatten() for parameter in network.parameters()])


def assert_same_step(found, expected):
    assert found.components == pytest.approx(expected.components, rel=1e-5)
    assert found.gradient_norms == pytest.approx(expected.gradient_norms, rel=1e-4)
    assert (found.scans, found.lr) == (expected.scans, expected.lr)


# --- accumulation ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("loss", ["dice_bce", "dice", "focal"])
@pytest.mark.parametrize(("at_once", "scans"), [(2, 4), (1, 4), (3, 4), (2, 5), (4, 3)])
def test_gradients_of_parts_are_averaged_exactly_as_those_of_the_whole(loss, at_once, scans):
    whole, parted = Normless(), Normless()
    parted.load_state_dict(whole.state_dict())
    batch = a_batch(scans)
    expected = a_stepper(whole, batch_size=8, loss=loss)[0].step(batch, lr=0.1)
    found = a_stepper(parted, batch_size=at_once, loss=loss)[0].step(batch, lr=0.1)
    assert_same_step(found, expected)
    assert torch.allclose(weights(parted), weights(whole), atol=1e-6)


def test_volumes_are_accumulated_as_well():
    whole, parted = Normless(spatial_dims=3), Normless(spatial_dims=3)
    parted.load_state_dict(whole.state_dict())
    batch = a_batch(3, sides=(4, 6, 8))
    assert_same_step(a_stepper(parted, batch_size=2)[0].step(batch, 0.1), a_stepper(whole)[0].step(batch, 0.1))
    assert torch.allclose(weights(parted), weights(whole), atol=1e-6)


def test_step_moves_the_weights_by_rate_times_gradient():
    network = Normless()
    before = weights(network)
    stepper, _ = a_stepper(network)
    stepper.step(a_batch(), lr=0.25)
    gradients = torch.cat([parameter.grad.flatten() for parameter in network.parameters()])
    assert torch.allclose(weights(network), before - 0.25 * gradients)


# --- clipping -------------------------------------------------------------------------------------------------------


def test_clipping_shortens_the_gradient_to_the_norm_asked_for_but_not_the_norms_reported():
    network, free = Normless(), Normless()
    free.load_state_dict(network.state_dict())
    before = weights(network)
    batch = a_batch()
    expected = a_stepper(free)[0].step(batch, lr=1.0)
    found = a_stepper(network, gradient_clipping=1e-3)[0].step(batch, lr=1.0)
    assert_same_step(found, expected)
    assert (weights(network) - before).norm().item() == pytest.approx(1e-3, rel=1e-3)
    norm = torch.tensor(list(found.gradient_norms.values())).norm()  # the four groups are all of this network
    assert torch.allclose(weights(network) - before, (weights(free) - before) * 1e-3 / norm, atol=1e-6)


def test_gradient_that_is_short_enough_is_not_clipped():
    network, free = Normless(), Normless()
    free.load_state_dict(network.state_dict())
    batch = a_batch()
    a_stepper(network, gradient_clipping=1e3)[0].step(batch, lr=1.0)
    a_stepper(free)[0].step(batch, lr=1.0)
    assert torch.equal(weights(network), weights(free))


# --- memory ---------------------------------------------------------------------------------------------------------


def test_when_memory_runs_out_the_batch_is_computed_in_halves_with_the_same_result():
    hungry, plenty = Hungry(), Normless()
    plenty.load_state_dict(hungry.state_dict())
    batch = a_batch(8)
    stepper, halvings = a_stepper(hungry, batch_size=8)
    assert_same_step(stepper.step(batch, lr=0.1), a_stepper(plenty, batch_size=8)[0].step(batch, lr=0.1))
    assert halvings == [(8, 4), (4, 2)]
    assert stepper.micro_batch == 2
    assert torch.allclose(weights(hungry), weights(plenty), atol=1e-6)


@pytest.mark.parametrize(
    "words",
    [
        "[enforce fail at alloc_cpu.cpp:118] DefaultCPUAllocator: not enough memory: you tried to allocate 9 bytes",
        "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`",
        "GET was unable to find an engine to execute this computation",
    ],
)
def test_memory_runs_out_in_other_words_as_well(words):
    class Wordy(Normless):
        def forward(self, x):
            if x.shape[0] > 2:
                raise RuntimeError(words)
            return super().forward(x)

    stepper, halvings = a_stepper(Wordy(), batch_size=4)
    stepper.step(a_batch(4), lr=0.1)
    assert halvings == [(4, 2)]


def test_a_kernel_that_is_missing_is_no_lack_of_memory():
    class Lacking(Normless):
        def forward(self, x):
            raise RuntimeError("GET was unable to find an engine to execute this computation")

    with pytest.raises(RuntimeError, match="unable to find an engine"):
        a_stepper(Lacking(), batch_size=2)[0].step(a_batch(2), lr=0.1)


def test_smaller_batch_stays_for_the_steps_that_follow():
    stepper, halvings = a_stepper(Hungry(), batch_size=4)
    for _ in range(3):
        stepper.step(a_batch(4), lr=0.1)
    assert halvings == [(4, 2)]


def test_batch_that_is_smaller_than_the_batch_size_is_halved_from_its_own_size():
    stepper, halvings = a_stepper(Hungry(), batch_size=64)
    stepper.step(a_batch(3), lr=0.1)
    assert halvings == [(3, 1)]


def test_when_not_even_one_scan_fits_the_run_ends_with_what_to_change():
    stepper, _ = a_stepper(Insatiable(), batch_size=2)
    with pytest.raises(InvalidConfig, match="does not hold one patch of 32x32") as caught:
        stepper.step(a_batch(2), lr=0.1)
    assert "choose a smaller patch_size (of volumes target_shape) or a smaller model" in caught.value.message


# --- numbers that are no numbers ------------------------------------------------------------------------------------


class Scaled(Normless):
    """Multiplies its logits."""

    factor = 1.0

    def forward(self, x):
        return super().forward(x) * self.factor


def test_loss_that_is_not_finite_leaves_the_weights_alone():
    network = Scaled()
    network.factor = math.inf
    before = weights(network)
    with pytest.raises(TrainingDiverged, match="bce"):
        a_stepper(network)[0].step(a_batch(), lr=0.1)
    assert torch.equal(weights(network), before)


def in_fp16(network):
    """The same with half precision, which the plan refuses on a CPU although torch computes in it."""
    plan = a_plan()
    plan = plan.model_copy(update={"config": plan.config.model_copy(update={"precision": "fp16"})})
    return Stepper(network, plan, lambda *_: None)


def test_fp16_gradients_are_scaled_up_and_back():
    plain, half = Normless(), Normless()
    half.load_state_dict(plain.state_dict())
    batch = a_batch()
    expected = a_stepper(plain)[0].step(batch, lr=0.1)
    found = in_fp16(half).step(batch, lr=0.1)
    assert found.gradient_norms == pytest.approx(expected.gradient_norms, rel=0.02)
    assert torch.allclose(weights(half), weights(plain), atol=1e-3)


def test_gradient_that_overflows_fp16_is_computed_again_with_a_smaller_scale():
    network = Normless()
    stepper = in_fp16(network)
    stepper.scaler = torch.amp.GradScaler("cpu", init_scale=2.0**40)
    step = stepper.step(a_batch(), lr=0.1)
    assert stepper.scaler.get_scale() < 2.0**40
    assert all(math.isfinite(norm) and norm > 0 for norm in step.gradient_norms.values())
    assert torch.isfinite(weights(network)).all()


class Steep(Normless):
    """A finite loss with a gradient that is not."""

    def forward(self, x):
        bias = self.layers[-1].bias
        return super().forward(x) + (bias - bias.detach()).sqrt().view(1, -1, 1, 1)


def test_gradient_that_overflows_at_every_scale_has_diverged():
    network = Steep()
    before = weights(network)
    with pytest.raises(TrainingDiverged, match="decoder_output"):
        in_fp16(network).step(a_batch(), lr=0.1)
    assert torch.equal(weights(network), before)


class Kinked(Normless):
    """As `Steep`, in a layer of no group whose gradient is told."""

    def __init__(self):
        super().__init__()
        self.middle = torch.nn.Parameter(torch.zeros(1))

    def forward(self, x):
        return super().forward(x) + (self.middle - self.middle.detach()).sqrt()


@pytest.mark.parametrize("stepper", [in_fp16, lambda network: a_stepper(network)[0]], ids=["fp16", "fp32"])
def test_gradient_of_any_layer_is_looked_at_before_the_weights_move(stepper):
    network = Kinked()
    before = weights(network)
    with pytest.raises(TrainingDiverged, match="a gradient became NaN or infinite"):
        stepper(network).step(a_batch(), lr=0.1)
    assert torch.equal(weights(network), before)


# --- what the network is asked --------------------------------------------------------------------------------------


def test_rate_is_set_at_each_step():
    stepper, _ = a_stepper(SmallUNet(1, 1), optimizer="adamw", weight_decay=0.1)
    for lr in (0.1, 0.2):
        assert stepper.step(a_batch(sides=(16, 16)), lr=lr).lr == lr
        assert {group["lr"] for group in stepper.optimizer.param_groups} == {lr}
