from __future__ import annotations

import subprocess
import sys

import pytest
import torch

from octa_backend.errors import InvalidConfig, UnknownNetwork
from octa_backend.models import registry
from octa_backend.models.unet import UNet, UNet_Transformer


def test_the_networks_of_the_product_are_known_by_name():
    assert set(registry.NETWORKS) >= {"unet_transformer", "unet"}


@pytest.mark.parametrize(("name", "network_class"), [("unet", UNet), ("unet_transformer", UNet_Transformer)])
def test_a_name_builds_its_network_with_the_channels_asked_for(name, network_class):
    with torch.device("meta"):
        network = registry.build(name, in_channels=2, out_channels=5)
        expected = network_class(in_channels=2, out_channels=5)
    assert isinstance(network, network_class)
    shapes = {key: value.shape for key, value in network.state_dict().items()}
    assert shapes == {key: value.shape for key, value in expected.state_dict().items()}
    assert network.head.out_channels == 5


@pytest.mark.parametrize("name", ["resnet", "", "UNet", "unet "])
def test_an_unknown_name_is_refused_with_the_names_there_are(name):
    with pytest.raises(UnknownNetwork) as caught:
        registry.build(name, 1, 1)
    assert repr(name) in caught.value.message
    assert all(known in caught.value.message for known in registry.NETWORKS)


def test_an_unknown_network_is_an_invalid_config():
    assert issubclass(UnknownNetwork, InvalidConfig)


def test_a_known_name_is_returned():
    assert registry.check_name("unet") == "unet"


def test_every_entry_says_what_it_is():
    assert all(entry.summary for entry in registry.NETWORKS.values())


def test_registry_and_config_are_imported_without_torch():
    code = (
        "import sys, octa_backend.models.registry, octa_backend.training.config, octa_backend.training.events\n"
        "octa_backend.training.config.TrainConfig(model='unet')\n"
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
