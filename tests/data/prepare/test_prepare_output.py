"""A data set appears complete or not at all; archives that are broken or mean harm are refused."""

import stat
import struct
import zipfile
from pathlib import Path

import pytest

from prepare_raw_files import MOVIES, RATINGS, everything_under, write_files, write_zip
from recbole_evcf.data.prepare import prepare as prepare_any


@pytest.fixture
def raw(tmp_path):
    return write_files(tmp_path / "raw", {"ratings.csv": RATINGS, "movies.csv": MOVIES})


def prepare(raw, output, **options):
    return prepare_any(raw, None, "ml-20m", output, **options)


def test_only_overwrite_replaces_a_data_set(tmp_path, raw):
    folder = write_files(tmp_path / "out" / "ml-20m", {"ml-20m.kg": "old"})
    with pytest.raises(ValueError, match="ml-20m: exists already"):
        prepare(raw, tmp_path / "out")
    assert everything_under(tmp_path / "out") == ["ml-20m", "ml-20m/ml-20m.kg"]
    prepare(raw, tmp_path / "out", overwrite=True)
    assert everything_under(tmp_path / "out")[1:] == ["ml-20m/ml-20m.inter", "ml-20m/ml-20m.item"]
    for path in folder.iterdir():
        path.unlink()
    prepare(raw, tmp_path / "out")
    assert len(everything_under(tmp_path / "out")) == 3


OTHERS = ["main.py", "ml-20m", "ml-20m.d/x", ".git/x", "ml-20mx.inter"]
RAW = ["ratings.csv", "ml-20m/ratings.csv"]


@pytest.mark.parametrize("other", [*OTHERS, *RAW])
def test_a_folder_with_anything_else_is_not_replaced(tmp_path, raw, other):
    folder = write_files(tmp_path / "out" / "ml-20m", {"ml-20m.inter": "old"})
    (folder / other).parent.mkdir(exist_ok=True)
    (folder / other).write_text(RATINGS)
    before = everything_under(tmp_path)
    raw = (folder / other).parent if other in RAW else raw
    fault = "holds the raw data" if other in RAW else "holds '.*', which is not of the data set ml"
    with pytest.raises(ValueError, match=f"ml-20m: {fault}"):
        prepare(raw, tmp_path / "out", overwrite=True)
    assert everything_under(tmp_path) == before


@pytest.mark.parametrize("error", [KeyboardInterrupt, MemoryError, OSError])
@pytest.mark.parametrize("at", ["recbole_evcf.data.prepare.ratings.write_ratings", "Path.rename"])
@pytest.mark.parametrize("old", [True, False])
def test_an_interruption_leaves_everything_as_it_was(tmp_path, raw, monkeypatch, error, at, old):
    rename = Path.rename

    def interrupt(self, *target):
        assert any(name.endswith("ml-20m.item") for name in everything_under(tmp_path / "out"))
        if at == "Path.rename" and self.suffix != ".new":
            return rename(self, *target)
        raise error

    if old:
        write_files(tmp_path / "out" / "deep" / "ml-20m", {"ml-20m.inter": "old"})
    before = everything_under(tmp_path)
    monkeypatch.setattr(*((Path, "rename") if at == "Path.rename" else (at,)), interrupt)
    with pytest.raises(error):
        prepare(raw, tmp_path / "out" / "deep", overwrite=True)
    assert everything_under(tmp_path) == before


@pytest.mark.parametrize("taken", ["out", "out/ml-20m"])
def test_a_file_in_the_way(tmp_path, raw, taken, refused):
    (tmp_path / taken).parent.mkdir(exist_ok=True)
    (tmp_path / taken).write_text("mine")
    output = f"--output={tmp_path / 'out'}"
    error = refused("prepare", "ml-20m", f"--raw={raw}", output, "--overwrite")
    assert str(tmp_path / taken) in error
    assert (tmp_path / taken).read_text() == "mine"


def test_a_link_is_followed(tmp_path, raw):
    elsewhere = write_files(tmp_path / "elsewhere", {"ml-20m.old": ""})
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "ml-20m").symlink_to(elsewhere)
    prepare(raw, tmp_path / "out", overwrite=True)
    assert (tmp_path / "out" / "ml-20m").is_symlink()
    assert everything_under(elsewhere) == ["ml-20m.inter", "ml-20m.item"]


NAMES = ["", ".", "..", "/tmp/x", ".a", "a\tb", "a\n", "a\0b", "a\\b", "../../x", "-x", "\x1b[3m"]


@pytest.mark.parametrize("name", NAMES)
def test_a_name_that_is_no_folder(tmp_path, raw, name, refused):
    before = everything_under(tmp_path)
    error = refused("prepare", "ml-20m", f"--raw={raw}", f"--name={name}", f"--output={tmp_path}/o")
    assert "is not fit for a folder" in error
    assert "\x1b" not in error
    assert everything_under(tmp_path) == before


# Archives

CORRUPT = "cannot be read, or is a corrupt archive"


def refused(path, message):
    output = path.parent / "out"
    with pytest.raises(ValueError, match=message) as caught:
        prepare(path, output)
    assert "\n" not in str(caught.value)
    assert str(path) in str(caught.value)
    assert not output.exists()


OUTSIDE = ["../evil.txt", "/etc/evil", "ml-20m/../../evil", "..\\evil", "C:\\evil", "C:/evil"]
UNPACKED = [({"ratings.csv": RATINGS, name: "evil"}, "points outside the arch") for name in OUTSIDE]
UNPACKED += [
    ({"ratings.csv": bomb}, "'ratings.csv' would unpack")
    for bomb in (RATINGS + "1,2,4,5\n" * 10**6, "\0" * 10**7)
]


@pytest.mark.parametrize(("files", "message"), UNPACKED)
def test_an_archive_that_points_outside_or_explodes(tmp_path, files, message):
    refused(write_zip(tmp_path / "ml-20m.zip", files), message)


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
    path = write_zip(tmp_path / "ml-20m.zip", {"ratings.csv": RATINGS + "9,9,4,9\n" * 50_000})
    content = bytearray(path.read_bytes())
    # The header of the archived file, and its line in the list of files.
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
