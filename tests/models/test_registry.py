from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from octa_backend.errors import InvalidConfig, UnknownNetwork
from octa_backend.models import registry
from octa_backend.models.unet import UNet, UNet_Transformer
from octa_backend.training.config import TrainConfig


def test_the_networks_of_the_product_are_known_by_name():
    assert set(registry.NETWORKS) >= {"unet_transformer", "unet", "tiny_unet", "dynunet"}


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


def test_a_network_is_built_without_importing_the_libraries_of_others():
    code = (
        "import sys, octa_backend.models.registry as registry\n"
        "registry.build('tiny_unet', 1, 1)\n"
        "sys.exit(bool({'monai', 'torchvision'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_a_volumetric_form_is_built_where_there_is_one():
    network = registry.build("tiny_unet", in_channels=2, out_channels=3, spatial_dims=3)
    assert network(torch.rand(1, 2, 16, 16, 16)).shape == (1, 3, 16, 16, 16)


@pytest.mark.parametrize("name", ["unet", "deeplabv3_resnet50", "lraspp_mobilenet_v3_large"])
def test_a_network_without_a_volumetric_form_says_so_and_names_those_with_one(name):
    with pytest.raises(InvalidConfig) as caught:
        registry.build(name, 1, 1, spatial_dims=3)
    assert repr(name) in caught.value.message
    assert "tiny_unet" in caught.value.message
    assert "dynunet" in caught.value.message


def test_a_network_for_volumes_alone_says_so_and_names_those_for_pictures():
    with pytest.raises(InvalidConfig, match="'unet3d' is for volumes alone") as caught:
        registry.build("unet3d", 1, 1)
    assert "unet_transformer" in caught.value.message


@pytest.mark.parametrize("name", ["tiny_unet", "segresnet"])
def test_a_network_that_cannot_compute_twice_says_so_and_names_those_that_can(name):
    with pytest.raises(InvalidConfig, match="activation_checkpointing") as caught:
        registry.check_form(name, recomputes=True)
    assert "unet3d" in caught.value.message


@pytest.mark.parametrize("spatial_dims", [1, 4])
def test_scans_of_one_or_four_axes_have_no_network(spatial_dims):
    with pytest.raises(InvalidConfig, match=str(spatial_dims)):
        registry.build("tiny_unet", 1, 1, spatial_dims=spatial_dims)


@pytest.mark.parametrize("name", registry.NETWORKS)
def test_the_config_names_every_network_with_its_size(name):
    description = TrainConfig.model_fields["model"].description
    if registry.NETWORKS[name].parameters is None:
        assert f"`{name}`" in description
        return
    millions = registry.NETWORKS[name].parameters / 1e6
    assert f"`{name}` ({rounded(millions)} M" in description


@pytest.mark.parametrize("name", registry.NETWORKS)
def test_the_training_document_has_class_and_size_of_every_network(name):
    entry = registry.NETWORKS[name]
    flat, volumetric = (
        "–" if count is None else f"{rounded(count / 1e6)} M" for count in (entry.parameters, entry.parameters_3d)
    )
    row = f"| `{name}` | `{entry.class_name}` | {flat} | {volumetric} |"
    assert row in (Path(__file__).parents[2] / "docs" / "training.md").read_text("utf-8")


@pytest.mark.parametrize("name", [name for name, entry in registry.NETWORKS.items() if entry.deep_supervision])
def test_the_training_document_names_the_networks_with_deep_supervision(name):
    document = (Path(__file__).parents[2] / "docs" / "training.md").read_text("utf-8")
    assert f"`{name}`" in re.search(r"^Deep supervision \(([^)]*)\)", document, flags=re.MULTILINE)[1]


def rounded(millions):
    """Two figures below a million, one decimal above."""
    return f"{millions:.2f}" if millions < 1 else f"{millions:.1f}"
