from __future__ import annotations

import numpy as np
import pytest
import torch

from octa_backend.data.store import Manifest, ScanEntry
from octa_backend.diagnosis.findings import Finding, Remedy, Severity
from octa_backend.errors import InvalidConfig
from octa_backend.models import registry
from octa_backend.training.config import TrainConfig
from octa_backend.training.healing import remedy_taken, treated
from octa_backend.training.network import build_network
from octa_backend.training.network_plan import fitting, network_shape, topology
from octa_backend.training.plan import Plan, make_plan
from octa_backend.training.precision import Hardware
from octa_backend.training.volume_options import region_classes
from octa_backend.training.volume_plan import sample_within

SLOW = Hardware("cpu", bf16_speedup=0.4, channels_last=False)
GPU = Hardware("cuda:0", bf16_speedup=2.0, channels_last=True)


def plan(*shapes, spacing=(), hardware=SLOW, values=(0, 1), **options):
    entries = tuple(ScanEntry(f"s{i}", None, None, shape, "uint8", 0, 0, spacing) for i, shape in enumerate(shapes))
    manifest = Manifest(len(shapes[0]), 1, len(values), values, 0.1, entries)
    return make_plan(TrainConfig(**options), manifest, hardware)


def why(made, field):
    (reason,) = [one.reason for one in made.reasons if one.field == field]
    return reason


# --- the layout of the network --------------------------------------------------------------------------------------


def test_axes_of_equal_voxels_are_halved_together_down_to_four_to_eight():
    kernels, strides = topology((64, 64, 64), (1, 1, 1))
    assert strides == ((1, 1, 1), *[(2, 2, 2)] * 4)
    assert kernels == ((3, 3, 3),) * 5


def test_a_coarse_axis_waits_with_flat_kernels_until_the_others_have_caught_up():
    kernels, strides = topology((16, 64, 64), (4, 1, 1))
    assert strides[:4] == ((1, 1, 1), (1, 2, 2), (1, 2, 2), (2, 2, 2))
    assert kernels[:3] == ((1, 3, 3), (1, 3, 3), (3, 3, 3))


def test_an_axis_that_is_short_stops_before_the_others():
    _, strides = topology((12, 64, 64), (1, 1, 1))
    assert strides == ((1, 1, 1), (2, 2, 2), (1, 2, 2), (1, 2, 2), (1, 2, 2))


def test_sides_are_rounded_up_to_what_the_network_halves():
    assert fitting((34, 52, 35), ()) == (40, 56, 40)
    assert fitting((72, 72, 72), ()) == (80, 80, 80)


def test_the_plan_records_the_layout_and_reads_it_back():
    made = plan((40, 64, 64), spacing=(3.0, 1.0, 1.0))
    assert made.network_shape.kernels[0] == (1, 3, 3)
    assert made.network_shape.filters[0] == 16
    assert "levels" in why(made, "network_shape")
    assert Plan.model_validate(made.model_dump(mode="json")) == made
    assert plan((40, 64, 64), hardware=GPU).network_shape.filters[0] == 32


def test_networks_that_do_not_follow_voxels_and_pictures_have_no_layout():
    assert plan((40, 64, 64), model="segresnet").network_shape is None
    assert plan((64, 64)).network_shape is None


def test_a_plan_of_an_earlier_version_is_read_without_layout_and_regions():
    stored = plan((64, 64)).model_dump(mode="json")
    for name in ("network_shape", "mask_values"):
        del stored[name]
    for name in ("residual", "activation_checkpointing", "target_shape", "regions"):
        del stored["config"][name]
    read = Plan.model_validate(stored)
    assert (read.network_shape, dict(read.regions), read.config.residual) == (None, {}, True)


# --- the shape of a sample ------------------------------------------------------------------------------------------


def test_a_median_scan_that_fits_is_trained_whole():
    made = plan((34, 52, 35), (30, 50, 30), (43, 59, 47))
    assert made.patch_shape == made.config.target_shape == (40, 56, 40)
    assert "34x52x35" in why(made, "target_shape")


def test_a_sample_is_as_long_along_every_axis_in_mm_as_the_scan_allows():
    depth, height, width = sample_within((100, 400, 400), (5.0, 1.0, 1.0), 64**3)
    assert height == width
    assert depth * 5 == pytest.approx(height, rel=0.25)
    assert sample_within((8, 400, 400), (1.0, 1.0, 1.0), 64**3)[0] == 8


def test_a_sample_shrinks_where_memory_is_short_and_activations_are_computed_twice_first():
    named = {"model": "unet_transformer", "batch_size": 2}
    scans = (128, 128, 128)
    enough = plan(scans, hardware=SLOW, **named)
    assert enough.config.activation_checkpointing == "off"
    needed = enough.with_estimate().estimate.memory_mib
    short = plan(scans, hardware=Hardware("cpu", 0.4, False, needed), **named)
    assert short.patch_shape == enough.patch_shape
    assert short.config.activation_checkpointing == "on"
    assert short.with_estimate().estimate.memory_mib < 0.8 * needed
    shorter = plan(scans, hardware=Hardware("cpu", 0.4, False, 0.4 * needed), **named)
    assert max(shorter.patch_shape) < max(enough.patch_shape)
    assert "memory" in why(shorter, "target_shape")


@pytest.mark.parametrize("text", ["96,96,96", "[96, 96, 96]", (96, 96, 96)])
def test_a_shape_that_was_asked_for_is_taken_up_to_the_largest_scan(text):
    assert plan((128, 128, 128), target_shape=text).patch_shape == (96, 96, 96)
    small = plan((30, 100, 100), target_shape=text)
    assert small.patch_shape == (32, 96, 96)
    assert "largest scan" in why(small, "target_shape")


@pytest.mark.parametrize("shape", [(3, 512, 512), (1, 1024, 1024), (8, 512, 512)])
def test_samples_of_thin_volumes_have_the_voxels_that_the_plan_says(shape):
    made = plan(shape)
    assert made.patch_shape[0] == 8
    assert np.prod(made.patch_shape) <= 1.2 * 64**3  # sides are rounded up to what the network halves
    assert "of at most 262144 voxels" in why(made, "target_shape")


def test_the_patch_size_of_volumes_is_said_to_follow_the_shape():
    assert why(plan((40, 50, 60), patch_size=128), "patch_size") == "the longest side of target_shape, which counts"


def test_a_cube_of_the_patch_size_is_no_thicker_than_the_thickest_scan():
    made = plan((5, 64, 64), patch_size=64)
    assert made.patch_shape == plan((5, 64, 64), target_shape="64,64,64").patch_shape == (8, 64, 64)
    assert "a cube of patch_size within the largest scan" in why(made, "target_shape")
    assert plan((40, 64, 64), patch_size=32).patch_shape == (32, 32, 32)


@pytest.mark.parametrize(
    ("scans", "options", "epochs", "bound"),
    [
        (50, {}, 60, ""),
        (4, {}, 200, ", at most 200 epochs"),
        (400, {}, 10, ", at least 10 epochs"),
        (400, {"warmup_epochs": 8}, 16, ", but at least twice warmup_epochs=8"),
    ],
)
def test_the_epochs_of_volumes_on_a_cpu_name_the_bound_that_they_meet(scans, options, epochs, bound):
    made = plan(*[(16, 16, 16)] * scans, **options)
    assert made.epochs == epochs
    assert f"as many epochs as make 1250 steps{bound}, as" in why(made, "epochs")


def test_a_shape_for_pictures_is_refused():
    with pytest.raises(InvalidConfig, match=r"96,96,96 is for volumes.*patch_size"):
        plan((64, 64), target_shape=(96, 96, 96))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"target_shape": "96,96"}, "target_shape"),
        ({"target_shape": "4,96,96"}, "greater than or equal to 8"),
        ({"target_shape": "96,96,96", "patch_size": 64}, "contradict"),
        ({"regions": "lungs"}, "no preset"),
        ({"regions": {"WT": []}}, "at least 1"),
        ({"regions": {"WT": [0]}}, "greater than or equal to 1"),
        ({"activation_checkpointing": "on", "model": "tiny_unet"}, "computed twice"),
    ],
)
def test_a_value_that_makes_no_sense_is_refused(options, words):
    with pytest.raises(ValueError, match=words):
        TrainConfig(**options)


def test_a_network_for_pictures_is_refused_for_volumes_and_the_other_way_round():
    with pytest.raises(InvalidConfig, match="for volumes choose one of"):
        plan((32, 32, 32), model="unet")
    with pytest.raises(InvalidConfig, match="for volumes alone"):
        plan((32, 32), model="unet3d")


def test_options_of_the_network_reach_it():
    volume = (16, 16, 16)
    names, plain = (set(build_network(plan(volume, residual=wanted)).state_dict()) for wanted in (True, False))
    assert names - plain
    assert build_network(plan(volume, activation_checkpointing="on")).recomputes
    assert not build_network(plan(volume, activation_checkpointing="off")).recomputes


# --- what else is for volumes ---------------------------------------------------------------------------------------


def test_artefacts_of_octa_scans_are_left_out_of_volumes_unless_asked_for():
    made = plan((32, 32, 32), augmentation="strong")
    options = made.config.augmentation_options
    assert (options.motion_probability, options.shadow_probability, options.saturation_probability) == (0, 0, 0)
    assert options.gamma_probability == 0.3
    assert "OCTA" in why(made, "augmentation_overrides")
    asked = plan((32, 32, 32), augmentation="strong", augmentation_overrides={"motion_lines": 2})
    assert asked.config.augmentation_options.motion_probability == 0.2
    assert plan((32, 32), augmentation="strong").config.augmentation_overrides is None


def test_residual_is_named_where_it_has_no_effect():
    assert "no effect on model=unet" in why(plan((64, 64), residual=False), "residual")
    assert not [one for one in plan((32, 32, 32), residual=False).reasons if one.field == "residual"]


def test_the_plan_of_small_volumes_can_be_read_again():
    made = plan((16, 24, 20))
    assert max(made.patch_shape) < 32
    assert Plan.model_validate(made.model_dump(mode="json")) == made


def test_regions_are_unions_of_the_masks_values():
    made = plan((32, 32, 32), values=(0, 1, 2, 4), regions="brats")
    assert made.regions == {"WT": (1, 2, 3), "TC": (1, 3), "ET": (3,)}
    assert "softmax" in why(made, "regions")
    named = plan((32, 32, 32), values=(0, 1, 2), regions='{"both": [1, 2]}')
    assert named.regions == {"both": (1, 2)}
    assert made.with_config(made.config.model_copy(update={"regions": {"TC": (1, 4)}})).regions == {"TC": (1, 3)}
    for faulty in (lambda: plan((32, 32, 32), values=(0, 1, 2, 3), regions="brats"), lambda: without_4(made)):
        with pytest.raises(InvalidConfig, match=r"has the value [45], but the masks have 1, 2, [34]"):
            faulty()


def without_4(made):
    return made.with_config(made.config.model_copy(update={"regions": {"TC": (1, 5)}}))


def test_a_region_counts_each_of_its_classes_once():
    assert region_classes({"a": (4, 1, 4)}, (0, 1, 4)) == {"a": (1, 2)}


# --- a run that goes on ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("options", [{"patch_size": 50}, {"target_shape": (20, 50, 50)}, {}])
def test_plan_of_a_run_that_goes_on_keeps_its_sample(options):
    made = plan((64, 80, 80), **options)
    again = made.with_config(TrainConfig(**options))
    assert (again.config.patch_size, again.config.target_shape) == (made.config.patch_size, made.config.target_shape)
    assert Plan.model_validate(again.model_dump(mode="json")) == again


def test_artefacts_stay_left_out_when_a_run_goes_on():
    made = plan((64, 64, 64), augmentation="strong")
    assert made.config.augmentation_overrides
    again = made.with_config(TrainConfig(augmentation="strong"))
    assert again.config == made.config
    assert again.reasons == made.reasons


def test_artefacts_stay_left_out_when_a_remedy_augments_more():
    made = plan((64, 64, 64), augmentation="standard", epochs=4, batch_size=1, lr=0.001)
    stronger = Remedy("augment_more", {"augmentation": "strong", "augmentation_overrides": None}, from_checkpoint=False)
    taken = remedy_taken(made, Finding("overfitting", Severity.WARNING, {}, remedy=stronger), 1)
    options = treated(made, [taken]).config.augmentation_options
    assert (options.motion_probability, options.shadow_probability, options.saturation_probability) == (0, 0, 0)
    assert options.flip_x_probability > 0


@pytest.mark.parametrize("network", ["unet3d", "dynunet", "unet_transformer"])
@pytest.mark.parametrize("shape", [(8, 8, 8), (12, 14, 14), (3, 8, 40)])
def test_network_of_a_small_sample_has_three_levels_all_the_same(network, shape):
    made = network_shape(network, shape, (), small=True)
    assert len(made.filters) >= 3
    logits = registry.build(network, 1, 2, 3, shape=made)(torch.rand(2, 1, *shape))
    assert logits.shape == (2, 2, *shape)
