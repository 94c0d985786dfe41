"""What `POST /predict` can be asked for, with networks that call bright pixels foreground."""

from __future__ import annotations

import base64
import io
import json

import numpy as np
import pytest
from PIL import Image
from skimage.filters import threshold_otsu

from octa_backend.service import model_service
from octa_backend.service.train_service import start
from octa_backend.settings import Settings
from octa_backend.training.config import TrainConfig
from tests.data.zips import encoded
from tests.fakes import Api, a_dataset
from tests.published import publish, read_card
from tests.tiny import one_thread, synthetic_pairs, tiny_networks, write_store

SHAPE = (24, 32)


def add(api, name, store, config_of_job, tuned=None, **options):
    """Publish a model and put it on the shelf."""
    folder = publish(api.parts.files.model(name), store, "f" * 64, **options)
    card = read_card(folder) | ({"tuned_threshold": {"threshold": tuned}} if tuned else {})
    (folder / "card.json").write_text(json.dumps(card), "utf-8")
    with api.parts.database.writing() as session:
        job = start(session, a_dataset(session, name).id, config_of_job)
        model_service.register(session, name, job, card)


@pytest.fixture(scope="module")
def api(tmp_path_factory):
    folder = tmp_path_factory.mktemp("options")
    settings = Settings(data_dir=folder / "data", device="cpu", engine="torch", max_predict_files=3)
    pairs = synthetic_pairs(4, 32)
    binary = write_store(folder / "binary", pairs, (0, 255))
    three = [(image, (image[0] // 86).astype(np.uint8) * 5) for image, _ in pairs]
    several = write_store(folder / "several", three, (0, 5, 10))
    colour = write_store(folder / "colour", [(image.repeat(3, 0), mask) for image, mask in pairs], (0, 255))
    with tiny_networks(), one_thread(), Api(settings) as found:
        add(found, "several", several, TrainConfig())
        add(found, "ignoring", several, TrainConfig(), ignore_index=2)
        add(found, "colour", colour, TrainConfig(), tuned=0.6, normalisation="percentile")
        add(found, "bright", binary, TrainConfig(), tuned=0.3)
        yield found


def predict(api, *scans, masks=(), headers=None, **fields):
    files = [("file", (f"scan{n}.png", scan, "image/png")) for n, scan in enumerate(scans)]
    files += [("mask", (f"mask{n}.png", mask, "image/png")) for n, mask in enumerate(masks)]
    return api.post("/predict", files=files, data=fields, headers=headers or {})


def answered(api, *scans, **fields):
    answer = predict(api, *scans, **fields)
    assert answer.status_code == 200, answer.text
    return answer.json()


def refused(answer, status, kind, *phrases):
    assert (answer.status_code, answer.json()["type"]) == (status, f"urn:octa:{kind}"), answer.text
    for phrase in phrases:
        assert phrase in answer.json()["detail"]


def picture(text):
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(text))))


def noise(*shape, seed=0):
    return np.random.default_rng(seed).integers(0, 256, shape or SHAPE).astype(np.uint8)


def probabilities(scan):
    """What `bright` says of a grey scan."""
    return 1 / (1 + np.exp(4 - 8 * scan.astype(np.float64) / 255))


# --- thresholds ----------------------------------------------------------------------------------------------------


def test_the_threshold_used_is_told_with_where_it_is_from(api):
    scan = noise()
    for wish, value, source in (
        (None, 0.5, "fixed"),
        ("0.4", 0.4, "fixed"),
        ("tuned", 0.3, "tuned"),
        ("auto", threshold_otsu(probabilities(scan)), "auto"),
    ):
        found = answered(api, encoded(scan), model_id="bright", **({"threshold": wish} if wish else {}))
        assert (found["threshold"], found["threshold_source"]) == (pytest.approx(value, abs=1e-3), source)
        assert found["foreground_fraction"] == (probabilities(scan) >= found["threshold"]).mean()


def test_several_models_are_thresholded_at_the_mean_of_theirs(api):
    found = answered(api, encoded(noise()), model_id="bright,colour", threshold="tuned")
    assert found["threshold"] == pytest.approx(0.45)


def test_a_model_without_a_tuned_threshold_says_so(api, tmp_path):
    store = write_store(tmp_path, synthetic_pairs(3), (0, 255))
    add(api, "untuned", store, TrainConfig())
    refused(predict(api, encoded(noise()), model_id="untuned", threshold="tuned"), 409, "no-tuned-threshold", "number")


@pytest.mark.parametrize("wish", ["tuned", "auto"])
def test_several_classes_refuse_a_threshold_in_words_and_take_a_number(api, wish):
    answer = predict(api, encoded(noise()), model_id="several", threshold=wish)
    refused(answer, 422, "invalid-options", "several classes", "leave threshold out")
    found = answered(api, encoded(noise()), model_id="several", threshold="0.4")
    assert (found["threshold"], found["threshold_source"]) == (0.4, None)


@pytest.mark.parametrize("wish", ["0", "1", "otsu", "nan"])
def test_what_is_no_threshold_is_refused(api, wish):
    refused(predict(api, encoded(noise()), threshold=wish), 400, "invalid-request", "threshold")


# --- several models ------------------------------------------------------------------------------------------------


def test_several_models_answer_together_however_they_are_named(api):
    scan = encoded(noise())
    one = answered(api, scan, model_id="bright", probability="true")
    other = answered(api, scan, model_id="colour", probability="true")
    joined = answered(api, scan, model_id="bright, colour", probability="true")
    repeated = answered(api, scan, model_id=["bright", "colour"], probability="true")
    assert (one["model_id"], one["model_ids"]) == ("bright", ["bright"])
    assert (joined["model_id"], joined["model_ids"]) == ("bright,colour", ["bright", "colour"])
    assert repeated["probability_png"] == joined["probability_png"]
    mean = (picture(one["probability_png"]).astype(float) + picture(other["probability_png"])) / 2
    np.testing.assert_allclose(picture(joined["probability_png"]), mean, atol=1)
    assert one["probability_png"] != other["probability_png"]


@pytest.mark.parametrize("named", ["bright,bright", "bright,", ",".join(f"m{n}" for n in range(17))])
def test_a_list_of_models_is_of_different_ones_and_not_too_long(api, named):
    refused(predict(api, encoded(noise()), model_id=named), 400, "invalid-request", "1 to 16 different models")


def test_models_of_other_classes_or_none_are_refused(api):
    scan = encoded(noise())
    answer = predict(api, scan, model_id="bright,several")
    refused(answer, 422, "models-differ", "bright: 2 classes; several: 3 classes")
    refused(predict(api, scan, model_id="bright,nope"), 404, "model-not-found", "nope")


# --- objects, holes and maps ----------------------------------------------------------------------------------------

SHAPES = np.zeros(SHAPE, np.uint8)
SHAPES[2:10, 2:10] = 255  # 64 pixels with a hole of 4
SHAPES[5:7, 5:7] = 0
SHAPES[15:17, 20:23] = 255  # 6 pixels


@pytest.mark.parametrize(
    ("fields", "area", "removed", "filled"),
    [
        ({}, 66, None, None),
        ({"min_object_px": "7"}, 60, 1, 0),
        ({"min_object_px": "6", "max_hole_px": "4"}, 70, 0, 1),
        ({"min_object_um2": "601", "pixel_size_um": "10"}, 60, 1, 0),
        ({"max_hole_um2": "400", "field_of_view_mm": "0.32"}, 70, 0, 1),
        ({"max_hole_um2": "399", "field_of_view_mm": "0.32"}, 66, 0, 0),
        ({"max_hole_um2": "400", "pixel_size_um": "10", "measure": "false"}, 70, 0, 1),
    ],
)
def test_small_objects_and_holes_go_and_what_is_left_is_measured(api, fields, area, removed, filled):
    found = answered(api, encoded(SHAPES), model_id="bright", **fields)
    assert found["cleaning"] == (None if removed is None else {"objects_removed": removed, "holes_filled": filled})
    assert (picture(found["mask_png"]) > 0).sum() == area
    assert found["foreground_fraction"] == area / SHAPES.size
    if found["measurements"]:
        assert found["measurements"]["vessel_area_density"]["value"] == pytest.approx(area / SHAPES.size)


def test_limits_in_two_units_without_a_scale_or_of_no_area_are_refused(api):
    scan = encoded(SHAPES)
    both = predict(api, scan, min_object_px="3", min_object_um2="3", pixel_size_um="10")
    refused(both, 422, "invalid-options", "min_object_px and min_object_um2")
    refused(predict(api, scan, max_hole_um2="3"), 422, "invalid-scale", "pixel_size_um or field_of_view_mm")
    refused(predict(api, scan, max_hole_px="0"), 400, "invalid-request", "max_hole_px")
    idle = predict(api, scan, min_object_px="3", pixel_size_um="10", measure="false")
    refused(idle, 400, "invalid-request", "leave out pixel_size_um")


def test_maps_of_confidence_and_probability_are_sent_on_request(api):
    scan = noise()
    plain = answered(api, encoded(scan), model_id="bright")
    assert (plain["confidence_png"], plain["probability_png"]) == (None, None)
    found = answered(api, encoded(scan), model_id="bright", confidence_map="true", probability="true")
    expected = probabilities(scan)
    confidence, probability = picture(found["confidence_png"]), picture(found["probability_png"])
    assert (confidence.dtype, probability.dtype) == (np.uint8, np.uint16)
    np.testing.assert_allclose(confidence / 255, np.maximum(expected, 1 - expected), atol=0.003)
    np.testing.assert_allclose(probability / 65535, expected, atol=1e-5)
    assert confidence.mean() / 255 == pytest.approx(found["confidence"]["mean"], abs=0.002)


def test_of_several_classes_the_probability_is_all_but_background(api):
    found = answered(api, encoded(noise()), model_id="several", confidence_map="true", probability="true")
    mask, probability = picture(found["mask_png"]), picture(found["probability_png"]) / 65535
    assert (probability[mask == 0] < 2 / 3).all()
    assert (picture(found["confidence_png"]) / 255 >= 0.33).all()


# --- warnings ------------------------------------------------------------------------------------------------------


def test_a_scan_like_the_training_scans_is_not_warned_about_and_another_one_is_in_both_languages(api):
    scan = synthetic_pairs(6, 32)[-1][0][0]
    assert answered(api, encoded(scan), model_id="bright")["warnings"] == []
    english, chinese = (
        answered(api, encoded(255 - scan), model_id="bright", measure="false", headers={"Accept-Language": language})[
            "warnings"
        ]
        for language in ("en", "zh")
    )
    (warning,) = english
    assert (warning["code"], warning["model_id"]) == ("out_of_distribution", "bright")
    assert "unlike those that model bright was trained on" in warning["message"]
    assert "brightness" in warning["message"]
    assert "训练扫描" in chinese[0]["message"]
    assert "平均亮度" in chinese[0]["message"]
    mean = warning["evidence"]["mean"]
    assert mean["value"] > mean["high"] > mean["low"]


def test_each_of_several_models_warns_for_itself_and_one_without_statistics_is_silent(api, tmp_path):
    store = write_store(tmp_path, synthetic_pairs(3), (0, 255))
    add(api, "silent", store, TrainConfig())
    path = api.parts.files.model("silent") / "card.json"
    path.write_text(json.dumps({k: v for k, v in read_card(path.parent).items() if k != "scan_statistics"}), "utf-8")
    found = answered(api, encoded(np.zeros(SHAPE, np.uint8)), model_id="bright,colour,silent")
    assert [warning["model_id"] for warning in found["warnings"]] == ["bright", "colour"]


# --- known masks ---------------------------------------------------------------------------------------------------

BLOCK = np.zeros(SHAPE, np.uint8)
BLOCK[4:12, 4:16] = 1


@pytest.mark.parametrize("high", [1, 255])
def test_a_known_mask_is_compared_and_the_difference_drawn(api, high):
    found = answered(api, encoded(SHAPES), masks=[encoded(BLOCK * np.uint8(high))], model_id="bright")
    predicted, known = SHAPES > 0, BLOCK > 0
    hit = (predicted & known).sum()
    mean = found["evaluation"]["mean"]
    assert mean["dice"] == pytest.approx(2 * hit / (predicted.sum() + known.sum()))
    assert mean["iou"] == pytest.approx(hit / (predicted | known).sum())
    assert (mean["precision"], mean["recall"]) == (hit / predicted.sum(), hit / known.sum())
    assert 0 < mean["cldice"] < 1
    assert found["evaluation"]["mask"] == "mask0.png"
    assert found["evaluation"]["classes"] == [{"class": 1, "name": "class 1", **mean}]
    drawn = picture(found["difference_png"])
    green, red, blue = (drawn[..., 1] == 199), (drawn[..., 0] == 255) & (drawn[..., 1] == 59), drawn[..., 1] == 132
    np.testing.assert_array_equal(green, predicted & known)
    np.testing.assert_array_equal(red, known & ~predicted)
    np.testing.assert_array_equal(blue, predicted & ~known)


def test_what_is_compared_is_the_mask_that_was_tidied_up(api):
    known = SHAPES.copy()
    known[15:17], known[5:7, 5:7] = 0, 255
    scan, mask = encoded(SHAPES), encoded(known)
    assert answered(api, scan, masks=[mask], model_id="bright")["evaluation"]["mean"]["dice"] < 1
    tidy = answered(api, scan, masks=[mask], model_id="bright", min_object_px="7", max_hole_px="4")
    assert tidy["evaluation"]["mean"]["dice"] == 1


def test_a_scan_without_a_mask_is_not_evaluated(api):
    found = answered(api, encoded(SHAPES))
    assert (found["evaluation"], found["difference_png"]) == (None, None)


def test_masks_belong_to_scans_in_their_order(api):
    scans = [SHAPES, SHAPES[::-1]]
    found = answered(api, *map(encoded, scans), masks=list(map(encoded, scans)), model_id="bright")["predictions"]
    assert [one["evaluation"]["mean"]["dice"] for one in found] == [1, 1]
    crossed = answered(api, *map(encoded, scans), masks=list(map(encoded, scans[::-1])), model_id="bright")
    assert [one["evaluation"]["mean"]["dice"] for one in crossed["predictions"]] < [1, 1]


def test_a_mask_too_few_of_another_size_or_of_other_values_is_refused(api):
    scan = encoded(SHAPES)
    refused(predict(api, scan, scan, masks=[scan]), 422, "invalid-options", "1 masks came for 2 scans")
    other = predict(api, scan, masks=[encoded(SHAPES[:, :20])])
    refused(other, 422, "mask-does-not-fit", "mask mask0.png is 20×24 but scan scan0.png is 32×24")
    refused(predict(api, scan, masks=[encoded(noise())]), 422, "mask-does-not-fit", "mask0.png has the values 2")
    refused(predict(api, scan, masks=[b"no picture"]), 422, "unreadable-scan", "mask0.png")
    answer = api.post("/predict", files=[("file", ("a.png", scan)), ("masks", ("b.png", scan))])
    refused(answer, 400, "invalid-request", "'masks'")
    assert api.traces()["uploads"] == []


@pytest.mark.parametrize("values", [(0, 5, 10), (0, 1, 2)])
def test_masks_of_several_classes_have_the_values_of_the_dataset_or_class_numbers(api, values):
    scan = noise()
    predicted = picture(answered(api, encoded(scan), model_id="several")["mask_png"])
    mask = encoded(np.take(np.array(values, np.uint8), predicted))
    found = answered(api, encoded(scan), masks=[mask], model_id="several")["evaluation"]
    assert found["mean"] == dict.fromkeys(("dice", "iou", "precision", "recall", "cldice"), 1.0)
    assert [one["class"] for one in found["classes"]] == [1, 2]
    refused(predict(api, encoded(scan), masks=[encoded(predicted * 7)], model_id="several"), 422, "mask-does-not-fit")


def test_pixels_of_an_ignored_class_do_not_count(api):
    scan = noise()
    predicted = picture(answered(api, encoded(scan), model_id="ignoring")["mask_png"])
    assert set(np.unique(predicted)) == {0, 1}
    known = np.where(np.arange(SHAPE[0])[:, None] < 6, 10, predicted * 5).astype(np.uint8)
    found = answered(api, encoded(scan), masks=[encoded(known)], model_id="ignoring")["evaluation"]
    assert (found["mean"]["dice"], found["ignored_fraction"]) == (1, 0.25)
    assert [one["class"] for one in found["classes"]] == [1]


# --- scans of every kind ---------------------------------------------------------------------------------------------


def saved(image, form="PNG", **options):
    buffer = io.BytesIO()
    image.save(buffer, form, **options)
    return buffer.getvalue()


def test_sixteen_bits_are_not_cut_to_eight(api):
    scan = noise().astype(np.uint16) * 200 + 300
    found = answered(api, saved(Image.fromarray(scan)), model_id="bright", probability="true")
    unit = (scan - float(scan.min())) / (scan.max() - float(scan.min()))
    np.testing.assert_allclose(picture(found["probability_png"]) / 65535, probabilities(unit * 255), atol=1e-4)


def test_a_scan_is_answered_upright_as_its_exif_says_and_its_mask_likewise(api):
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by a quarter to the right
    scan, lying = Image.fromarray(SHAPES), saved(Image.fromarray(SHAPES), exif=exif)
    found = answered(api, lying, masks=[lying], model_id="bright")
    assert (found["width"], found["height"]) == SHAPE
    np.testing.assert_array_equal(picture(found["mask_png"]), np.asarray(scan.rotate(-90, expand=True)))
    assert picture(found["overlay_png"]).shape == (*SHAPE[::-1], 3)
    assert found["evaluation"]["mean"]["dice"] == 1
    assert picture(found["difference_png"]).shape == (*SHAPE[::-1], 3)


def test_grey_scans_fit_colour_models_and_the_other_way_round(api):
    grey = noise()
    in_colour = np.repeat(grey[..., None], 3, 2)
    for model in ("bright", "colour"):
        one, other = (answered(api, saved(Image.fromarray(scan)), model_id=model) for scan in (grey, in_colour))
        assert one["mask_png"] == other["mask_png"]
    red = np.zeros((*SHAPE, 3), np.uint8)
    red[..., 0] = 255
    found = answered(api, saved(Image.fromarray(red)), model_id="bright", probability="true")
    np.testing.assert_allclose(
        picture(found["probability_png"]) / 65535, probabilities(np.float64(0.299 * 255)), atol=1e-4
    )


@pytest.mark.parametrize("shape", [(16, 16), (17, 200), (801, 19)])
@pytest.mark.parametrize("tta", ["true", "false"])
def test_scans_of_any_sides_are_answered_at_their_size(api, shape, tta):
    found = answered(api, encoded(noise(*shape)), model_id="bright", tta=tta, measure="false", confidence_map="true")
    assert picture(found["mask_png"]).shape == picture(found["confidence_png"]).shape == shape


@pytest.mark.parametrize("shape", [(1, 200), (200, 1), (15, 64)])
def test_strips_are_refused_with_the_least_side(api, shape):
    answer = predict(api, encoded(noise(*shape)))
    refused(answer, 422, "unreadable-scan", f"scan0.png is {shape[1]}×{shape[0]}; both sides need at least 16 pixels")
