from __future__ import annotations

import io
import struct
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import ExifTags, Image

from octa_backend.data.scan_header import read_header
from octa_backend.data.scans import decode_mask, read_image, read_mask
from octa_backend.errors import ScanTooLarge, UnreadableScan
from octa_backend.training.memory import peak_mib
from tests.data.zips import colour, encoded, grey, square

LIMIT = 1_000_000


def image_of(data: bytes, name="a.png"):
    return read_image(io.BytesIO(data), name, LIMIT)


def mask_of(data: bytes, name="a.png"):
    return read_mask(io.BytesIO(data), name, LIMIT)


def header_of(data: bytes, name="a.png"):
    return read_header(io.BytesIO(data), name)


def png_header(width, height):
    """A PNG that announces a size and holds almost nothing."""

    def chunk(kind, data):
        return struct.pack(">L", len(data)) + kind + data + struct.pack(">L", zlib.crc32(kind + data))

    start = chunk(b"IHDR", struct.pack(">LLBBBBB", width, height, 8, 0, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + start + chunk(b"IDAT", zlib.compress(b"\0" * 64)) + chunk(b"IEND", b"")


# --- images -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "BMP"])
def test_grey_images_come_back_exactly(kind):
    found = image_of(encoded(grey(), kind))
    assert (found.shape, found.dtype) == ((1, 24, 24), np.uint8)
    np.testing.assert_array_equal(found[0], grey())


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "BMP"])
def test_colour_images_come_back_exactly_channels_first(kind):
    found = image_of(encoded(colour(), kind))
    assert found.flags.c_contiguous
    np.testing.assert_array_equal(found, colour().transpose(2, 0, 1))


@pytest.mark.parametrize(("mode", "channels"), [("L", 1), ("RGB", 3), ("CMYK", 3)])
def test_jpeg_images_are_read(mode, channels):
    found = image_of(encoded(Image.fromarray(colour()).convert(mode), "JPEG"))
    assert (found.shape, found.dtype) == ((channels, 24, 24), np.uint8)


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_16_bit_images_keep_their_depth(kind):
    picture = grey().astype(np.uint16) * 257
    found = image_of(encoded(picture, kind))
    assert found.dtype == np.uint16
    np.testing.assert_array_equal(found[0], picture)


def test_16_bit_big_endian_images_keep_their_values():
    image = Image.frombytes("I;16B", (24, 24), (grey() * np.uint16(256)).astype(">u2").tobytes())
    found = image_of(encoded(image, "TIFF"))
    assert found.dtype == np.dtype("uint16")
    np.testing.assert_array_equal(found[0], grey().astype(np.uint16) * 256)


WHITE_IS_ZERO = {262: 0}
"""Of a TIFF: its numbers count from white."""


@pytest.mark.parametrize("compression", [None, "tiff_lzw"])
@pytest.mark.parametrize("orientation", [1, 6])
def test_16_bit_images_that_count_from_white_are_read_as_they_look(compression, orientation):
    stored = grey().astype(np.uint16) * 257
    data = encoded(stored, "TIFF", tiffinfo=WHITE_IS_ZERO | {274: orientation}, compression=compression)
    shown = np.rot90(65535 - stored, {1: 0, 6: -1}[orientation])
    found = image_of(data)
    assert found.dtype == np.uint16
    np.testing.assert_array_equal(found[0], shown)
    np.testing.assert_array_equal(mask_of(data), shown)


def test_8_bit_images_that_count_from_white_are_read_as_they_look():
    # Pillow turns these round itself, in writing and in reading.
    np.testing.assert_array_equal(image_of(encoded(grey(), "TIFF", tiffinfo=WHITE_IS_ZERO))[0], grey())


def test_32_bit_whole_numbers_become_16_bit_where_they_fit_and_real_numbers_else():
    small, large = grey().astype(np.int32), grey().astype(np.int32) * 1000
    assert image_of(encoded(small, "TIFF")).dtype == np.uint16
    found = image_of(encoded(large, "TIFF"))
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found[0], large)


def test_real_numbers_are_kept_and_must_be_finite():
    picture = grey().astype(np.float32) / 7
    np.testing.assert_array_equal(image_of(encoded(picture, "TIFF"))[0], picture)
    picture[3, 3] = np.nan
    with pytest.raises(UnreadableScan, match=r"a\.png holds values that are not finite"):
        image_of(encoded(picture, "TIFF"))


def test_1_bit_images_become_0_and_255():
    found = image_of(encoded(Image.fromarray(square()).convert("1")))
    assert found.dtype == np.uint8
    np.testing.assert_array_equal(found[0], square())


def test_palettes_become_rgb_even_with_a_transparent_entry():
    image = Image.fromarray(colour()).quantize(16)
    found = image_of(encoded(image, "PNG", transparency=b"\x00\x80"))
    np.testing.assert_array_equal(found, np.asarray(image.convert("RGB")).transpose(2, 0, 1))


@pytest.mark.parametrize(("mode", "channels"), [("LA", 1), ("RGBA", 3)])
def test_alpha_is_dropped_and_the_header_tells(mode, channels):
    image = Image.fromarray(colour()).convert("L" if channels == 1 else "RGB")
    bare = np.asarray(image)
    image.putalpha(Image.fromarray(grey()))
    data = encoded(image)
    assert header_of(data).has_alpha
    assert header_of(data).channels == channels
    np.testing.assert_array_equal(image_of(data), bare[np.newaxis] if channels == 1 else bare.transpose(2, 0, 1))


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied_once_and_the_header_agrees(kind, orientation):
    picture = np.zeros((32, 48), np.uint8)
    picture[:16, :24] = 255
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    data = encoded(picture, kind, exif=exif)
    found, header = image_of(data)[0], header_of(data)
    assert (header.height, header.width) == found.shape == ((48, 32) if orientation > 4 else (32, 48))
    corner = {1: (0, 0), 2: (0, 1), 3: (1, 1), 4: (1, 0), 5: (0, 0), 6: (0, 1), 7: (1, 1), 8: (1, 0)}[orientation]
    height, width = found.shape
    quarters = found.reshape(2, height // 2, 2, width // 2).mean((1, 3)).round()
    assert np.unravel_index(quarters.argmax(), (2, 2)) == corner


def test_a_path_is_read_like_an_open_file(tmp_path):
    (tmp_path / "x.png").write_bytes(encoded(grey()))
    np.testing.assert_array_equal(read_image(tmp_path / "x.png", "x.png", LIMIT)[0], grey())
    with pytest.raises(FileNotFoundError):
        read_image(tmp_path / "y.png", "y.png", LIMIT)


# --- files that are not scans -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "data", [b"", b"hello\n" * 100, b"%PDF-1.7", encoded(grey(), "WEBP"), encoded(grey(), "PPM"), b"GIF89a"]
)
def test_what_is_not_an_image_is_said_by_name(data):
    for read in (image_of, mask_of, header_of):
        with pytest.raises(UnreadableScan, match=r"scan\.png is (not a PNG|damaged)"):
            read(data, "scan.png")


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "TIFF", "BMP", "GIF"])
def test_images_that_were_cut_off_are_unreadable_never_half_read(kind):
    data = encoded(grey(height=200, width=200), kind)
    with pytest.raises(UnreadableScan, match=r"cut\.png is (damaged|not a PNG)"):
        image_of(data[: len(data) // 2], "cut.png")


def bmp_header(width, height):
    sizes = struct.pack("<LllHHLLllLL", 40, width, height, 1, 8, *[0] * 6)
    return b"BM" + struct.pack("<LLL", 54, 0, 54) + sizes + bytes(4096)


def gif_header(width, height):
    screen = b"GIF89a" + struct.pack("<HHBBB", width, height, 0x80, 0, 0) + bytes(6)
    return screen + b"," + struct.pack("<HHHHB", 0, 0, width, height, 0) + b"\x02\x02\x4c\x01\x00;"


@pytest.mark.parametrize("made", [png_header, bmp_header, gif_header])
def test_a_header_of_1600_million_pixels_costs_nothing(made):
    data = made(40_000, 40_000)
    before = peak_mib("cpu")
    header = header_of(data)
    assert (header.width, header.height) == (40_000, 40_000)
    for read in (image_of, mask_of):
        with pytest.raises(ScanTooLarge, match=r"big\.png is 40000×40000, 1,000,000 pixels are allowed"):
            read(data, "big.png")
    assert peak_mib("cpu") - before < 64


def test_images_below_16_pixels_are_refused_with_their_size():
    with pytest.raises(UnreadableScan, match=r"a\.png is 100×15; both sides need at least 16"):
        image_of(encoded(grey(height=15, width=100)))
    assert image_of(encoded(grey(height=16, width=16))).shape == (1, 16, 16)


@pytest.mark.parametrize("kind", ["GIF", "TIFF", "PNG"])
def test_files_with_several_frames_are_refused_with_their_number(kind):
    frames = [Image.fromarray(grey(n)) for n in range(3)]
    data = encoded(frames[0], kind, save_all=True, append_images=frames[1:])
    assert header_of(data).frames == 3
    with pytest.raises(UnreadableScan, match="has 3 frames; send one scan per file"):
        image_of(data)


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(["PNG", "JPEG", "TIFF", "BMP", "GIF"]), st.integers(0, 600), st.binary(min_size=1, max_size=8))
def test_damaged_images_raise_nothing_but_errors_of_the_product(kind, at, junk):
    data = encoded(grey(), kind)
    damaged = data[:at] + junk + data[at + len(junk) :]
    for read in (image_of, mask_of):
        message = ""
        try:
            assert read(damaged).size > 0
        except (UnreadableScan, ScanTooLarge) as error:
            message = error.message
        assert not message or "a.png" in message


# --- masks --------------------------------------------------------------------------------------------------------


def test_1_bit_masks_are_0_and_1():
    np.testing.assert_array_equal(mask_of(encoded(Image.fromarray(square()).convert("1"))), square(1))


def palette_image(indices, *colours):
    image = Image.frombytes("P", indices.shape[::-1], indices.tobytes())
    image.putpalette([channel for entry in colours for channel in entry])
    return image


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "BMP"])
def test_palette_masks_are_read_by_index(kind):
    image = palette_image(square(3), (200, 10, 10), (0, 0, 255), (9, 9, 9), (0, 255, 0))
    np.testing.assert_array_equal(mask_of(encoded(image, kind)), square(3))


def test_palette_masks_with_black_first_are_read_by_index_though_all_entries_are_grey():
    image = palette_image(square(2), (0, 0, 0), (128, 128, 128), (255, 255, 255))
    np.testing.assert_array_equal(mask_of(encoded(image)), square(2))


@pytest.mark.parametrize("kind", ["PNG", "GIF"])
def test_palette_masks_whose_greys_are_numbered_in_any_order_keep_what_they_show(kind):
    image = palette_image(1 - square(1), (255, 255, 255), (0, 0, 0))
    np.testing.assert_array_equal(mask_of(encoded(image, kind)) > 0, square() > 0)


def test_grey_gif_images_are_read_as_the_greys_they_show():
    found = image_of(encoded(grey(), "GIF"))
    assert all((channel == grey()).all() for channel in found)


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "LA"])
def test_masks_with_equal_channels_are_grey(mode):
    np.testing.assert_array_equal(mask_of(encoded(Image.fromarray(square()).convert(mode))), square())


def test_16_bit_masks_keep_their_values():
    picture = square(65535, np.uint16)
    np.testing.assert_array_equal(mask_of(encoded(picture)), picture)


@pytest.mark.parametrize("dtype", [np.int32, np.float32])
def test_32_bit_masks_of_whole_numbers_are_read(dtype):
    np.testing.assert_array_equal(mask_of(encoded(square(5, dtype), "TIFF")), square(5))


def test_masks_with_fractions_are_refused():
    with pytest.raises(UnreadableScan, match=r"mask m\.tif holds fractions"):
        mask_of(encoded(square(1, np.float32) * np.float32(0.5), "TIFF"), "m.tif")


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_masks_with_values_that_are_no_numbers_are_refused_in_words_of_their_own(value):
    picture = square().astype(np.float32)
    picture[3, 3] = value
    with pytest.raises(UnreadableScan, match=r"mask a\.png holds values that are not finite \(NaN or infinity\)"):
        mask_of(encoded(picture, "TIFF"))


def test_coloured_masks_are_refused_and_their_colours_told():
    picture = np.zeros((24, 24, 3), np.uint8)
    picture[:5], picture[5:9] = (255, 0, 0), (0, 0, 255)
    pixels = decode_mask(io.BytesIO(encoded(picture)), "m.png", LIMIT)
    assert pixels.values is None
    assert set(pixels.colours) == {(0, 0, 0), (255, 0, 0), (0, 0, 255)}
    with pytest.raises(UnreadableScan, match=r"mask m\.png has 3 colours"):
        mask_of(encoded(picture), "m.png")
