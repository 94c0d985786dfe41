"""What `accuracy.py` trains, and what its tables say."""

from __future__ import annotations

from argparse import Namespace

import pytest
from accuracy import curves, jobs, measure, runs_table, seconds_to, targets_table
from training_runs import SYNTHETIC

from octa_backend.models.registry import NETWORKS
from tests.benchmarks.records import cells, history, trained
from tests.tiny import one_thread

ABOUT = {"data": "rossa.zip", "sha256": "ab", "hold_out": 0}


def asked(**options):
    usual = {"seeds": [], "plain_seeds": [], "networks": [], "epochs": 4, "network_epochs": 2}
    return jobs(Namespace(**{**usual, "set": [], "plain_minutes": 60.0, **options}), ABOUT)


def test_each_seed_is_trained_and_the_plain_recipe_right_after_it() -> None:
    wanted = asked(seeds=[1, 2], plain_seeds=[1], set=["model=unet"])
    assert [(job["way"], job["config"]["seed"]) for job in wanted] == [("ours", 1), ("plain", 1), ("ours", 2)]
    assert all(job["data"] == "rossa.zip" and job["config"]["epochs"] == 4 for job in wanted)
    assert wanted[1]["config"]["model"] == "unet"
    assert wanted[1]["minutes"] == 60.0


def test_all_networks_are_trained_for_their_own_number_of_epochs() -> None:
    wanted = asked(networks=["all"])
    assert [job["config"]["model"] for job in wanted] == [name for name in NETWORKS if name != "unet3d"]
    assert {job["config"]["epochs"] for job in wanted} == {2}


def test_set_changes_the_configuration_and_the_plain_recipe_takes_what_it_knows() -> None:
    ours, plain = asked(seeds=[1], plain_seeds=[1], set=["val_fraction=0.3", "patch_size=64", "model=unet"])
    assert ours["config"]["patch_size"] == 64
    assert plain["config"] == {"model": "unet", "epochs": 4, "seed": 1, "val_fraction": 0.3}


@pytest.mark.parametrize("word", ["patch_size", "patches=64", "patch_size=1"])
def test_a_wrong_setting_is_refused_before_anything_is_trained(word) -> None:
    with pytest.raises(SystemExit, match="patch"):
        asked(seeds=[1], set=[word])


def test_the_seconds_to_a_target_are_those_of_the_first_epoch_that_reaches_it() -> None:
    epochs = history((10.0, 0.5), (20.0, 0.85), (30.0, 0.8))
    assert seconds_to(epochs, 0.8) == 20.0
    assert seconds_to(epochs, 0.85) == 20.0
    assert seconds_to(epochs, 0.9) is None


def test_a_row_sums_up_the_seeds_of_one_configuration() -> None:
    shown = runs_table([trained(seed=1, dice=0.8), trained(seed=2, dice=0.9), trained(model="dynunet")])
    first = cells(shown, 0)
    assert (first["Seeds"], first["Test Dice"], first["between scans"]) == ("1 2", "0.8500 ± 0.0500", "± 0.030")
    assert (first["Parameters"], first["Minutes"], first["Options"]) == ("8.46 M", "3.0", "–")
    assert cells(shown, 1)["Network"] == "`dynunet`"


def test_a_row_without_test_scans_says_so_and_names_its_options() -> None:
    run = trained(patch_size=64)
    run.found["test"] = None
    row = cells(runs_table([run]), 0)
    assert (row["Test Dice"], row["between scans"], row["Options"]) == ("–", "–", "patch_size=64")


def test_the_processor_seconds_to_a_target_are_those_of_the_same_epoch() -> None:
    epochs = history((10.0, 0.5, 15.0), (20.0, 0.85, 30.0))
    assert seconds_to(epochs, 0.8, "processor_seconds") == 30.0
    assert seconds_to(history((10.0, 0.85)), 0.8, "processor_seconds") is None


def test_the_ratio_is_of_the_seconds_to_a_target_or_a_lower_bound_of_it() -> None:
    plain = trained("plain", epochs=((600.0, 0.6), (1200.0, 0.81), (1800.0, 0.84)))
    shown = targets_table([trained(), plain])
    assert list(cells(shown, 0).values())[4:8] == ["0.80", "120", "1200", "10.0"]
    assert list(cells(shown, 1).values())[4:8] == ["0.85", "180", "not reached within 30.0 min", "> 10.0"]


def test_the_ratio_is_told_in_processor_seconds_too() -> None:
    ours = trained(epochs=((60.0, 0.7, 100.0), (120.0, 0.9, 200.0)))
    plain = trained("plain", epochs=((600.0, 0.6, 300.0), (1200.0, 0.81, 600.0)))
    shown = targets_table([ours, plain])
    assert list(cells(shown, 0).values())[8:] == ["200", "600", "3.0"]
    assert list(cells(shown, 1).values())[8:] == ["200", "not reached within 10.0 min", "> 3.0"]


def test_records_without_processor_seconds_are_shown_without_them() -> None:
    known = ((60.0, 0.9, 100.0),)
    assert list(cells(targets_table([trained(), trained("plain")]), 0).values())[8:] == ["–", "–", "–"]
    one_sided = targets_table([trained(epochs=known), trained("plain")])
    assert list(cells(one_sided, 0).values())[8:] == ["100", "–", "–"]
    other_sided = targets_table([trained(), trained("plain", epochs=known)])
    assert list(cells(other_sided, 0).values())[8:] == ["–", "100", "–"]


def test_what_ours_does_not_reach_has_no_ratio() -> None:
    shown = targets_table([trained(epochs=((60.0, 0.5),)), trained("plain")])
    assert list(cells(shown, 0).values())[5:8] == ["–", "120", "–"]


@pytest.mark.parametrize("other", [{"seed": 43}, {"model": "dynunet"}, {"val_fraction": 0.3}])
def test_only_runs_of_the_same_seed_network_and_division_are_compared(other) -> None:
    assert targets_table([trained(), trained("plain", **other)]).count("\n") == 1


def test_curves_have_a_row_for_each_epoch() -> None:
    shown = curves([trained(), trained("plain", epochs=((600.0, 0.61, 1100.0),))])
    assert shown.count("\n") == 5
    assert list(cells(shown, 3).values())[-4:] == ["1", "600.0", "1100.0", "0.6100"]
    assert cells(shown, 0)["Processor, s"] == "–"


@pytest.mark.parametrize("way", ["ours", "plain"])
def test_a_training_notes_its_processor_seconds(tmp_path, way) -> None:
    options = ["model=tiny_unet", "patch_size=32", "start_checks=false", "tensorboard=false"]
    [job] = [job for job in asked(seeds=[1], plain_seeds=[1], epochs=2, set=options) if job["way"] == way]
    with one_thread():
        order = {"job": {**job, "data": SYNTHETIC}, "data": SYNTHETIC, "device": "cpu", "folder": str(tmp_path)}
        epochs = measure(order)["history"]
    assert 0 < epochs[0]["processor_seconds"] < epochs[1]["processor_seconds"]
    assert epochs[1]["training_seconds"] > 0
