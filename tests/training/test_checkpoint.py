from __future__ import annotations

import json
import pickle
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from octa_backend.errors import IncompatibleCheckpoint
from octa_backend.training import checkpoint
from octa_backend.training.checkpoint import Best, Checkpoints, Index, load_weights, save_weights
from octa_backend.training.events import EpochFinished

REPORT = EpochFinished(
    epoch=1,
    train_loss=0.5,
    loss_components={"bce": 0.4, "dice": 0.6},
    val_loss=0.45,
    val_dice=0.8,
    val_iou=0.7,
    val_precision=0.9,
    val_recall=0.75,
    lr=1e-3,
    seconds=1.5,
    scans_per_second=2.0,
    peak_memory_mb=100.0,
    gradient_norms={"encoder_conv1": 0.1},
    gradient_verdict="healthy",
)


def report(epoch, val_dice):
    return replace(REPORT, epoch=epoch, val_dice=val_dice)


def layer(value, cls=nn.Linear):
    made = cls(2, 2)
    nn.init.constant_(made.weight, value)
    nn.init.constant_(made.bias, value)
    return made


def state(steps):
    return {"optimizer": {"lr": 0.1}, "generator": torch.Generator().get_state(), "average_steps": steps}


def save(checkpoints, epoch, val_dice):
    """Weights are the epoch, averages the epoch and a half."""
    return checkpoints.save(report(epoch, val_dice), layer(epoch), layer(epoch + 0.5), state(epoch))


def names(checkpoints):
    return sorted(path.name for path in checkpoints.folder.iterdir())


@pytest.fixture
def checkpoints(tmp_path):
    return Checkpoints(tmp_path / "job" / "checkpoints")


def test_before_the_first_epoch_there_is_nothing(checkpoints):
    assert checkpoints.index is None


def test_what_was_saved_is_loaded(checkpoints):
    assert save(checkpoints, 1, 0.8) == Best(1, 0.8)
    network, average = layer(0), layer(0)
    loaded_state, loaded_report = checkpoints.load_last(network, average)
    assert torch.equal(network.weight, layer(1).weight)
    assert torch.equal(average.weight, layer(1.5).weight)
    assert loaded_report == REPORT
    assert (loaded_state["optimizer"], loaded_state["average_steps"]) == ({"lr": 0.1}, 1)
    assert torch.equal(loaded_state["generator"], torch.Generator().get_state())
    assert checkpoints.index == Index(1, Best(1, 0.8))


def test_another_process_sees_the_same(checkpoints):
    save(checkpoints, 1, 0.8)
    assert Checkpoints(checkpoints.folder).index == checkpoints.index


def test_best_epoch_stays_when_a_worse_or_equal_one_follows(checkpoints):
    save(checkpoints, 1, 0.8)
    assert save(checkpoints, 2, 0.7) == Best(1, 0.8)
    assert save(checkpoints, 3, 0.8) == Best(1, 0.8)
    assert checkpoints.index == Index(3, Best(1, 0.8))
    assert load_file(checkpoints.best_weights())["weight"].unique().item() == 1.5


def test_better_epoch_takes_the_place_of_the_best(checkpoints):
    save(checkpoints, 1, 0.8)
    assert save(checkpoints, 2, 0.9) == Best(2, 0.9)
    assert load_file(checkpoints.best_weights())["weight"].unique().item() == 2.5


def test_first_epoch_is_the_best_even_with_a_dice_of_0(checkpoints):
    assert save(checkpoints, 1, 0.0) == Best(1, 0.0)
    assert checkpoints.best_weights().exists()


def test_only_the_folders_that_the_index_names_stay(checkpoints):
    for epoch, val_dice in ((1, 0.5), (2, 0.9), (3, 0.1), (4, 0.2)):
        save(checkpoints, epoch, val_dice)
    assert names(checkpoints) == ["best-00002", "index.json", "last-00004"]
    assert sorted(path.name for path in (checkpoints.folder / "last-00004").iterdir()) == [
        "average.safetensors",
        "report.json",
        "state.pt",
        "weights.safetensors",
    ]


def test_the_latest_checkpoints_stay_as_asked(checkpoints):
    for epoch, val_dice in ((1, 0.9), (2, 0.5), (3, 0.1), (4, 0.2)):
        network = layer(epoch), layer(epoch)
        checkpoints.save(report(epoch, val_dice), *network, state(epoch), keep_last=2)
    assert names(checkpoints) == ["best-00001", "index.json", "last-00003", "last-00004"]
    save(checkpoints, 5, 0.1)
    assert names(checkpoints) == ["best-00001", "index.json", "last-00005"]


def test_epoch_without_state_is_kept_only_if_it_is_the_best(checkpoints):
    save(checkpoints, 1, 0.8)
    assert checkpoints.save(report(2, 0.9), layer(2), layer(2.5), None) == Best(2, 0.9)
    assert checkpoints.index == Index(1, Best(2, 0.9))
    assert checkpoints.save(report(3, 0.7), layer(3), layer(3.5), None) == Best(2, 0.9)
    assert names(checkpoints) == ["best-00002", "index.json", "last-00001"]
    network = layer(0)
    assert checkpoints.load_last(network, layer(0))[1].epoch == 1
    assert network.weight.unique().item() == 1


def test_best_epoch_may_be_kept_before_there_is_one_to_go_on_from(checkpoints):
    checkpoints.save(report(1, 0.8), layer(1), layer(1.5), None)
    assert checkpoints.index == Index(0, Best(1, 0.8))
    assert names(checkpoints) == ["best-00001", "index.json"]


def test_leftover_of_a_later_epoch_is_cleared_although_several_are_kept(checkpoints):
    save(checkpoints, 1, 0.8)
    (checkpoints.folder / "last-00009").mkdir()
    checkpoints.save(report(2, 0.7), layer(2), layer(2.5), state(2), keep_last=5)
    assert names(checkpoints) == ["best-00001", "index.json", "last-00001", "last-00002"]


def test_a_checkpoint_that_another_program_reads_is_cleared_after_a_later_epoch(checkpoints, monkeypatch):
    save(checkpoints, 1, 0.8)
    whole = checkpoint.remove

    def refuse(path):
        if path.name == "last-00001":
            raise PermissionError(path)
        whole(path)

    with monkeypatch.context() as patch:
        patch.setattr(checkpoint, "remove", refuse)
        save(checkpoints, 2, 0.7)
    assert checkpoints.index == Index(2, Best(1, 0.8))
    assert names(checkpoints) == ["best-00001", "index.json", "last-00001", "last-00002"]
    save(checkpoints, 3, 0.7)
    assert names(checkpoints) == ["best-00001", "index.json", "last-00003"]


class FailsAt(nn.Linear):
    """A network whose weights cannot be written the `call`-th time: the disk is full."""

    call = 1

    def state_dict(self, *args, **kwargs):
        self.call -= 1
        if self.call == 0:
            raise OSError("No space left on device")
        return super().state_dict(*args, **kwargs)


class Unwritable:
    """A state that cannot be written."""

    def __reduce__(self):
        raise OSError("No space left on device")


def interrupted_at(place):
    """Network, average and state of an epoch whose checkpoint fails at `place`."""
    network, average, rest = layer(2), layer(2.5), state(2)
    if place == "weights":
        network = layer(2, FailsAt)
    elif place == "average":
        average = layer(2.5, FailsAt)
    elif place == "state":
        rest["optimizer"] = Unwritable()
    else:
        average = layer(2.5, FailsAt)
        average.call = 2
    return network, average, rest


@pytest.mark.parametrize("place", ["weights", "average", "state", "best"])
def test_interrupted_save_leaves_the_earlier_checkpoint_usable(checkpoints, place):
    save(checkpoints, 1, 0.8)
    with pytest.raises(OSError, match="No space left"):
        checkpoints.save(report(2, 0.9), *interrupted_at(place))
    assert checkpoints.index == Index(1, Best(1, 0.8))
    network = layer(0)
    _, loaded = checkpoints.load_last(network, layer(0))
    assert (loaded.epoch, network.weight.unique().item()) == (1, 1)
    assert load_file(checkpoints.best_weights())["weight"].unique().item() == 1.5
    save(checkpoints, 2, 0.9)
    assert names(checkpoints) == ["best-00002", "index.json", "last-00002"]
    checkpoints.load_last(network, layer(0))
    assert network.weight.unique().item() == 2


def test_leftovers_of_a_killed_save_are_cleared_by_the_next(checkpoints):
    save(checkpoints, 1, 0.8)
    (checkpoints.folder / "last-00002").mkdir()
    (checkpoints.folder / ".best-00002.abc.part").mkdir()
    (checkpoints.folder / ".index.json.abc.part").write_text("{")
    save(checkpoints, 2, 0.9)
    assert names(checkpoints) == ["best-00002", "index.json", "last-00002"]


def test_weights_are_safetensors(checkpoints):
    save(checkpoints, 1, 0.8)
    assert set(load_file(checkpoints.best_weights())) == {"weight", "bias"}
    assert set(load_file(checkpoints.folder / "last-00001" / "weights.safetensors")) == {"weight", "bias"}


def test_state_that_wants_to_run_code_is_refused(checkpoints, tmp_path):
    save(checkpoints, 1, 0.8)

    class Evil:
        def __reduce__(self):
            return exec, (f"open({str(tmp_path / 'ran')!r}, 'w').close()",)

    torch.save({"optimizer": Evil()}, checkpoints.folder / "last-00001" / "state.pt")
    with pytest.raises(pickle.UnpicklingError):
        checkpoints.load_last(layer(0), layer(0))
    assert not (tmp_path / "ran").exists()


def test_report_beside_the_weights_can_be_read_by_people(checkpoints):
    save(checkpoints, 1, 0.8)
    content = json.loads((checkpoints.folder / "best-00001" / "report.json").read_text())
    assert (content["epoch"], content["val_dice"]) == (1, 0.8)


@pytest.mark.parametrize("other", [nn.Linear(2, 3), nn.Linear(2, 2, bias=False), nn.Conv2d(2, 2, 1)])
def test_weights_of_another_network_are_refused(tmp_path, other):
    save_weights(layer(1), tmp_path / "weights.safetensors")
    with pytest.raises(IncompatibleCheckpoint, match=r"weights\.safetensors does not fit"):
        load_weights(other, tmp_path / "weights.safetensors")


def test_weights_keep_every_bit_whatever_their_memory_layout(tmp_path):
    conv = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)).to(memory_format=torch.channels_last)
    save_weights(conv, tmp_path / "w.safetensors")
    loaded = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))
    load_weights(loaded, tmp_path / "w.safetensors")
    for (name, expected), found in zip(conv.state_dict().items(), loaded.state_dict().values(), strict=True):
        assert torch.equal(found, expected), name
