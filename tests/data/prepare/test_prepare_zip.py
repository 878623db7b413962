"""Zip archives that are broken or mean harm are refused in one sentence."""

from __future__ import annotations

import stat
import struct
import zipfile

import numpy as np
import pytest

from prepare_raw_files import RATINGS, everything_under, write_zip
from recbole_evcf import cli
from recbole_evcf.data.prepare import prepare_ml_20m, source


def refused(path, message):
    output = path.parent / "out"
    with pytest.raises(ValueError, match=message) as caught:
        prepare_ml_20m(path, output=output, show_progress=False)
    assert "\n" not in str(caught.value)
    assert str(path) in str(caught.value)
    assert not output.exists()


def big_ratings() -> str:
    rows = np.random.default_rng(0).integers(0, 10**6, (20_000, 2))
    return "userId,movieId,rating,timestamp\n" + "".join(f"{u},{i},4,9\n" for u, i in rows)


@pytest.mark.parametrize("share", [0.02, 0.5, 0.99])
def test_a_truncated_archive(tmp_path, share):
    path = write_zip(tmp_path / "ml-20m.zip", {"ml-20m/ratings.csv": big_ratings()})
    whole = path.read_bytes()
    path.write_bytes(whole[: int(share * len(whole))])
    refused(path, "the zip archive is broken or incomplete")


def test_an_archive_with_a_damaged_middle(tmp_path):
    path = write_zip(tmp_path / "ml-20m.zip", {"ml-20m/ratings.csv": big_ratings()})
    damaged = bytearray(path.read_bytes())
    middle = len(damaged) // 2
    damaged[middle : middle + 1000] = bytes(1000)
    path.write_bytes(damaged)
    refused(path, "the zip archive is broken or incomplete|is not a|expected 4 fields")


def test_a_file_that_is_no_archive(tmp_path):
    path = tmp_path / "ml-20m.zip"
    path.write_text(RATINGS)
    refused(path, "the zip archive is broken or incomplete")


@pytest.mark.parametrize(
    "name", ["../evil.txt", "/etc/evil", "ml-20m/../../evil", "..\\evil", "C:\\evil", "C:/evil"]
)
def test_an_archive_that_points_outside(tmp_path, name):
    path = write_zip(tmp_path / "ml-20m.zip", {"ml-20m/ratings.csv": RATINGS, name: "evil"})
    refused(path, "points outside the archive")


def test_an_archive_that_explodes(tmp_path):
    text = "userId,movieId,rating,timestamp\n" + "1,2,4,5\n" * 500_000
    refused(write_zip(tmp_path / "ml-20m.zip", {"ratings.csv": text}), "refused, as ratings.csv")


def test_an_archive_that_is_too_large(tmp_path, monkeypatch):
    monkeypatch.setattr(source, "MAX_MEMBER_BYTES", 50)
    refused(write_zip(tmp_path / "ml-20m.zip", {"ratings.csv": RATINGS}), "at most 50 bytes")


def test_an_archive_with_a_file_twice(tmp_path):
    path = tmp_path / "ml-20m.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("ratings.csv", RATINGS)
        with pytest.warns(UserWarning, match="Duplicate"):
            archive.writestr("ratings.csv", RATINGS)
    refused(path, "holds ratings.csv more than once")


def written_with_a_byte_changed(folder, local: int, central: int, change):
    """An archive of ratings with a byte changed in the header of its file and in the list."""
    path = write_zip(folder / "ml-20m.zip", {"ratings.csv": RATINGS})
    content = bytearray(path.read_bytes())
    for signature, place in ((b"PK\x03\x04", local), (b"PK\x01\x02", central)):
        at = content.index(signature) + place
        content[at] = change(content[at])
    path.write_bytes(content)
    return path


def test_an_encrypted_archive(tmp_path):
    path = written_with_a_byte_changed(tmp_path, 6, 8, lambda flags: flags | 1)
    refused(path, "ratings.csv is encrypted")


def test_an_unknown_compression(tmp_path):
    path = written_with_a_byte_changed(tmp_path, 8, 10, lambda method: 99)
    refused(path, "the zip archive is broken or incomplete")


def test_a_link_in_an_archive_is_not_followed(tmp_path):
    (tmp_path / "secret.csv").write_text(RATINGS)
    path = tmp_path / "ml-20m.zip"
    with zipfile.ZipFile(path, "w") as archive:
        link = zipfile.ZipInfo("ml-20m/ratings.csv")
        link.create_system = 3
        link.external_attr = (stat.S_IFLNK | 0o777) << 16
        archive.writestr(link, str(tmp_path / "secret.csv"))
    refused(path, "line 1: the column userId is missing from the header")


def test_a_few_kilobytes_of_zeros(tmp_path):
    path = tmp_path / "ml-20m.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("ratings.csv", bytes(10_000_000))
    assert path.stat().st_size < 20_000
    refused(path, "refused, as ratings.csv would unpack from 9,7.. to 10,000,000 bytes")


@pytest.mark.parametrize("size", [100 * 10**9, 2**40])
def test_a_size_that_is_claimed(tmp_path, size):
    path = tmp_path / "ml-20m.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("ratings.csv", RATINGS)
        # What the list of contents will say, as it is written last.
        archive.infolist()[0].file_size = size
    refused(path, f"refused, as ratings.csv would unpack from .* to {size:,} bytes")


@pytest.mark.parametrize("claimed", [10, 40])
def test_a_size_that_is_understated(tmp_path, claimed):
    """No more than the claimed bytes are unpacked, and they fit no checksum."""
    path = tmp_path / "ml-20m.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("ratings.csv", RATINGS + "9,9,4,9\n" * 500_000)
    content = bytearray(path.read_bytes())
    for signature, place in ((b"PK\x03\x04", 22), (b"PK\x01\x02", 24)):
        struct.pack_into("<I", content, content.index(signature) + place, claimed)
    path.write_bytes(content)
    refused(path, "the zip archive is broken or incomplete")


def test_a_wrong_checksum(tmp_path):
    path = written_with_a_byte_changed(tmp_path, 14, 16, lambda checksum: checksum ^ 255)
    refused(path, "the zip archive is broken or incomplete")


def test_an_archive_of_folders_in_folders(tmp_path):
    refused(
        write_zip(tmp_path / "ml-20m.zip", {"ml-20m/ml-20m/ratings.csv": RATINGS}),
        "holds no ratings.csv",
    )


@pytest.mark.parametrize("name", ["../../x", "/tmp/x", "..", "a/b", "-x", "x\x1b[31m"])
def test_a_name_that_leaves_the_folder(tmp_path, name, capsys):
    raw = write_zip(tmp_path / "ml-20m.zip", {"ratings.csv": RATINGS})
    output = tmp_path / "deep" / "er" / "out"
    before = everything_under(tmp_path)
    arguments = ["prepare", "ml-20m", f"--raw={raw}", f"--name={name}", f"--output={output}"]
    assert cli.main(arguments) == 2
    error = capsys.readouterr().err
    assert "is not fit for a folder" in error
    assert error.count("\n") == 1
    assert "\x1b" not in error
    assert everything_under(tmp_path) == before
