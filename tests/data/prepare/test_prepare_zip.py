"""Zip archives that are broken or mean harm are refused in one sentence."""

from __future__ import annotations

import stat
import struct
import zipfile

import numpy as np
import pytest

from prepare_raw_files import RATINGS, write_zip
from recbole_evcf.data.prepare import prepare

CORRUPT = "cannot be read, or is a corrupt archive"


def refused(path, message):
    output = path.parent / "out"
    with pytest.raises(ValueError, match=message) as caught:
        prepare("ml-20m", path, output=output)
    assert "\n" not in str(caught.value)
    assert str(path) in str(caught.value)
    assert not output.exists()


@pytest.mark.parametrize("share", [0.02, 0.5, 0.99])
@pytest.mark.parametrize("truncated", [True, False])
def test_a_corrupt_archive(tmp_path, share, truncated):
    rows = np.random.default_rng(0).integers(0, 10**6, (20_000, 2))
    text = RATINGS + "".join(f"{user},{item},4,9\n" for user, item in rows)
    path = write_zip(tmp_path / "ml-20m.zip", {"ml-20m/ratings.csv": text})
    whole = path.read_bytes()
    place = int(share * len(whole))
    path.write_bytes(whole[:place] + (b"" if truncated else bytes(1000) + whole[place + 1000 :]))
    refused(path, CORRUPT)


OUTSIDE = ["../evil.txt", "/etc/evil", "ml-20m/../../evil", "..\\evil", "C:\\evil", "C:/evil"]


@pytest.mark.parametrize("name", OUTSIDE)
def test_an_archive_that_points_outside(tmp_path, name):
    path = write_zip(tmp_path / "ml-20m.zip", {"ml-20m/ratings.csv": RATINGS, name: "evil"})
    refused(path, "points outside the archive")


@pytest.mark.parametrize("bomb", [RATINGS + "1,2,4,5\n" * 10**6, "\0" * 10**7])
def test_an_archive_that_explodes(tmp_path, bomb):
    refused(write_zip(tmp_path / "ml-20m.zip", {"ratings.csv": bomb}), "'ratings.csv' would unpack")


@pytest.mark.parametrize(
    ("format", "local", "central", "value", "message"),
    [
        ("<H", 6, 8, 1, "encrypted"),
        ("<H", 8, 10, 99, "compression method"),
        ("<I", 14, 16, 1234, CORRUPT),
        # No more than the bytes that it claims are unpacked, and they fit no checksum.
        ("<I", 22, 24, 40, CORRUPT),
        ("<I", 22, 24, 2**32 - 2, "would unpack to 4,294,967,294 bytes"),
    ],
    ids=["encrypted", "unknown compression", "checksum", "size understated", "size claimed"],
)
def test_a_header_that_lies(tmp_path, format, local, central, value, message):
    """Bytes are changed in the header of the archive's file and in its list of files."""
    path = write_zip(tmp_path / "ml-20m.zip", {"ratings.csv": RATINGS + "9,9,4,9\n" * 50_000})
    content = bytearray(path.read_bytes())
    for signature, place in ((b"PK\x03\x04", local), (b"PK\x01\x02", central)):
        struct.pack_into(format, content, content.index(signature) + place, value)
    path.write_bytes(content)
    refused(path, message)


def test_a_link_in_an_archive_is_not_followed(tmp_path):
    (tmp_path / "secret.csv").write_text(RATINGS)
    path = tmp_path / "ml-20m.zip"
    with zipfile.ZipFile(path, "w") as archive:
        link = zipfile.ZipInfo("ml-20m/ratings.csv")
        link.create_system = 3
        link.external_attr = (stat.S_IFLNK | 0o777) << 16
        archive.writestr(link, str(tmp_path / "secret.csv"))
    refused(path, "line 1: the column userId is not in the header")
