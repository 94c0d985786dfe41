"""What `losses.py` trains, and what its table says."""

from __future__ import annotations

from argparse import Namespace

from losses import jobs, loss_tables, usual_losses

from tests.benchmarks.records import cells, record

BUDGET = {"model": "tiny_unet", "epochs": 2, "patch_size": 64}


def scored(loss, dice, seed=42, hd95=3.0, left_out=0, **config):
    scores = {"dice": dice, "cldice": 0.7, "precision": 0.8, "recall": 0.9, "hd95": hd95}
    undefined = {**dict.fromkeys(scores, 0), "hd95": left_out}
    found = {"scores": scores, "undefined": undefined, "scans": 15, "seconds_per_epoch": 2.0}
    return record({"data": "rossa.zip", "config": {**BUDGET, "loss": loss, "seed": seed, **config}}, found)


def test_losses_that_binary_masks_turn_into_others_are_left_out() -> None:
    assert {"dice_bce", "bce", "cldice", "boundary", "unet_weight_map"} <= set(usual_losses())
    assert not {"dice_ce", "ce"} & set(usual_losses())


def test_every_loss_gets_the_same_budget_seed_by_seed() -> None:
    asked = Namespace(losses=["dice_bce", "cldice"], seeds=[1, 2], set=["lr=0.01"], **BUDGET)
    configs = [job["config"] for job in jobs(asked, {"data": "rossa.zip"})]
    assert [(c["loss"], c["seed"]) for c in configs] == [
        ("dice_bce", 1),
        ("cldice", 1),
        ("dice_bce", 2),
        ("cldice", 2),
    ]
    assert all({**BUDGET, "lr": 0.01}.items() <= config.items() for config in configs)


def test_losses_are_ranked_by_dice_and_summed_up_over_seeds() -> None:
    shown = loss_tables([scored("bce", 0.5), scored("dice", 0.6), scored("dice", 0.8, seed=43)])
    assert cells(shown, 0) == {
        "Loss": "`dice`",
        "Seeds": "42 43",
        "Dice": "0.7000 ± 0.1000",
        "clDice": "0.7000 ± 0.0000",
        "Precision": "0.8000 ± 0.0000",
        "Recall": "0.9000 ± 0.0000",
        "HD95, px": "3.00 ± 0.00",
        "s per epoch": "2.0",
    }
    assert cells(shown, 1)["Loss"] == "`bce`"


def test_a_loss_that_diverged_stands_last_and_scans_without_a_distance_are_counted() -> None:
    diverged = record(scored("focal", 0).job, {"diverged": "it became NaN"})
    shown = loss_tables([diverged, scored("bce", 0.1, left_out=4), scored("tversky", 0.05, hd95=None, left_out=15)])
    assert cells(shown, 0)["HD95, px"] == "3.00 (4 of 15 scans undefined)"
    assert cells(shown, 1)["HD95, px"] == "– (15 of 15 scans undefined)"
    assert list(cells(shown, 2).values()) == ["`focal`", "42 (diverged)", *["–"] * 6]


def test_budgets_have_tables_of_their_own() -> None:
    assert loss_tables([scored("bce", 0.5), scored("bce", 0.6, epochs=9)]).count("| Loss |") == 2
