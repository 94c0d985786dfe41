from __future__ import annotations

import json
import re
from itertools import pairwise

import pytest
import torch
from pydantic import ValidationError

from octa_backend.errors import InvalidConfig
from octa_backend.service.train_service import read_config
from octa_backend.training.augmentation_options import NONE, PRESETS, STANDARD, Augmentation, resolve
from octa_backend.training.config import TrainConfig
from tests.training.augmented import augment

# --- presets and overrides ------------------------------------------------------------------------------------------


def probabilities(options):
    return {name: value for name, value in options.model_dump().items() if name.endswith("_probability")}


def test_none_does_nothing_and_standard_is_the_default():
    assert set(probabilities(PRESETS["none"]).values()) == {0}
    assert TrainConfig().augmentation_options == STANDARD


def test_each_preset_does_at_least_what_the_one_before_it_does():
    for weaker, stronger in pairwise(("none", "light", "standard", "strong")):
        before, after = probabilities(PRESETS[weaker]), probabilities(PRESETS[stronger])
        assert all(after[name] >= before[name] for name in before)
        assert after != before


def test_light_moves_whole_pixels_only():
    moves = ("rotation", "scale", "translation", "elastic", "motion", "blur")
    assert all(getattr(PRESETS["light"], f"{move}_probability") == 0 for move in moves)


@pytest.mark.parametrize("preset", PRESETS)
def test_every_preset_is_within_its_own_ranges(preset):
    assert Augmentation.model_validate(PRESETS[preset].model_dump()) == PRESETS[preset]


def test_override_replaces_one_number_and_leaves_the_rest():
    found = resolve("standard", {"rotation_degrees": 30, "gamma_probability": 1})
    assert found == STANDARD.model_copy(update={"rotation_degrees": 30, "gamma_probability": 1})
    assert resolve("strong", None) == PRESETS["strong"]


def test_none_with_overrides_does_what_they_say_and_nothing_else():
    found = probabilities(resolve("none", {"noise_probability": 0.5}))
    assert found.pop("noise_probability") == 0.5
    assert set(found.values()) == {0}


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"gama_max": 2}, "did you mean gamma_max"),
        ({"zoom": 2}, "there are flip_x_probability"),
        ({"gamma_max": 2}, "gamma_max has no effect: gamma_probability is 0 with augmentation=standard; give it too"),
        ({"scale_min": 1.2}, "scale_min=1.2 is above scale_max=1.1"),
        ({"noise_probability": 1.5}, "noise_probability: Input should be less than or equal to 1"),
        ({"rotation_degrees": 0}, "rotation_degrees: Input should be greater than 0"),
        ({"motion_probability": 1, "motion_lines": 1.5}, "motion_lines: "),
        ({"elastic_probability": 1, "elastic_shift": 20}, "with elastic_spacing=48 it is at most 19.2"),
    ],
)
def test_override_that_cannot_be_meant_is_refused_in_words(overrides, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        resolve("standard", overrides)


# --- as a field of the configuration --------------------------------------------------------------------------------

WANTED = {"gamma_probability": 0.3, "gamma_max": 2.0}


@pytest.mark.parametrize(
    "given",
    ["gamma_probability=0.3,gamma_max=2", " gamma_probability = 0.3, gamma_max = 2, ", json.dumps(WANTED), WANTED],
)
def test_overrides_come_as_an_object_or_as_text(given):
    assert read_config({"augmentation_overrides": given}).augmentation_overrides == WANTED


@pytest.mark.parametrize("given", [None, {}, ""])
def test_no_overrides_are_no_change(given):
    assert read_config({"augmentation_overrides": given}).augmentation_options == STANDARD


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("gamma_max=2", "gamma_probability is 0"),
        ("gamma_probability", "'gamma_probability' has no value; write name=number"),
        ("gamma_probability=often", "gamma_probability is 'often', not a number"),
        ("{gamma", "not JSON"),
        (3, "valid dictionary"),
        ({"gamma_probability": [1]}, "valid number"),
        ({"gamma_probability": "nan"}, "finite"),
    ],
)
def test_overrides_that_make_no_sense_are_refused_with_their_field(given, message):
    with pytest.raises(InvalidConfig) as caught:
        read_config({"augmentation_overrides": given})
    assert caught.value.message.startswith("augmentation_overrides=")
    assert message in caught.value.message


def test_overrides_are_not_judged_by_a_preset_that_does_not_exist():
    with pytest.raises(ValidationError) as caught:
        TrainConfig.model_validate({"augmentation": "heavy", "augmentation_overrides": {"gamma_max": 2}})
    assert [error["loc"] for error in caught.value.errors()] == [("augmentation",)]


def test_overrides_survive_the_way_through_json():
    config = TrainConfig(augmentation="strong", augmentation_overrides={"noise_max": 0.01, "motion_lines": 2})
    assert TrainConfig.model_validate_json(config.model_dump_json()) == config
    assert config.augmentation_options.motion_lines == 2


def test_schema_lists_every_number_with_its_range_and_meaning():
    shown = TrainConfig.model_json_schema()["properties"]["augmentation_overrides"]["anyOf"][0]
    assert list(shown["properties"]) == list(Augmentation.model_fields)
    assert shown["properties"]["gamma_max"] | {"title": ""} == {
        "title": "",
        "description": "Largest gamma, 0.1 to 10.",
        "type": "number",
        "minimum": 0.1,
        "maximum": 10,
    }
    assert all(schema["description"] for schema in shown["properties"].values())
    assert shown["additionalProperties"] is False


# --- every number does something ------------------------------------------------------------------------------------

OTHER = {
    "rotation_degrees": 90,
    "scale_min": 0.5,
    "scale_max": 2,
    "translation_fraction": 0.4,
    "elastic_spacing": 24,
    "elastic_shift": 2,
    "contrast_min": 0.1,
    "contrast_max": 3,
    "brightness_shift": 0.5,
    "gamma_min": 0.2,
    "gamma_max": 3,
    "noise_max": 0.5,
    "blur_min": 0.9,
    "blur_max": 3,
    "motion_lines": 30,
    "motion_shift": 9,
    "motion_brightness": 1,
    "shadow_count": 9,
    "shadow_depth": 0.2,
    "shadow_radius": 0.8,
    "saturation_gain": 4,
}


def augmented(options):
    generator = torch.Generator().manual_seed(3)
    image = torch.rand(4, 1, 12, 16, 16, generator=generator)
    return augment(image, (image[:, 0] > 0.5).long(), generator, options)[0]


def test_every_number_is_looked_at():
    assert set(OTHER) == {name for name in Augmentation.model_fields if not name.endswith("_probability")}


@pytest.mark.parametrize("name", Augmentation.model_fields)
def test_number_changes_the_scans(name):
    if name in OTHER:
        base = NONE.model_copy(update={f"{name.partition('_')[0]}_probability": 1.0})
        other = base.model_copy(update={name: OTHER[name]})
    else:
        base, other = NONE, NONE.model_copy(update={name: 1.0})
    assert not torch.equal(augmented(base), augmented(other))


@pytest.mark.parametrize("name", probabilities(NONE))
def test_probability_is_the_share_of_scans(name):
    count = 600
    image = torch.rand(count, 1, 4, 4, 4)
    mask = torch.zeros(count, 4, 4, 4, dtype=torch.int64)
    options = NONE.model_copy(update={name: 0.3, "motion_lines": 20, "motion_brightness": 1.0})
    found, _ = augment(image, mask, torch.Generator().manual_seed(0), options)
    share = ((found - image).abs().amax((1, 2, 3, 4)) > 1e-4).float().mean()
    expected = 0.3 * 3 / 4 if name.startswith("turn") else 0.3  # a quarter of the turns is by 0 degrees
    assert share == pytest.approx(expected, abs=0.06)  # three standard deviations of 600 draws


def test_what_is_switched_off_draws_nothing():
    image, mask = torch.rand(2, 1, 16, 16), torch.zeros(2, 16, 16, dtype=torch.int64)
    generator = torch.Generator().manual_seed(0)
    before = generator.get_state()
    augment(image, mask, generator, NONE)
    assert torch.equal(generator.get_state(), before)
