from __future__ import annotations

import pytest
import torch
from pydantic import ValidationError

from octa_backend.data.store import Manifest, ScanEntry
from octa_backend.models.tiny import WNet
from octa_backend.models.unet import UNet
from octa_backend.training.batches import Batch
from octa_backend.training.checkpoint import load_weights, save_weights
from octa_backend.training.config import TrainConfig
from octa_backend.training.loss_options import USES
from octa_backend.training.losses import make_loss
from octa_backend.training.network import build_network
from octa_backend.training.plan import make_plan
from octa_backend.training.step import Stepper
from tests.tiny import SLOW_CPU, a_plan, synthetic_pairs, training_data, write_store
from tests.training.runs import epochs, numbers, train


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return training_data(write_store(tmp_path_factory.mktemp("data"), synthetic_pairs(3)))


def test_config_builds_a_network_of_several_levels(data):
    network = build_network(a_plan(data, model="tiny_unet", deep_supervision=True))
    assert isinstance(network.train()(torch.rand(1, 1, 32, 32)), list)
    assert isinstance(network.eval()(torch.rand(1, 1, 32, 32)), torch.Tensor)
    plain = build_network(a_plan(data, model="tiny_unet"))
    assert isinstance(plain.train()(torch.rand(1, 1, 32, 32)), torch.Tensor)


@pytest.mark.parametrize("model", ["monai_unet", "segresnet", "deeplabv3_resnet50"])
def test_network_that_has_no_levels_refuses_and_names_those_that_have(model):
    with pytest.raises(ValidationError, match=r"no deep supervision.*unet_transformer, unet, tiny_unet, dynunet"):
        TrainConfig(model=model, deep_supervision=True)


@pytest.mark.parametrize("sides", [(16, 24), (4, 8, 12)])
@pytest.mark.parametrize("loss", [name for name in USES if name not in ("dice_ce", "ce")])
def test_every_loss_trains_all_levels_of_scans_and_volumes(loss, sides):
    entry = ScanEntry("s0", None, None, (32,) * len(sides), "uint8", 0, 0)
    config = TrainConfig(model="tiny_unet", deep_supervision=True, loss=loss, class_weights=(1, 3), batch_size=2)
    plan = make_plan(config, Manifest(len(sides), 1, 2, (0, 1), 0.1, (entry,)), SLOW_CPU)
    network = WNet(1, 1, len(sides), features=(2, 4), deep_supervision=True).train()
    batch = Batch(torch.rand(2, 1, *sides), torch.randint(2, (2, *sides)))
    step = Stepper(network, plan, lambda _finding: None).step(batch, lr=0.01)
    assert list(step.components) == list(make_loss(plan.config).weights)
    assert all(parameter.grad is not None for parameter in network.parameters())


def test_losses_stay_the_weighted_sum_and_equal_seeds_give_equal_ones(tmp_path, data):
    options = {"model": "tiny_unet", "deep_supervision": True, "epochs": 1, "bce_weight": 0.3}
    events, outcome = train(tmp_path / "one", data, **options)
    again, _ = train(tmp_path / "again", data, **options)
    assert outcome.finished
    assert [numbers(event) for event in events] == [numbers(event) for event in again]
    (report,) = epochs(events)
    components = report.loss_components
    assert report.train_loss == 0.3 * components["bce"] + 0.5 * components["dice"]


def test_weights_of_several_levels_load_for_prediction(tmp_path):
    trained = UNet(1, 1, features=(2, 4, 8, 8), deep_supervision=True)
    assert any(name.startswith("auxiliary") for name in trained.state_dict())
    save_weights(trained, tmp_path / "weights.safetensors")
    network = UNet(1, 1, features=(2, 4, 8, 8)).eval()
    load_weights(network, tmp_path / "weights.safetensors")
    x = torch.rand(1, 1, 32, 32)
    assert torch.equal(network(x), trained.eval()(x))
