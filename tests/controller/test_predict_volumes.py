from __future__ import annotations

import base64
import gzip
import io
import zipfile

import nibabel as nib
import numpy as np
import pytest
from PIL import Image

from octa_backend.inference.model_folder import read_card, spatial_dims
from octa_backend.inference.volume_predictor import VolumePredictor
from octa_backend.service import model_service, predict_service
from octa_backend.service.train_service import start
from octa_backend.settings import Settings
from octa_backend.training import precision
from octa_backend.training.config import TrainConfig
from tests.data.zips import encoded, grey
from tests.fakes import Api, a_dataset
from tests.tiny import SLOW_CPU, one_thread
from tests.volume_models import Brightness, publish_volumes, volume_card
from tests.volumes import SHAPE, affine_of, nifti, stack

VALUES = [0, 1, 2, 4]
LABELS = [{"name": name, "colour": None} for name in ("background", "core", "oedema", "enhancing")]
CARDS = {
    "one": volume_card(classes=4, mask_values=VALUES, labels=LABELS, normalisation="unit"),
    "two": volume_card(normalisation="unit", tuned_threshold={"threshold": 0.7}),
    "four": volume_card(
        classes=4, mask_values=VALUES, channels=4, modalities=["flair", "t1", "t1ce", "t2"], normalisation="unit"
    ),
    "spaced": volume_card(
        classes=4, mask_values=VALUES, labels=LABELS, normalisation="unit", common_spacing_mm=[1, 1, 1]
    ),
    "fine": volume_card(normalisation="unit", common_spacing_mm=[0.1, 0.1, 0.1]),
    "flat": {"network": "tiny_unet", "channels": 1, "classes": 2},
}


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """A server with models whose masks are known (see `Brightness`), and one of pictures."""
    folder = tmp_path_factory.mktemp("predict")
    settings = Settings(
        data_dir=folder / "data", device="cpu", engine="torch", max_predict_files=4, max_scan_voxels=100_000
    )

    def load(model, *_):
        card = read_card(model)
        assert spatial_dims(card) == 3
        return VolumePredictor(model, [Brightness(card["classes"])])

    with Api(settings) as api, pytest.MonkeyPatch.context() as patch, one_thread():
        patch.setattr(precision, "probe", lambda device: SLOW_CPU)
        patch.setattr(predict_service, "load_predictor", load)
        with api.parts.database.writing() as session:
            file_id = a_dataset(session).id
            for name, card in CARDS.items():
                job = start(session, file_id, TrainConfig())
                made = publish_volumes(folder / name, **CARDS["one"])
                model_service.write_model(api.parts.files.model(name), made / "weights.safetensors", card)
                model_service.register(session, name, job, card)
        yield api


def predict(api, files, *, masks=(), headers=None, **fields):
    sent = [("file", (name, content)) for name, content in files.items()]
    sent += [("mask", (name, content)) for name, content in dict(masks).items()]
    return api.post("/predict", files=sent, data={"model_id": "one", **fields}, headers=headers or {})


def classes(seed=0, shape=SHAPE):
    """Class numbers in a file's order, 0 at the faces."""
    found = np.zeros(shape, np.uint8)
    inner = found[2:-3, 1:-2, 3:-1]
    inner[...] = np.random.default_rng(seed).integers(0, 4, inner.shape)
    return found


def volume(numbers, affine=None):
    """An image in which the model sees these classes."""
    return nifti(numbers * np.uint8(85), affine)


def opened(text):
    content = text if isinstance(text, bytes) else base64.b64decode(text)
    return nib.Nifti1Image.from_bytes(gzip.decompress(content))


def picture(text):
    return Image.open(io.BytesIO(base64.b64decode(text)))


def refused(answer, status, *words):
    assert answer.status_code == status, answer.text
    detail = answer.json()["detail"]
    assert all(word in detail for word in words), detail


@pytest.mark.parametrize(
    "affine",
    [
        affine_of(),
        affine_of("LPS", (0.5, 1.0, 2.0)),
        affine_of("PIR", (0.5, 1.0, 2.0), tilt_degrees=20),
        affine_of("SLA", tilt_degrees=-35),
    ],
)
def test_the_mask_lies_as_its_file_and_has_the_datasets_values(server, affine):
    numbers = classes()
    answer = predict(server, {"case.nii.gz": volume(numbers, affine)})
    assert answer.status_code == 200, answer.text
    body = answer.json()
    mask = opened(body["mask_nii_gz"])
    sent = opened(volume(numbers, affine))
    np.testing.assert_array_equal(mask.affine, sent.affine)
    assert nib.aff2axcodes(mask.affine) == tuple(body["orientation"])
    np.testing.assert_array_equal(np.asarray(mask.dataobj), np.take(VALUES, numbers))
    assert mask.get_data_dtype() == np.uint8
    assert tuple(body["shape"]) == SHAPE
    voxel_ml = abs(np.linalg.det(affine[:3, :3])) / 1000
    counts = np.bincount(numbers.ravel())
    for index, row in enumerate(body["classes"], start=1):
        assert (row["class"], row["value"], row["name"]) == (index, VALUES[index], LABELS[index]["name"])
        assert row["voxels"] == counts[index]
        assert row["ml"] == pytest.approx(counts[index] * voxel_ml, rel=1e-4)
    assert body["measurements"] == {}
    assert (body["engine"], body["notice"]) == ("brightness", "research use only")


def smooth(spacing, shape=SHAPE):
    """A bright ball of 6 mm in a file's order, of which half of the brightness is at its surface; 0 at the faces."""
    sides = [(np.arange(length) + 0.5 - length / 2) * side for length, side in zip(shape, spacing, strict=True)]
    distance = np.sqrt(sum(axis**2 for axis in np.meshgrid(*sides, indexing="ij")))
    return np.round(255 / (1 + np.exp(distance - 6))).astype(np.uint8)


@pytest.mark.parametrize("spacing", [(0.5, 0.5, 0.5), (0.6, 1.0, 2.0), (1.0, 1.0, 3.0)])
@pytest.mark.parametrize(("orientation", "tilt"), [("RAS", 0), ("LPS", 0), ("SLA", -35)])
def test_a_case_of_other_voxels_is_resampled_for_the_model_and_its_mask_comes_back(server, spacing, orientation, tilt):
    shape = tuple(round(20 / side) for side in spacing)
    affine = affine_of(orientation, spacing, shape, tilt)
    content = nifti(smooth(np.linalg.norm(affine[:3, :3], axis=0), shape), affine)
    answer = predict(server, {"case.nii.gz": content}, model_id="spaced", probability="true")
    assert answer.status_code == 200, answer.text
    body = answer.json()
    mask, sent = opened(body["mask_nii_gz"]), opened(content)
    assert mask.shape == sent.shape == tuple(body["shape"])
    np.testing.assert_array_equal(mask.affine, sent.affine)
    values = np.asarray(mask.dataobj)
    assert set(np.unique(values)) == set(VALUES)
    assert body["network_spacing_mm"] == [[1, 1, 1]]
    # Class 3 is what is brighter than 5/6: the ball of 6 - ln 5 mm.
    radius = 6 - np.log(5)
    voxel_ml = np.prod(spacing) / 1000
    assert body["classes"][2]["voxels"] == (values == 4).sum()
    assert body["classes"][2]["ml"] == pytest.approx((values == 4).sum() * voxel_ml)
    assert body["classes"][2]["ml"] == pytest.approx(4 / 3 * np.pi * radius**3 / 1000, rel=0.15)
    probability = opened(body["probability_nii_gz"])
    assert probability.shape == (*shape, 4)
    np.testing.assert_array_equal(probability.affine, sent.affine)
    likeliest = np.take(VALUES, np.asarray(probability.dataobj).argmax(-1))
    assert (likeliest == values).mean() > 0.99


def test_thin_slices_and_narrow_pixels_come_back_as_they_were(server):
    affine, shape = affine_of("LPS", (0.1, 0.1, 5.0), (40, 40, 4)), (40, 40, 4)
    numbers = classes(shape=(40, 40, 6))[:, :, 1:5]
    for model, seen in (("one", None), ("spaced", [1, 1, 1])):
        body = predict(server, {"a.nii.gz": volume(numbers, affine)}, model_id=model).json()
        mask = opened(body["mask_nii_gz"])
        assert mask.shape == shape
        np.testing.assert_array_equal(mask.affine, opened(volume(numbers, affine)).affine)
        assert body["network_spacing_mm"] == [seen]
        if seen is None:
            np.testing.assert_array_equal(np.asarray(mask.dataobj), np.take(VALUES, numbers))


def test_a_case_of_the_models_voxels_is_left_alone(server):
    numbers = classes()
    plain, spaced = (predict(server, {"a.nii.gz": volume(numbers)}, model_id=name).json() for name in ("one", "spaced"))
    assert spaced["mask_nii_gz"] == plain["mask_nii_gz"]
    assert spaced["network_spacing_mm"] == plain["network_spacing_mm"] == [None]


def test_models_of_different_voxels_answer_together(server):
    content = nifti(smooth((1, 1, 2)), affine_of("LPS", (1, 1, 2)))
    body = predict(server, {"a.nii.gz": content}, model_id="one,spaced").json()
    assert body["network_spacing_mm"] == [None, [1, 1, 1]]
    assert opened(body["mask_nii_gz"]).shape == SHAPE


def test_a_known_mask_is_compared_on_the_grid_of_the_file(server):
    affine = affine_of("LPS", (1, 1, 2))
    brightness = smooth((1, 1, 2))
    known = np.take(VALUES, np.rint(brightness / 85).astype(int)).astype(np.uint8)
    masks = {"m.nii.gz": nifti(known, affine)}
    body = predict(server, {"a.nii.gz": nifti(brightness, affine)}, masks=masks, model_id="spaced").json()
    row = body["evaluation"]["classes"][2]
    assert row["dice"] > 0.9
    assert row["volume_error_ml"] == pytest.approx(body["classes"][2]["ml"] - (known == 4).sum() * 0.002)


def test_what_cannot_be_brought_to_the_models_voxels_is_refused(server):
    pages = stack(classes() * np.uint8(85))
    refused(predict(server, {"a.tif": pages}, model_id="spaced"), 422, "a.tif", "how large its voxels are", "1×1×1 mm")
    answer = predict(server, {"a.nii.gz": volume(classes())}, model_id="fine")
    refused(answer, 413, "a.nii.gz is 16×18×20 voxels of 1×1×1 mm", "160×180×200", "100,000 voxels")


def test_lengths_in_micrometres_stay_so(server):
    affine = np.diag([10.0, 20.0, 30.0, 1.0])
    header = {"xyzt_units": 3}
    body = predict(server, {"case.nii": nifti(classes() * np.uint8(85), affine, zipped=False, **header)}).json()
    mask = opened(body["mask_nii_gz"])
    np.testing.assert_array_equal(mask.affine, affine)
    assert mask.header.get_xyzt_units()[0] == "micron"
    assert body["spacing_mm"] == pytest.approx([0.03, 0.02, 0.01])
    assert body["classes"][0]["ml"] == pytest.approx(body["classes"][0]["voxels"] * 6e-9)


def test_overlays_are_pictures_of_three_planes(server):
    body = predict(server, {"case.nii.gz": volume(classes(), affine_of("LPS", (1, 1, 2)))}).json()
    assert [one["plane"] for one in body["overlays"]] == ["axial", "coronal", "sagittal"]
    sizes = [(picture(one["slice_png"]).size, picture(one["projection_png"]).size) for one in body["overlays"]]
    assert sizes == [((20, 18),) * 2, ((20, 32),) * 2, ((18, 32),) * 2]


@pytest.mark.parametrize("kind", ["application/gzip", "application/octet-stream"])
def test_the_masks_file_alone(server, kind):
    numbers = classes()
    answer = predict(server, {"case.nii.gz": volume(numbers)}, headers={"accept": kind})
    assert answer.headers["content-type"] == kind
    np.testing.assert_array_equal(np.asarray(opened(answer.content).dataobj), np.take(VALUES, numbers))
    two = {"a.nii.gz": volume(numbers), "b.nii.gz": volume(numbers)}
    refused(predict(server, two, headers={"accept": kind}), 400, "answers one case; 2 came")


def test_probabilities_of_each_class(server):
    numbers = classes()
    body = predict(server, {"case.nii.gz": volume(numbers, affine_of("LPI"))}, probability="true").json()
    image = opened(body["probability_nii_gz"])
    assert image.get_data_dtype() == np.uint8
    assert body["probability_classes"] == [0, 1, 2, 3]
    shares = image.get_fdata()
    assert shares.shape == (*SHAPE, 4)
    np.testing.assert_allclose(shares.sum(-1), 1, atol=0.01)
    np.testing.assert_array_equal(shares.argmax(-1), numbers)


def modalities(numbers, names):
    """The classes in the first file; the others are empty."""
    return {name: volume(numbers if name.endswith(("flair.nii.gz", "0000.nii.gz")) else 0 * numbers) for name in names}


@pytest.mark.parametrize(
    "names",
    [
        [f"p_{at:04d}.nii.gz" for at in (2, 0, 3, 1)],
        [f"p_{word}.nii.gz" for word in ("t2", "t1", "flair", "t1ce")],
    ],
)
def test_modalities_are_brought_into_the_models_order(server, names):
    numbers = classes()
    files = modalities(numbers, names)
    body = predict(server, files, model_id="four").json()
    assert body["case"] == "p"
    assert set(body["files"]) == set(names)
    np.testing.assert_array_equal(np.asarray(opened(body["mask_nii_gz"]).dataobj), np.take(VALUES, numbers))
    del files[names[0]]
    refused(predict(server, files, model_id="four"), 422, "lacks", {"p_0002.nii.gz": "0002 (t1ce)"}.get(names[0], "t2"))


def packed(files):
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        for name, one in files.items():
            archive.writestr(name, one)
    return content.getvalue()


def test_a_zip_of_one_case(server):
    numbers = classes()
    files = modalities(numbers, [f"p/p_{word}.nii.gz" for word in ("t2", "t1", "flair", "t1ce")])
    body = predict(server, {"p.zip": packed({**files, "p/p_seg.nii.gz": b"mask"})}, model_id="four").json()
    np.testing.assert_array_equal(np.asarray(opened(body["mask_nii_gz"]).dataobj), np.take(VALUES, numbers))
    refused(predict(server, {"p.zip": packed({"a.txt": b"text"})}), 422, "p.zip holds no volume")
    refused(predict(server, {"p.zip": b"no zip"}), 422, "not a zip")


def test_a_tiff_stack(server):
    numbers = classes().transpose(2, 1, 0)
    body = predict(server, {"case.tif": stack(numbers * np.uint8(85))}).json()
    mask = np.asarray(opened(body["mask_nii_gz"]).dataobj)
    np.testing.assert_array_equal(mask, np.take(VALUES, classes()))
    assert tuple(body["shape"]) == mask.shape
    assert (body["spacing_mm"], body["orientation"], body["classes"][0]["ml"]) == (None, None, None)


def test_thresholds_of_two_classes(server):
    image = {"case.nii.gz": nifti(np.full(SHAPE, 130, np.uint8))}  # probability 0.6
    fractions = [
        predict(server, image, model_id="two", threshold=wish).json()["foreground_fraction"]
        for wish in ("0.5", "0.65", "tuned")
    ]
    assert fractions == [1, 0, 0]
    refused(predict(server, image, threshold="tuned"), 422, "the likeliest wins")


def test_the_threshold_of_the_volume_itself(server):
    image = np.zeros(SHAPE, np.uint8)
    image[4:10], image[10:16] = 114, 124  # probabilities of 0.10 and 0.36
    found = predict(server, {"case.nii.gz": nifti(image)}, model_id="two", threshold="auto").json()
    assert found["threshold_source"] == "auto"
    assert 0.1 < found["threshold"] < 0.37
    np.testing.assert_array_equal(np.asarray(opened(found["mask_nii_gz"]).dataobj), image == 124)
    refused(predict(server, {"case.nii.gz": nifti(image)}, threshold="auto"), 422, "the likeliest wins")


def test_a_map_of_the_confidence(server):
    image = np.zeros(SHAPE, np.uint8)
    image[4:10] = 130  # probability 0.6
    files = {"case.nii.gz": nifti(image, affine_of("LPI"))}
    found = predict(server, files, model_id="two", confidence_map="true").json()
    shown = opened(found["confidence_nii_gz"])
    np.testing.assert_array_equal(shown.affine, opened(files["case.nii.gz"]).affine)
    expected = np.where(image > 0, 1 / (1 + np.exp(-40 * (130 / 255 - 0.5))), 1)
    np.testing.assert_allclose(shown.get_fdata(), expected, atol=0.003)
    assert predict(server, files, model_id="two").json()["confidence_nii_gz"] is None
    whole = server.get(f"{found['prediction_url']}/confidence.nii.gz").content
    assert whole == base64.b64decode(found["confidence_nii_gz"])


def test_an_empty_volume_has_an_empty_mask(server):
    body = predict(server, {"case.nii.gz": nifti(np.zeros(SHAPE, np.uint8))}).json()
    assert body["foreground_fraction"] == 0


def test_a_known_mask_is_compared(server):
    numbers = classes()
    known = numbers.copy()
    known[:10][known[:10] == 1] = 0
    values = np.take(VALUES, known).astype(np.uint8)
    affine = affine_of("LPS", (1, 1, 2))
    files = {"case.nii.gz": volume(numbers, affine)}
    body = predict(server, files, masks={"m.nii.gz": nifti(values, affine)}).json()["evaluation"]
    found, true = (numbers == 1).sum(), (known == 1).sum()
    assert body["classes"][0]["dice"] == pytest.approx(2 * true / (found + true))
    assert body["classes"][0]["volume_error_ml"] == pytest.approx((found - true) * 2 / 1000)
    assert [row["dice"] for row in body["classes"][1:]] == [1, 1]
    wrong = {
        "lies elsewhere": nifti(values, affine_of("LPS", (1, 1, 3))),
        "one grid": nifti(values[:-1], affine),
        "values": nifti(values + np.uint8(4), affine),
        "below 0": nifti(values.astype(np.int16) - 1, affine),
        "fractions": nifti(values + np.float32(0.5), affine),
    }
    for words, mask in wrong.items():
        answer = predict(server, files, masks={"m.nii.gz": mask})
        refused(answer, 422, "m.nii.gz", words)
        assert words == "fractions" or answer.json()["type"] == "urn:octa:mask-does-not-fit"
    refused(predict(server, files, masks={"m.nii.gz": nifti(values, affine)[:-50]}), 422, "m.nii.gz", "cut off")
    two = {"m.nii.gz": nifti(values, affine), "n.nii.gz": nifti(values, affine)}
    refused(predict(server, files, masks=two), 422, "2 masks came for case")


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("min_object_px", "5"),
        ("max_hole_px", "5"),
        ("field_of_view_mm", "3"),
        ("pixel_size_um", "3"),
        ("vessel_class", "2"),
        ("measure_segments", "true"),
        ("measure_picture", "true"),
    ],
)
def test_options_of_pictures_are_named(server, field, value):
    answer = predict(server, {"case.nii.gz": volume(classes())}, **{field: value})
    refused(answer, 422, field, "for a volume there is no")


def test_bad_files_are_told(server, subtests):
    whole = volume(classes())
    hole = np.zeros(SHAPE, np.float32)
    hole[5, 5, 5] = np.nan
    plain = nifti(classes(), zipped=False)
    header_alone = {"of voxels, it holds 0": plain[:352], "its header alone has 348": plain[:200], "is empty": b""}
    for words, content in header_alone.items():
        with subtests.test(words):
            refused(predict(server, {"bad.nii": content}), 422, "bad.nii", words)
    bad = {
        "of voxels, it holds": gzip.compress(plain[:352]),
        "cut off": whole[: len(whole) // 2],
        "a fourth axis of 2": nifti(np.zeros((*SHAPE, 2), np.float32)),
        "not finite": nifti(hole),
        "not a NIfTI file": b"some text, long enough " * 40,
        "a single slice": nifti(np.zeros((20, 18, 1), np.uint8)),
    }
    for words, content in bad.items():
        with subtests.test(words):
            refused(predict(server, {"bad.nii.gz": content}), 422, "bad.nii.gz", words)
    for sent in ({"files": {"a.tif": b"some text"}}, {"files": {"a.nii.gz": whole}, "masks": {"a.tif": b"some text"}}):
        answer = predict(server, **sent)
        refused(answer, 422, "a.tif is not a TIFF file, whatever its name says")
        assert "BufferedReader" not in answer.text
    other = [("file", ("a.nii.gz", whole)), ("scan", ("b.nii.gz", whole))]
    refused(
        server.post("/predict", files=other, data={"model_id": "one"}), 400, "files came as the form's field 'scan'"
    )
    refused(predict(server, {"big.nii.gz": nifti(np.zeros((50, 50, 50), np.uint8))}), 413, "100,000 voxels")


def test_pictures_and_volumes_do_not_meet(server):
    png = encoded(grey(32, 32))
    refused(predict(server, {"scan.png": png}), 422, "scan.png is no volume")
    one_page = io.BytesIO()
    Image.new("L", (32, 32)).save(one_page, "TIFF")
    refused(predict(server, {"scan.tif": one_page.getvalue()}), 422, "scan.tif", "a single slice")
    refused(predict(server, {"a.nii.gz": volume(classes())}, model_id="flat"), 422, "a.nii.gz is a volume", "flat")
    refused(predict(server, {"a.nii.gz": volume(classes())}, model_id="one,four"), 422, "different modalities")
    refused(server.post("/predict", files=[("mask", ("a.nii.gz", b""))], data={"model_id": "one"}), 400, "0 came")
