from __future__ import annotations

import random
import stat
import struct
import warnings
import zipfile
import zlib

import pytest

from octa_backend.data.archive import Archive
from octa_backend.errors import ArchiveTooLarge, InvalidArchive, UnreadableScan, UnsafeArchive
from tests.data.zips import raw_zip, zip_of

MIB = 2**20


def opened(path, *, max_files=100, max_unpacked_bytes=64 * MIB, max_ratio=100.0):
    return Archive(path, max_files=max_files, max_unpacked_bytes=max_unpacked_bytes, max_ratio=max_ratio)


def names_in(path):
    with opened(path) as archive:
        return sorted(archive.members)


def entry(name, *, mode=0, flags=0, method=zipfile.ZIP_DEFLATED):
    info = zipfile.ZipInfo(name)
    info.external_attr = mode << 16
    info.flag_bits = flags
    info.compress_type = method
    return info


# --- not an archive -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "complaint"),
    [
        (b"", r"empty \(0 bytes\)"),
        (b"stem,split\n1,train\n", "not a zip archive"),
        (b"Rar!\x1a\x07\x01\x00" + bytes(100), "a RAR archive; send a zip"),
        (b"7z\xbc\xaf\x27\x1c" + bytes(100), "a 7z archive; send a zip"),
        (b"\x1f\x8b\x08" + bytes(100), "a gzip archive; send a zip"),
    ],
)
def test_what_is_not_a_zip_is_said_as_what_it_is(tmp_path, data, complaint):
    (tmp_path / "a.zip").write_bytes(data)
    with pytest.raises(InvalidArchive, match=complaint):
        opened(tmp_path / "a.zip")


def test_an_upload_that_was_cut_off_is_said_to_be(tmp_path):
    path = zip_of(tmp_path / "a.zip", {"images/1.png": bytes(1000), "masks/1.png": bytes(1000)})
    path.write_bytes(path.read_bytes()[:-30])
    with pytest.raises(InvalidArchive, match="damaged or was cut off"):
        opened(path)


@pytest.mark.parametrize("files", [{}, {"images/": b"", "masks/": b""}, {"__MACOSX/x": b"", ".DS_Store": b"1"}])
def test_a_zip_without_files_is_empty(tmp_path, files):
    with pytest.raises(InvalidArchive, match="the archive is empty"):
        opened(zip_of(tmp_path / "a.zip", files))


# --- what is never unpacked ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("/etc/passwd", "an absolute path"),
        ("//server/share/x.png", "an absolute path"),
        ("\\\\server\\x.png", "an absolute path"),
        ("C:/x.png", "an absolute path"),
        ("c:\\x.png", "an absolute path"),
        ("c:x.png", "an absolute path"),
        ("../x.png", "a path out of the archive"),
        ("images/../../x.png", "a path out of the archive"),
        ("images\\..\\..\\x.png", "a path out of the archive"),
        ("images/..", "a path out of the archive"),
        ("__MACOSX/../../x", "a path out of the archive"),
        ("../folder/", "a path out of the archive"),
        ("a\nb.png", "named with control characters"),
        ("images.zip", "an archive in the archive"),
        ("more/scans.tar.gz", "an archive in the archive"),
        ("scans.7Z", "an archive in the archive"),
        ("x.rar", "an archive in the archive"),
    ],
)
def test_paths_that_are_never_unpacked_are_refused_with_the_reason(tmp_path, name, reason):
    with pytest.raises(UnsafeArchive, match=reason) as raised:
        opened(zip_of(tmp_path / "a.zip", {name: b"x", "images/1.png": b"y"}))
    assert raised.value.message.startswith("1 of the archive's entries are refused")


def test_a_nul_in_a_name_is_refused(tmp_path):
    with pytest.raises(UnsafeArchive, match="control characters"):
        opened(raw_zip(tmp_path / "a.zip", [(b"a.png\0.exe", b"x")]))


def test_a_file_without_a_name_is_refused(tmp_path):
    with pytest.raises(UnsafeArchive, match="without a name"):
        opened(raw_zip(tmp_path / "a.zip", [(b"", b"x")]))


@pytest.mark.parametrize(
    ("mode", "reason"),
    [(stat.S_IFLNK, "a link"), (stat.S_IFIFO, "a special file"), (stat.S_IFCHR, "a special file")],
)
def test_links_and_special_files_are_refused(tmp_path, mode, reason):
    with pytest.raises(UnsafeArchive, match=f"'images/1.png' is {reason}"):
        opened(zip_of(tmp_path / "a.zip", [(entry("images/1.png", mode=mode | 0o777), b"/etc/passwd")]))


def test_encrypted_members_are_refused(tmp_path):
    with pytest.raises(UnsafeArchive, match=r"'images/1\.png' is encrypted"):
        opened(raw_zip(tmp_path / "a.zip", [(b"images/1.png", b"x" * 20)], flags=1))


def test_offenders_are_all_counted_and_the_first_20_named(tmp_path):
    with pytest.raises(UnsafeArchive) as raised:
        opened(zip_of(tmp_path / "a.zip", {f"../{n:02}.png": b"x" for n in range(25)}))
    message = raised.value.message
    assert message.startswith("25 of")
    assert "'../19.png'" in message
    assert "'../20.png'" not in message
    assert "and 5 more" in message


def test_volumes_are_not_taken_for_nested_archives(tmp_path):
    assert names_in(zip_of(tmp_path / "a.zip", {"imagesTr/1.nii.gz": b"x"})) == ["imagesTr/1.nii.gz"]


# --- names --------------------------------------------------------------------------------------------------------


def test_what_operating_systems_leave_behind_is_not_seen(tmp_path):
    junk = ["__MACOSX/images/._1.png", ".DS_Store", "images/.hidden.png", "images/Thumbs.db", "masks/desktop.ini"]
    assert names_in(zip_of(tmp_path / "a.zip", dict.fromkeys([*junk, "images/1.png"], b"x"))) == ["images/1.png"]


def test_backslashes_and_dots_inside_the_archive_are_harmless(tmp_path):
    found = names_in(
        zip_of(tmp_path / "a.zip", {"images\\1.png": b"x", "./masks/./1.png": b"x", "./": b"", "d\\": b""})
    )
    assert found == ["images/1.png", "masks/1.png"]


@pytest.mark.parametrize(
    ("encoding", "flags", "name"),
    [
        ("utf-8", 0x800, "图像/左眼.png"),
        ("utf-8", 0, "图像/左眼.png"),
        ("gb18030", 0, "图像/左眼.png"),
        ("cp437", 0, "é.png"),
    ],
)
def test_names_are_decoded_as_they_were_meant(tmp_path, encoding, flags, name):
    assert names_in(raw_zip(tmp_path / "a.zip", [(name.encode(encoding), b"x")], flags=flags)) == [name]


def test_one_encoding_is_used_for_the_whole_archive(tmp_path):
    files = [("é.png".encode("cp437"), b"x"), ("é_mask.png".encode("cp437"), b"x")]
    assert names_in(raw_zip(tmp_path / "a.zip", files)) == ["é.png", "é_mask.png"]


def test_the_unicode_path_field_wins_if_it_belongs_to_the_name(tmp_path):
    right, wrong = (
        struct.pack("<HHBL", 0x7075, 5 + 10, 1, zlib.crc32(name)) + "眼1.png".encode() + b"!" * (10 - 8)
        for name in (b"x.png", b"y.png")
    )
    assert names_in(raw_zip(tmp_path / "a.zip", [(b"x.png", b"x")], extra=right)) == ["眼1.png!!"]
    assert names_in(raw_zip(tmp_path / "b.zip", [(b"x.png", b"x")], extra=wrong)) == ["x.png"]


def test_decomposed_letters_of_macos_are_composed(tmp_path):
    assert names_in(zip_of(tmp_path / "a.zip", {"e\u0301.png": b"x"})) == ["é.png"]


def test_duplicates_are_counted_and_the_first_is_read(tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        path = zip_of(
            tmp_path / "a.zip", [("1.png", b"first"), ("1.png", b"second"), ("./1.png", b"third"), ("2", b"")]
        )
    with opened(path) as archive:
        assert archive.duplicates == {"1.png": 3}
        assert archive.read("1.png", MIB) == b"first"


# --- sizes --------------------------------------------------------------------------------------------------------


def test_too_many_files_are_refused_with_found_and_allowed(tmp_path):
    path = zip_of(tmp_path / "a.zip", {f"{n}.png": b"x" for n in range(6)})
    with pytest.raises(ArchiveTooLarge, match="6 files, 5 are allowed"):
        opened(path, max_files=5)


def test_a_directory_of_very_many_entries_is_not_even_listed(tmp_path):
    path = raw_zip(tmp_path / "a.zip", [(b"1", b"")] * 2000)
    with pytest.raises(ArchiveTooLarge, match="at least 1,010 folders and files, 5 are allowed"):
        opened(path, max_files=5)


def test_too_many_unpacked_bytes_are_refused_with_found_and_allowed(tmp_path):
    path = zip_of(tmp_path / "a.zip", {"1.png": bytes(MIB), "2.png": bytes(MIB)})
    with pytest.raises(ArchiveTooLarge, match=r"unpacks to 2\.0 MiB, 1\.5 MiB are allowed"):
        opened(path, max_unpacked_bytes=3 * MIB // 2)


def test_a_bomb_is_refused_with_found_and_allowed(tmp_path):
    path = zip_of(tmp_path / "a.zip", {"images/1.png": bytes(8 * MIB)})
    with pytest.raises(ArchiveTooLarge, match=r"the archive is compressed 1,0\d\d times, 100 times are allowed; send"):
        opened(path)


def test_an_uncompressed_mask_may_compress_well_beside_its_image(tmp_path):
    image = random.Random(0).randbytes(MIB)
    path = zip_of(tmp_path / "a.zip", {"imagesTr/1.nii": image, "labelsTr/1.nii": bytes(8 * MIB)})
    assert names_in(path) == ["imagesTr/1.nii", "labelsTr/1.nii"]


def test_small_members_may_compress_as_well_as_they_like(tmp_path):
    assert names_in(zip_of(tmp_path / "a.zip", {"black.png": bytes(MIB)})) == ["black.png"]


def test_members_that_share_their_bytes_are_held_against_the_size_on_disk(tmp_path):
    path = zip_of(tmp_path / "a.zip", {"1.bin": b"".join(n.to_bytes(4, "big") for n in range(600_000))})
    with zipfile.ZipFile(path, "a") as archive:
        shared = archive.getinfo("1.bin")
        for number in range(2, 30):
            twin = entry(f"{number}.bin")
            twin.header_offset, twin.CRC = shared.header_offset, shared.CRC
            twin.compress_size, twin.file_size = shared.compress_size, shared.file_size
            archive.filelist.append(twin)
        archive._didModify = True
    with pytest.raises(ArchiveTooLarge, match="the archive is compressed"):
        opened(path, max_ratio=30, max_unpacked_bytes=1000 * MIB)


# --- reading ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA], ids=str
)
def test_members_are_read_whole_in_every_method_of_python(tmp_path, method):
    path = zip_of(tmp_path / "a.zip", [(entry("1.png", method=method), bytes(range(256)) * 40)])
    with opened(path) as archive:
        assert archive.read("1.png", MIB) == bytes(range(256)) * 40


def test_a_method_that_python_cannot_do_is_a_fault_of_the_file(tmp_path):
    with (
        opened(raw_zip(tmp_path / "a.zip", [(b"1.png", b"x")], method=9)) as archive,
        pytest.raises(UnreadableScan, match=r"1\.png is damaged in the archive: .*compression"),
    ):
        archive.read("1.png", MIB)


def test_damaged_data_is_a_fault_of_the_file(tmp_path):
    path = zip_of(tmp_path / "a.zip", [(entry("1.png", method=zipfile.ZIP_STORED), b"A" * 1000)])
    path.write_bytes(path.read_bytes().replace(b"AAAA", b"AABA", 1))
    with opened(path) as archive, pytest.raises(UnreadableScan, match=r"1\.png is damaged in the archive: Bad CRC"):
        archive.read("1.png", MIB)


@pytest.mark.parametrize("declared", [10, 2 * MIB - 1])
def test_a_lie_about_the_size_stops_the_reading(tmp_path, declared):
    packed = zlib.compressobj(wbits=-15)
    data = packed.compress(bytes(MIB)) + packed.flush()
    crc = zlib.crc32(bytes(MIB))
    path = raw_zip(tmp_path / "a.zip", [(b"1.png", data)], method=8, declared=declared, crc=crc)
    with opened(path, max_ratio=10_000) as archive, pytest.raises(UnreadableScan, match="is damaged in the archive"):
        archive.read("1.png", 4 * MIB)


def test_a_member_larger_than_the_caller_allows_is_not_read(tmp_path):
    with (
        opened(zip_of(tmp_path / "a.zip", {"1.png": bytes(MIB)})) as archive,
        pytest.raises(UnreadableScan, match=r"1\.png unpacks to 1\.0 MiB, 0\.5 MiB are allowed"),
    ):
        archive.read("1.png", MIB // 2)
