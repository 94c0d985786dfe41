"""What `train_step.py` measures, and what its table says."""

from __future__ import annotations

from argparse import Namespace

import pytest
from train_step import WARM_UP_STEPS, StepClock, jobs, step_table

from octa_backend.models.registry import NETWORKS
from octa_backend.training.events import StepFinished
from tests.benchmarks.records import cells, record

SHAPE = {"size": 64, "batch_size": 4, "steps": 3}
STEP = StepFinished(epoch=1, step=1, steps=1, loss=0.5, loss_components={}, lr=0.1, gradient_norms={})


def measured(way, rate, share=0.1, turn=1, network="unet", **job):
    found = {"scans_per_second": rate, "peak_mib": 500.0 if way == "ours" else 400.0}
    if way == "ours":
        found |= {"data_share": share, "precision": "bf16"}
        job = {"precision": "auto", **job}
    return record({"way": way, "network": network, **SHAPE, "round": turn, **job}, found)


def test_the_plain_step_is_measured_in_every_round_beside_each_precision() -> None:
    asked = Namespace(networks=["unet"], precisions=["fp32", "bf16"], rounds=2, **SHAPE)
    wanted = [(job["round"], job["way"], job.get("precision")) for job in jobs(asked)]
    one_round = [("plain", None), ("ours", "fp32"), ("ours", "bf16")]
    assert wanted == [(turn, *way) for turn in (1, 2) for way in one_round]


def test_all_networks_can_be_asked_for() -> None:
    asked = Namespace(networks=["all"], precisions=["auto"], rounds=1, **SHAPE)
    assert {job["network"] for job in jobs(asked)} == set(NETWORKS) - {"unet3d"}


def test_the_time_before_a_batch_is_there_is_the_share_of_data() -> None:
    times = iter([0.0, *(first + later for first in (0, 100, 200, 210) for later in (1.0, 10.0)), 211.0])
    clock = StepClock("cpu", steps=WARM_UP_STEPS + 2, now=lambda: next(times))
    for _ in range(WARM_UP_STEPS + 2):
        assert not clock.should_stop()
        clock.emit("another event")
        clock.emit(STEP)
    assert clock.should_stop()
    assert clock.seconds() == [100.0, 10.0]
    assert clock.data_share() == pytest.approx((91.0 + 1.0) / 110.0)


def test_a_row_has_medians_of_both_ways_and_their_ratio() -> None:
    records = [measured("plain", 1.0), measured("plain", 3.0, turn=2), measured("plain", 9.0, network="dynunet")]
    records += [measured("ours", 5.0), measured("ours", 7.0, share=0.2, turn=2)]
    assert cells(step_table(records), 0) == {
        "Network": "`unet`",
        "Batch": "4 of 64×64",
        "Precision": "bf16 (auto)",
        "Plain, scans/s": "2.000",
        "Ours, scans/s": "6.000",
        "Ratio": "3.00",
        "Data and augmentation": "15.0%",
        "Plain peak, MiB": "400",
        "Our peak, MiB": "500",
    }


def test_precisions_have_rows_of_their_own() -> None:
    shown = step_table([measured("plain", 1.0), measured("ours", 5.0), measured("ours", 2.0, precision="fp32")])
    assert shown.count("\n") == 3
