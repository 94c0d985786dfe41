from __future__ import annotations

import shutil

import pytest
import torch
from torch._dynamo.exc import BackendCompilerFailed

from octa_backend.training import step as step_module
from octa_backend.training.batches import Batch
from octa_backend.training.compilation import CompilationFailed, first_line
from octa_backend.training.network import build_network
from octa_backend.training.optim import WeightAverage
from octa_backend.training.step import Stepper
from tests.tiny import a_plan
from tests.training.runs import epochs, findings, steps, train

NO_COMPILER = "torch compiles for a CPU with a C++ compiler, and there is none here"
has_compiler = any(shutil.which(name) for name in ("g++", "clang++", "cl"))


pytestmark = pytest.mark.usefixtures("tiny_registry")


class Broken:
    """A compiler that fails when the network is first called, as one does that lacks what it needs."""

    def __init__(self, network):
        self.calls = 0

    def __call__(self, x):
        self.calls += 1
        raise CompilationFailed("no C++ compiler was found\n\nand pages of advice")


class Recorder:
    """Stands for a compiler whose network computes the same."""

    def __init__(self, network):
        self.network, self.calls = network, 0

    def __call__(self, x):
        self.calls += 1
        return self.network(x)


def patched(monkeypatch, kind):
    made = []

    def compile_network(network):
        made.append(kind(network))
        return made[-1]

    monkeypatch.setattr(step_module, "compile_network", compile_network)
    return made


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.skipif(not has_compiler, reason=NO_COMPILER)
def test_compiled_network_gives_the_losses_of_the_uncompiled_one_and_plain_weights(data):
    plan = a_plan(data, model="normless", deterministic=True, compile="on")
    networks = [build_network(plan).train() for _ in range(2)]
    noticed = []
    compiled = Stepper(networks[0], plan, noticed.append, compiled=True)
    plain = Stepper(networks[1], plan, noticed.append)
    before = torch._dynamo.utils.counters["stats"]["unique_graphs"]
    average = WeightAverage(networks[0], build_network(plan), 0.5)
    for scans in (2, 1):
        batch = Batch(torch.rand(scans, 1, 32, 32), torch.randint(2, (scans, 32, 32)))
        one, other = compiled.step(batch, lr=0.01), plain.step(batch, lr=0.01)
        average.update()
        assert one.components == pytest.approx(other.components, rel=1e-4)
        assert one.gradient_norms == pytest.approx(other.gradient_norms, rel=1e-3)
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] > before
    assert noticed == []
    assert list(networks[0].state_dict()) == list(networks[1].state_dict())


def test_run_is_compiled_where_the_plan_says_so_and_validated_as_it_is(tmp_path, data, monkeypatch):
    made = patched(monkeypatch, Recorder)
    events, _ = train(tmp_path / "on", data, model="normless", compile="on", epochs=1)
    assert made[0].calls == len(steps(events))
    assert made[0].network.training
    plain, _ = train(tmp_path / "off", data, model="normless", compile="off", epochs=1)
    train(tmp_path / "auto", data, model="normless", epochs=1)
    assert len(made) == 1
    assert [step.loss for step in steps(events)] == [step.loss for step in steps(plain)]


def test_where_compiling_fails_the_run_goes_on_uncompiled_and_says_why(tmp_path, data, monkeypatch):
    made = patched(monkeypatch, Broken)
    events, outcome = train(tmp_path / "on", data, model="normless", compile="on")
    (found,) = findings(events)
    assert (found.code, found.epoch, found.evidence["cause"]) == ("not_compiled", 1, "no C++ compiler was found")
    assert made[0].calls == 1
    assert outcome.finished
    plain, _ = train(tmp_path / "off", data, model="normless", compile="off")
    assert [epoch.train_loss for epoch in epochs(events)] == [epoch.train_loss for epoch in epochs(plain)]


def test_when_memory_runs_out_a_compiled_batch_is_halved_as_well(data, monkeypatch):
    patched(monkeypatch, Recorder)
    plan = a_plan(data, model="hungry", batch_size=4, compile="on")
    noticed = []
    stepper = Stepper(build_network(plan).train(), plan, noticed.append, compiled=True)
    stepper.step(Batch(torch.rand(4, 1, 32, 32), torch.randint(2, (4, 32, 32))), lr=0.01)
    assert ([found.code for found in noticed], stepper.micro_batch) == (["out_of_memory"], 2)


def test_failure_that_is_not_the_compilers_ends_the_step(data):
    plan = a_plan(data, model="normless")
    network = build_network(plan)
    network.register_forward_hook(lambda *_: Broken(network)(None))
    batch = Batch(torch.rand(1, 1, 8, 8), torch.zeros(1, 8, 8))
    with pytest.raises(CompilationFailed):
        Stepper(network, plan, lambda _finding: None).step(batch, lr=0.01)


def test_cause_is_the_first_line_or_the_name_of_the_error():
    assert first_line(ValueError("\n  one\ntwo")) == "one"
    assert first_line(ValueError()) == "ValueError"
    assert len(first_line(ValueError("x" * 1000))) == 200
    passed_on = BackendCompilerFailed(torch.compile, TypeError("no such thing"), None)
    assert first_line(passed_on) == "no such thing"
