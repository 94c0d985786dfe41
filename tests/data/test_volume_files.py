import gzip

import nibabel as nib
import numpy as np
import pytest

from octa_backend.data.nifti import nifti_gz
from octa_backend.data.volume_files import read_volume, read_volume_header, read_volume_mask
from octa_backend.errors import ScanTooLarge, UnreadableScan
from tests.volumes import SHAPE, affine_of, case, nifti, stack, with_header

MANY = 10**7


def plain(values=None, **options):
    return nifti(np.ones(SHAPE, np.uint8) if values is None else values, zipped=False, **options)


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize(
    ("stored", "decoded"),
    [
        (np.uint8, "uint8"),
        (np.uint16, "uint16"),
        (np.int16, "uint16"),
        (np.float32, "float32"),
        (np.float64, "float32"),
    ],
)
def test_nifti_is_read_in_our_order_of_axes(stored, decoded, zipped):
    image, _ = case(dtype=stored)
    volume = read_volume(nifti(image, affine_of("RAS", (1, 2, 3)), zipped=zipped), "a.nii.gz", MANY)
    assert volume.values.dtype.name == decoded
    assert volume.spacing_mm == (3, 2, 1)
    np.testing.assert_array_equal(volume.values[0], image.transpose(2, 1, 0).astype(decoded))


def test_header_is_read_without_the_voxels():
    content = nifti(np.zeros((4, 20, 30), np.int16), affine_of("SPL", (0.1, 5, 0.2), (4, 20, 30)))
    header = read_volume_header(content, "a.nii.gz")
    assert (header.shape, header.spacing_mm, header.orientation) == ((4, 20, 30), (0.2, 5.0, 0.1), "SPL")
    assert (header.dtype, header.format, header.channels, header.size) == ("int16", "NIfTI", 1, "4×20×30")


def test_negative_numbers_become_float32():
    values = np.full(SHAPE, -1000, np.int16)
    assert read_volume(nifti(values), "a.nii", MANY).values.dtype == np.float32


def test_scale_of_the_header_is_applied():
    content = with_header(plain(np.full(SHAPE, 3, np.uint8)), scl_slope=0.5, scl_inter=10)
    assert (read_volume(content, "a.nii", MANY).values == 11.5).all()


def test_micrometres_are_told_in_millimetres():
    content = with_header(plain(affine=affine_of(spacing=(10, 10, 50))), xyzt_units=3)
    assert read_volume_header(content, "a.nii").spacing_mm == pytest.approx((0.05, 0.01, 0.01))


def test_both_byte_orders_and_nifti_2_are_read():
    image, _ = case(dtype=np.int16)
    swapped = nib.Nifti1Image(image, affine_of(), nib.Nifti1Header(endianness=">")).to_bytes()
    second = nib.Nifti2Image(image, affine_of()).to_bytes()
    for content in (swapped, second):
        np.testing.assert_array_equal(read_volume(content, "a.nii", MANY).values[0].T, image)


def test_a_fourth_axis_of_one_is_none():
    volume = read_volume(nifti(np.ones((*SHAPE, 1), np.uint8)), "a.nii.gz", MANY)
    assert volume.values.shape == (1, 16, 18, 20)


def test_a_fourth_axis_holds_channels_where_that_is_allowed():
    values = np.stack([np.full(SHAPE, 1, np.uint8), np.full(SHAPE, 2, np.uint8)], axis=-1)
    volume = read_volume(nifti(values), "a.nii.gz", MANY, channels_allowed=True)
    assert volume.values.shape == (2, 16, 18, 20)
    assert (volume.values[1] == 2).all()
    with pytest.raises(UnreadableScan, match="fourth axis of 2"):
        read_volume(nifti(values), "a.nii.gz", MANY)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_stacks_of_pages_are_volumes(dtype):
    values = np.arange(3 * 16 * 20).reshape(3, 16, 20).astype(dtype)
    volume = read_volume(stack(values), "a.tif", MANY)
    np.testing.assert_array_equal(volume.values[0], values)
    assert volume.values.dtype == dtype
    assert volume.spacing_mm == (1, 1, 1)
    assert volume.geometry.orientation == ""


def test_stacks_that_count_from_white_are_read_as_they_look():
    values = np.arange(3 * 16 * 20).reshape(3, 16, 20).astype(np.uint16)
    volume = read_volume(stack(values, tiffinfo={262: 0}), "a.tif", MANY)
    np.testing.assert_array_equal(volume.values[0], 65535 - values)


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.float32, np.float64])
def test_masks_hold_whole_numbers_however_they_are_stored(dtype):
    _, mask = case()
    found = read_volume_mask(nifti((4 * mask).astype(dtype)), "m.nii.gz", MANY).values
    assert found.dtype.kind in "iu"
    np.testing.assert_array_equal(found.T, 4 * mask)


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.int32])
def test_masks_whose_numbers_were_rounded_to_a_scale_are_the_whole_numbers_beside_them(dtype):
    _, mask = case()
    header = nib.Nifti1Header()
    header.set_data_dtype(dtype)
    content = nib.Nifti1Image(mask.astype(np.float64) * 3, affine_of(), header).to_bytes()
    stored = nib.Nifti1Image.from_bytes(content)
    assert stored.dataobj.slope != 1, "nibabel writes a scale"
    found = read_volume_mask(content, "m.nii", MANY).values
    assert found.dtype.kind in "iu"
    np.testing.assert_array_equal(found.T, 3 * mask)


def test_fractions_on_a_scale_are_refused():
    for slope in (0.01, 0.5):
        content = with_header(plain(np.full(SHAPE, 5, np.uint8)), scl_slope=slope)
        with pytest.raises(UnreadableScan, match=r"mask m\.nii holds fractions"):
            read_volume_mask(content, "m.nii", MANY)


def test_masks_of_fractions_are_refused():
    with pytest.raises(UnreadableScan, match=r"mask m\.nii\.gz holds fractions"):
        read_volume_mask(nifti(np.full(SHAPE, 0.5, np.float32)), "m.nii.gz", MANY)


def test_masks_with_values_that_are_no_numbers_are_refused_in_words_of_their_own():
    with pytest.raises(UnreadableScan, match=r"mask m\.nii\.gz holds values that are not finite \(NaN or infinity\)"):
        read_volume_mask(nifti(np.full(SHAPE, np.nan, np.float32)), "m.nii.gz", MANY)


@pytest.mark.parametrize(("unit", "side_mm"), [("micron", 0.01), ("mm", 10), ("meter", 10_000)])
def test_affines_are_in_mm_whatever_the_files_unit_is(unit, side_mm):
    image = nib.Nifti1Image(case()[0], affine_of("LPS", (10, 10, 10)))
    image.header.set_xyzt_units(unit)
    volume = read_volume(image.to_bytes(), "a.nii", MANY)
    assert volume.spacing_mm == (side_mm,) * 3
    np.testing.assert_allclose(nib.affines.voxel_sizes(volume.affine), side_mm)


def test_a_volume_can_be_written_and_read_again_with_equal_bytes():
    image, _ = case()
    affine = affine_of("LPS", (1, 2, 3))
    assert nifti_gz(image, affine) == nifti_gz(image, affine)
    volume = read_volume(nifti_gz(image, affine), "a.nii.gz", MANY)
    assert volume.geometry.orientation == "LPS"


def bad_time_points():
    return nifti(np.zeros((16, 16, 2, 17), np.uint8))


def not_finite(value):
    values = np.ones(SHAPE, np.float32)
    values[3, 4, 5] = value
    return nifti(values)


def forged(**fields):
    return with_header(plain(), **fields)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", r"is empty \(0 bytes\)"),
        (b"hello, I am text and no volume at all", "not a NIfTI file"),
        (plain()[:100], "its header alone has 348"),
        (plain()[:352], r"declares 5,760 bytes of voxels, it holds 0"),
        (plain()[:-1], "cut off"),
        (nifti(case()[0])[:-200], "cut off or damaged"),
        (nifti(case()[0])[:20], "cut off or damaged"),
        (gzip.compress(b"\x5c\x01\x00\x00"), "cut off"),
        (forged(dim=[3, 200, 200, 20, 1, 1, 1, 1]), r"declares 800,000 bytes of voxels, it holds 5,760"),
        (forged(dim=[3, 20, 18, 2, 1, 1, 1, 1]), "holds more bytes than the 720"),
        (gzip.compress(plain() + bytes(10**7)), "holds more bytes"),
        (forged(dim=[0, 20, 18, 16, 1, 1, 1, 1]), "makes no sense: 0 axes"),
        (forged(dim=[3, -20, 18, 16, 1, 1, 1, 1]), "makes no sense: a size of -20×18×16"),
        (forged(datatype=99), "makes no sense"),
        (forged(datatype=128), "colours"),
        (forged(datatype=32), "complex numbers"),
        (forged(vox_offset=np.nan), "makes no sense"),
        (forged(vox_offset=1e30), "begin at byte 1e"),
        (forged(srow_x=[0, 0, 0, 0]), "affine"),
        (forged(magic=b"ni1"), "one half of a pair"),
        (bad_time_points(), "fourth axis of 17"),
        (nifti(np.zeros((16, 16, 2, 2, 2), np.uint8)), "has 5 axes"),
        (not_finite(np.nan), "not finite"),
        (not_finite(np.inf), "not finite"),
        (nifti(np.full(SHAPE, 1e300)), "not finite"),
        (nifti(np.zeros((30, 30, 1), np.uint8)), "a single slice; send it as a 2-D picture"),
        (nifti(np.zeros((30, 30), np.uint8)), "a single slice"),
        (nifti(np.zeros((8, 30, 8), np.uint8)), "at least 16 voxels"),
    ],
)
def test_bad_volumes_are_refused_in_words(content, words):
    with pytest.raises(UnreadableScan, match=words) as caught:
        read_volume(content, "bad.nii.gz", MANY)
    assert "bad.nii.gz" in caught.value.message


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"no tiff", "not a TIFF"),
        (stack(np.zeros((1, 20, 20), np.uint8)), "a single slice"),
        (stack(np.zeros((4, 20, 20, 3), np.uint8)), "pages of kind RGB"),
        (stack([np.zeros((20, 20), np.uint8), np.zeros((20, 24), np.uint8)]), "page 2 24×20"),
        (stack(np.full((3, 20, 20), np.nan, np.float32)), "not finite"),
        (stack(np.ones((3, 20, 20), np.float32))[:500], "damaged|not a TIFF"),
    ],
)
def test_bad_stacks_are_refused_in_words(content, words):
    with pytest.raises(UnreadableScan, match=words):
        read_volume(content, "bad.tif", MANY)


def test_too_many_voxels_are_refused_before_they_are_unpacked():
    bomb = gzip.compress(forged(dim=[3, 30_000, 30_000, 30_000, 1, 1, 1, 1]) + bytes(10**6))
    with pytest.raises(ScanTooLarge, match="30000×30000×30000, 10,000,000 voxels are allowed"):
        read_volume(bomb, "bomb.nii.gz", MANY)
    with pytest.raises(ScanTooLarge, match="of 2 channels"):
        read_volume(nifti(np.zeros((*SHAPE, 2), np.uint8)), "a.nii.gz", 10_000, channels_allowed=True)
