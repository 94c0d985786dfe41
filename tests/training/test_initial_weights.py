from __future__ import annotations

import pytest
import torch

from octa_backend.diagnosis.findings import Finding, Remedy, Severity
from octa_backend.errors import IncompatibleCheckpoint, ModelNotFound
from octa_backend.training.checkpoint import Checkpoints, load_weights, save_weights
from octa_backend.training.complete import find_learning_rate
from octa_backend.training.initial_weights import InitialWeights, read_tensors, take_weights
from octa_backend.training.network import build_network
from octa_backend.training.trainer import fit
from tests.tiny import Normless, SmallUNet, a_plan, synthetic_pairs, training_data, write_store
from tests.training.runs import findings, never, steps, treatments

pytestmark = pytest.mark.usefixtures("tiny_registry")


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return training_data(write_store(tmp_path_factory.mktemp("data"), synthetic_pairs(3)))


def initial(path):
    return InitialWeights("theirs", path)


def saved(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save(content, path)
    return initial(path)


# --- what is read ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("wrapped", ["plain", "state_dict", "model", "module.", "_orig_mod.module."])
def test_weights_are_found_however_a_script_saved_them(tmp_path, wrapped):
    weights = Normless().state_dict()
    if wrapped.endswith("."):
        content = {wrapped + name: value for name, value in weights.items()}
    else:
        content = weights if wrapped == "plain" else {"epoch": 3, wrapped: weights}
    found = read_tensors(saved(tmp_path / "w.pt", content))
    assert {name: value.tolist() for name, value in found.items()} == {n: v.tolist() for n, v in weights.items()}


def test_weights_are_found_beside_the_tensors_of_a_checkpoint(tmp_path):
    weights = Normless().state_dict()
    checkpoint = {"epoch": 3, "model_state_dict": weights, "loss": torch.tensor(0.3), "weights": torch.ones(2)}
    assert read_tensors(saved(tmp_path / "w.pt", checkpoint)).keys() == weights.keys()


def test_a_checkpoint_gives_its_average_by_its_folder_and_by_its_state(tmp_path):
    folder = tmp_path / "last-00003"
    folder.mkdir()
    average = Normless()
    save_weights(Normless(), folder / "weights.safetensors")
    save_weights(average, folder / "average.safetensors")
    torch.save({"optimizer": {}}, folder / "state.pt")
    for path in (folder, folder / "state.pt", folder / "average.safetensors"):
        assert torch.equal(read_tensors(initial(path))["layers.0.weight"], average.layers[0].weight)


def test_a_model_gives_the_weights_of_its_folder(tmp_path):
    network = Normless()
    save_weights(network, tmp_path / "weights.safetensors")
    assert torch.equal(read_tensors(initial(tmp_path))["layers.3.bias"], network.layers[3].bias)


class Harmful:
    def __reduce__(self):
        return (print, ("code of the file ran",))


@pytest.mark.parametrize("kind", ["text.pt", "empty.pt", "harmful.pt", "text.safetensors", "cut.pt"])
def test_what_is_no_checkpoint_is_refused_in_words_and_runs_no_code(tmp_path, capsys, kind):
    path = tmp_path / kind
    if kind == "harmful.pt":
        torch.save(Harmful(), path)
    elif kind == "cut.pt":
        torch.save(Normless().state_dict(), path)
        path.write_bytes(path.read_bytes()[:500])
    else:
        path.write_text("" if kind == "empty.pt" else "no weights at all")
    with pytest.raises(IncompatibleCheckpoint, match=f"{kind} is not a checkpoint that can be read"):
        read_tensors(initial(path))
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("content", [{"epoch": 3}, [1.0], {"state_dict": {"lr": 0.1}}])
def test_a_file_without_tensors_is_refused_in_words(tmp_path, content):
    with pytest.raises(IncompatibleCheckpoint, match=r"w\.pt holds no weights"):
        read_tensors(saved(tmp_path / "w.pt", content))


def test_a_path_that_is_not_there_or_a_folder_of_other_things_is_named(tmp_path):
    with pytest.raises(ModelNotFound, match="pretrained=theirs: there is no such model, file or folder"):
        read_tensors(initial(tmp_path / "none"))
    with pytest.raises(IncompatibleCheckpoint, match="neither a model's nor a checkpoint's folder"):
        read_tensors(initial(tmp_path))


# --- what is taken ---------------------------------------------------------------------------------------------------


def test_a_whole_network_is_taken(tmp_path):
    theirs, ours = SmallUNet(1, 1), SmallUNet(1, 1)
    theirs.encoder[0].load_state_dict(ours.encoder[0].state_dict())
    finding = take_weights(ours, saved(tmp_path / "w.pt", theirs.state_dict()))
    total = len(list(ours.parameters()))
    assert (finding.code, finding.severity) == ("pretrained_taken", "info")
    assert finding.evidence == {"source": "theirs", "taken": total, "total": total}
    for name, value in ours.state_dict().items():
        assert torch.equal(value, theirs.state_dict()[name]), name


def test_other_channels_and_classes_leave_the_first_convolution_and_the_head_fresh(tmp_path):
    theirs, ours = Normless(in_channels=3, out_channels=1), Normless(in_channels=1, out_channels=4)
    before = {name: value.clone() for name, value in ours.state_dict().items()}
    finding = take_weights(ours, saved(tmp_path / "w.pt", theirs.state_dict()))
    assert (finding.code, finding.severity) == ("pretrained_partly_taken", "warning")
    assert [finding.evidence[name] for name in ("taken", "total", "count")] == [5, 8, 3]
    assert finding.evidence["fresh"] == {
        "layers.0.weight": "4×1×3×3 ≠ 4×3×3×3",
        "layers.3.weight": "4×4×3×3 ≠ 1×4×3×3",
        "layers.3.bias": "4 ≠ 1",
    }
    for name in finding.evidence["fresh"]:
        assert torch.equal(ours.state_dict()[name], before[name])
    assert torch.equal(ours.layers[1].weight, theirs.layers[1].weight)


def test_a_parameter_that_is_not_in_the_file_is_named(tmp_path):
    weights = Normless().state_dict()
    del weights["layers.3.bias"]
    finding = take_weights(Normless(), saved(tmp_path / "w.pt", weights))
    assert finding.evidence["fresh"] == {"layers.3.bias": "1, ∅"}


def test_weights_of_which_none_fits_are_refused(tmp_path):
    theirs = {"stem.weight": torch.zeros(3), "bn.num_batches_tracked": torch.tensor(7)}
    expected = r"none of its 2 tensors has the name and the shape of one of the 8 parameters"
    with pytest.raises(IncompatibleCheckpoint, match=expected):
        take_weights(Normless(), saved(tmp_path / "w.pt", theirs))


# --- a run that begins with them -------------------------------------------------------------------------------------


def run(folder, data, initial=None, advice=None, **options):
    """Events and outcome; `advice` is given after the first epoch."""
    events, left = [], [advice] if advice else []
    plan = a_plan(data, **{"model": "normless", "epochs": 1, "lr": 1e-4, **options})
    outcome = fit(
        data,
        plan,
        checkpoints=Checkpoints(folder),
        emit=events.append,
        should_stop=never,
        initial=initial,
        advise=lambda: left.pop() if left else None,
    )
    return events, outcome


def test_a_run_begins_with_them_and_says_so_first(tmp_path, data):
    run(tmp_path / "theirs", data, epochs=3, lr=0.05)
    theirs = Checkpoints(tmp_path / "theirs").best_weights().parent
    fresh, _ = run(tmp_path / "fresh", data)
    begun, _ = run(tmp_path / "begun", data, initial(theirs))
    assert begun[0].finding.code == "pretrained_taken"
    assert steps(begun)[0].loss < steps(fresh)[0].loss


def test_a_run_that_goes_on_does_not_read_them_again(tmp_path, data):
    source = saved(tmp_path / "w.pt", Normless().state_dict())
    run(tmp_path / "job", data, source)
    source.path.unlink()
    events, outcome = run(tmp_path / "job", data, source, epochs=2)
    assert {step.epoch for step in steps(events)} == {2}
    assert outcome.finished


def anew(**changes):
    return Finding("overfitting", Severity.WARNING, {"confidence": 0.9}, remedy=Remedy("remedy", changes, False))


@pytest.mark.parametrize("save_freq", [1, 5])
def test_a_run_that_a_remedy_begins_anew_begins_with_them_again(tmp_path, data, save_freq):
    source = saved(tmp_path / "w.pt", Normless().state_dict())
    events, _ = run(tmp_path / "job", data, source, anew(lr=1e-6), epochs=2, save_freq=save_freq)
    firsts = [one.loss for one in steps(events) if one.step == 1]
    assert firsts[0] == firsts[1] != firsts[2]
    assert [one.code for one in findings(events)].count("pretrained_taken") == 1


@pytest.mark.parametrize("gone", [False, True])
def test_a_run_that_a_remedy_begins_anew_does_without_weights_that_it_cannot_have(tmp_path, data, gone):
    source = saved(tmp_path / "w.pt", Normless().state_dict())
    run(tmp_path / "job", data, source)
    if gone:
        source.path.unlink()
    remedy = anew(lr=1e-3) if gone else anew(model="small_unet")
    events, outcome = run(tmp_path / "job", data, source, remedy, epochs=2)
    assert len(treatments(events)) == 1
    assert outcome.finished


def test_the_range_test_is_made_on_the_network_that_the_training_begins_with(tmp_path, data):
    plan = a_plan(data, model="normless", lr="auto")
    other = build_network(a_plan(data, model="normless", seed=7))
    source = saved(tmp_path / "w.pt", other.state_dict())
    fresh, begun = (find_learning_rate(plan, data, never, weights) for weights in (None, source))
    assert fresh.losses[0] != begun.losses[0]


def test_a_checkpoint_holds_the_configuration_as_json_beside_the_weights(tmp_path, data):
    run(tmp_path, data, momentum=0.5)
    for name in ("last-00001", "best-00001"):
        text = (tmp_path / name / "plan.json").read_text("utf-8")
        assert '"momentum": 0.5' in text
    load_weights(Normless(), tmp_path / "best-00001" / "average.safetensors")
