"""Files of torch.save are read whole: checksums count, and no memory but the file's is read."""

import zipfile
from pathlib import Path

import pytest
import torch

from recbole_evcf.utils.files import read_archive


@pytest.fixture
def saved():
    """The bytes of a file with two views of one tensor."""
    weights = torch.arange(12.0).reshape(3, 4)
    state = {"whole": weights, "part": weights[1:, ::2], "many": torch.ones(1).expand(5)}
    torch.save({"state": [state], "n": 3}, "x.pth")
    return Path("x.pth").read_bytes()


def test_a_sound_file_is_read_as_torch_reads_it_and_stays_in_memory(saved):
    expected, content = torch.load("x.pth", weights_only=True), read_archive("x.pth")
    Path("x.pth").write_bytes(b"\xff" * len(saved))
    assert content["n"] == 3
    (found,) = content["state"]
    torch.testing.assert_close(found, expected["state"][0], rtol=0, atol=0, check_stride=True)
    whole, part = found["whole"], found["part"]
    assert whole.untyped_storage().data_ptr() == part.untyped_storage().data_ptr()


def repack(change, compression=zipfile.ZIP_STORED) -> None:
    with zipfile.ZipFile("x.pth") as archive:
        members = [(info.filename, archive.read(info)) for info in archive.infolist()]
    with zipfile.ZipFile("x.pth", "w", compression) as archive:
        for name, content in change(members):
            archive.writestr(name, content)


def flip_a_bit(sound: bytes) -> None:
    content = bytearray(sound)
    content[content.index(torch.arange(12.0).numpy().tobytes()) + 7] ^= 1
    Path("x.pth").write_bytes(content)
    # PyTorch does not see it.
    assert torch.load("x.pth", weights_only=True)["state"][0]["whole"][0, 1] != 1


CHANGES = {
    "the checksum of .* is wrong": flip_a_bit,
    "compressed": lambda sound: repack(list, zipfile.ZIP_DEFLATED),
    "twice": lambda sound: repack(lambda members: members + members[:1]),
    "not a zip file": lambda sound: Path("x.pth").write_bytes(b"no archive"),
}


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize("message", CHANGES)
def test_a_changed_file_is_refused(saved, message):
    CHANGES[message](saved)
    with pytest.raises((ValueError, zipfile.BadZipFile), match=message):
        read_archive("x.pth")
