from __future__ import annotations

import io

import numpy as np
import pytest
import torch
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.summary.writer import event_file_writer

from octa_backend.data.splits import Splits
from octa_backend.inference.pictures import TILE
from octa_backend.service.experiment import Experiment
from octa_backend.service.tensorboard_sink import tensorboard
from octa_backend.training.checkpoint import Checkpoints
from octa_backend.training.events import GRADIENT_GROUPS
from octa_backend.training.trainer import fit
from tests.tiny import Pointwise, a_plan, one_thread, synthetic_pairs, tiny_networks, training_data, write_store
from tests.training.runs import Stopper, epochs, steps


@pytest.fixture(scope="module", autouse=True)
def _tiny():
    with tiny_networks(), one_thread():
        yield


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Four scans to train on, that is two steps an epoch, and one to validate."""
    return training_data(write_store(tmp_path_factory.mktemp("data"), synthetic_pairs(5)))


def train(folder, data, stop_in=None, **options):
    """Train with a sink, until the second step of epoch `stop_in` where it is given; returns the trainer's events."""
    plan = a_plan(data, **{"model": "normless", "epochs": 3, "batch_size": 2, **options})
    run = Experiment(plan, data, Splits(data.train, data.val, (), False))
    checkpoints = Checkpoints(folder / "checkpoints")
    stopper = Stopper(lambda event: len(steps([event])) and event.epoch == stop_in)
    with tensorboard(run, folder / "tensorboard", checkpoints.last) as board:

        def emit(event):
            stopper.emit(event)
            if board is not None:
                board(event)

        show = board.show if board else None
        fit(data, plan, checkpoints=checkpoints, emit=emit, should_stop=stopper.should_stop, show=show)
    return stopper.events


def read(folder, name):
    found = EventAccumulator(str(folder / "tensorboard" / name), size_guidance={"scalars": 0, "images": 0})
    found.Reload()
    return found


def numbers(found, tag):
    return {point.step: point.value for point in found.Scalars(tag)}


def test_every_number_of_a_run_is_written(tmp_path, data):
    events = train(tmp_path, data)
    in_steps, in_epochs = read(tmp_path, "steps"), read(tmp_path, "epochs")
    told = {(step.epoch - 1) * 2 + step.step: step for step in steps(events)}
    assert list(told) == [1, 2, 3, 4, 5, 6]
    for name, of in {
        "loss_per_step/total": lambda step: step.loss,
        "loss_per_step/bce": lambda step: step.loss_components["bce"],
        "loss_per_step/dice": lambda step: step.loss_components["dice"],
        "lr/step": lambda step: step.lr,
        **{f"gradient_norm_per_step/{g}": lambda step, g=g: step.gradient_norms[g] for g in GRADIENT_GROUPS},
    }.items():
        assert numbers(in_steps, name) == pytest.approx({number: of(step) for number, step in told.items()}), name
    for name, of in {
        "loss/train": lambda epoch: epoch.train_loss,
        "loss/val": lambda epoch: epoch.val_loss,
        "loss_component/dice": lambda epoch: epoch.loss_components["dice"],
        **{f"val/{m}": lambda epoch, m=m: getattr(epoch, f"val_{m}") for m in ("dice", "iou", "precision", "recall")},
        "gradient_norm/encoder_conv1": lambda epoch: epoch.gradient_norms["encoder_conv1"],
        "lr/epoch": lambda epoch: epoch.lr,
        "speed/scans_per_second": lambda epoch: epoch.scans_per_second,
        "speed/seconds_per_epoch": lambda epoch: epoch.seconds,
        "speed/seconds_per_batch": lambda epoch: 2 / epoch.scans_per_second,
        "memory/peak_mb": lambda epoch: epoch.peak_memory_mb,
    }.items():
        expected = {epoch.epoch: of(epoch) for epoch in epochs(events)}
        assert numbers(in_epochs, name) == pytest.approx(expected, rel=1e-5), name


def test_configuration_and_plan_are_there_as_text(tmp_path, data):
    train(tmp_path, data, epochs=1, momentum=0.5)
    found = read(tmp_path, "epochs")
    config, plan = (found.Tensors(f"{name}/text_summary")[0].tensor_proto.string_val[0] for name in ("config", "plan"))
    assert b'"momentum": 0.5' in config
    assert b'"patch_shape"' in plan
    assert b"- **momentum** = 0.5: this has no effect on optimizer=adam" in plan


@pytest.mark.parametrize(("every", "drawn"), [(0, []), (1, [1, 2, 3, 4, 5]), (2, [1, 2, 4, 5])])
def test_validation_scans_are_drawn_as_often_as_wanted(tmp_path, data, every, drawn):
    train(tmp_path, data, epochs=5, tensorboard_images=every)
    found = read(tmp_path, "scans")
    assert found.Tags()["images"] == (["scan/s4"] if drawn else [])
    pictures = found.Images("scan/s4") if drawn else []
    assert [picture.step for picture in pictures] == drawn
    assert all(picture.encoded_image_string.startswith(b"\x89PNG") for picture in pictures)


@pytest.mark.parametrize(("bias", "shade"), [(9.0, 255), (-9.0, 0)])
def test_a_picture_shows_the_grader_s_mask_above_the_network_s(tmp_path, data, bias, shade):
    plan = a_plan(data, model="pointwise", epochs=1)
    network = Pointwise().eval()
    torch.nn.init.constant_(network.mix.bias, bias)
    with tensorboard(Experiment(plan, data, Splits(data.train, data.val, (), False)), tmp_path / "tensorboard", 0) as b:
        b.show(1, network)
    [drawn] = read(tmp_path, "scans").Images("scan/s4")
    with Image.open(io.BytesIO(drawn.encoded_image_string)) as picture:
        grey = np.asarray(picture.convert("L"))
    assert grey.shape == (2 * TILE + 12, 3 * TILE + 16)
    above, below = (grey[top : top + TILE, TILE + 8 : 2 * TILE + 8] for top in (4, TILE + 8))
    assert (below == shade).all()
    assert (above > 0).mean() == pytest.approx((data.store.mask(4) > 0).mean(), abs=1e-3)


def test_a_picture_has_the_dataset_s_classes_where_one_does_not_count(tmp_path):
    scans = [(image, 2 * mask) for image, mask in synthetic_pairs(3)]
    data = training_data(write_store(tmp_path / "data", scans, (0, 1, 2)))
    plan = a_plan(data, model="pointwise", epochs=1, ignore_index=1)
    network = Pointwise().eval()
    torch.nn.init.constant_(network.mix.bias, 9.0)
    with tensorboard(Experiment(plan, data, Splits(data.train, data.val, (), False)), tmp_path / "tensorboard", 0) as b:
        b.show(1, network)
    [drawn] = read(tmp_path, "scans").Images("scan/s2")
    with Image.open(io.BytesIO(drawn.encoded_image_string)) as picture:
        colours = np.asarray(picture)[:, TILE + 8 : 2 * TILE + 8]
    above, below = (colours[top : top + TILE].reshape(-1, 3) for top in (4, TILE + 8))
    [answer] = np.unique(below, axis=0)
    assert answer.tolist() in np.unique(above, axis=0).tolist()
    assert answer.any()


def test_a_run_that_goes_on_has_every_step_once(tmp_path, data, monkeypatch):
    # Files of one process and one second are told apart by a count, and read in the order of their names: 99 after 100.
    monkeypatch.setattr(event_file_writer, "_global_uid", event_file_writer.AtomicCounter(100))
    straight = train(tmp_path / "straight", data, epochs=4, tensorboard_images=1)
    train(tmp_path / "stopped", data, epochs=4, tensorboard_images=1, stop_in=3)
    before = numbers(read(tmp_path / "stopped", "steps"), "loss_per_step/total")
    assert list(before) == [1, 2, 3, 4, 5]  # the first step of the third epoch comes again
    train(tmp_path / "stopped", data, epochs=4, tensorboard_images=1)
    found = read(tmp_path / "stopped", "steps").Scalars("loss_per_step/total")
    assert [point.step for point in found] == list(range(1, 9))
    assert [point.value for point in found] == pytest.approx([step.loss for step in steps(straight)])
    for name in ("loss/train", "val/dice"):
        assert [point.step for point in read(tmp_path / "stopped", "epochs").Scalars(name)] == [1, 2, 3, 4]
    assert [picture.step for picture in read(tmp_path / "stopped", "scans").Images("scan/s4")] == [1, 2, 3, 4]


def test_it_can_be_switched_off(tmp_path, data):
    events = train(tmp_path, data, epochs=1, tensorboard=False)
    assert len(epochs(events)) == 1
    assert not (tmp_path / "tensorboard").exists()


def test_writing_changes_no_number_of_the_run(tmp_path, data):
    runs = [
        [step.loss for step in steps(train(tmp_path / str(wanted), data, model="forgetful", tensorboard=wanted))]
        for wanted in (True, False)
    ]
    assert runs[0] == runs[1]
