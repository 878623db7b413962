"""Files of torch.save are read whole: checksums count, and no memory but the file's is read."""

import zipfile
from pathlib import Path

import pytest
import torch

from recbole_evcf.utils.archive import check_archive, read_archive


@pytest.fixture
def saved():
    """A file with two views of one tensor, and its bytes."""
    weights = torch.arange(12.0).reshape(3, 4)
    state = {"whole": weights, "part": weights[1:, ::2], "many": torch.ones(1).expand(5)}
    torch.save({"state": [state], "n": 3}, "x.pth")
    return state, Path("x.pth").read_bytes()


def test_a_sound_file_is_read_as_torch_reads_it(saved):
    check_archive("x.pth")
    content = read_archive("x.pth")
    expected = torch.load("x.pth", weights_only=True)
    assert content["n"] == 3
    for name, tensor in expected["state"][0].items():
        torch.testing.assert_close(content["state"][0][name], tensor, rtol=0, atol=0)
        assert content["state"][0][name].stride() == tensor.stride()
    whole, part = content["state"][0]["whole"], content["state"][0]["part"]
    assert whole.untyped_storage().data_ptr() == part.untyped_storage().data_ptr()


def test_what_was_read_stays_when_the_file_is_written_over(saved):
    content = read_archive("x.pth")
    Path("x.pth").write_bytes(b"\xff" * len(saved[1]))
    torch.testing.assert_close(content["state"][0]["whole"], saved[0]["whole"])


def test_a_flipped_bit_of_a_weight_is_found(saved):
    content = bytearray(saved[1])
    place = content.index(torch.arange(12.0).numpy().tobytes())
    content[place + 7] ^= 1
    Path("x.pth").write_bytes(content)
    # PyTorch does not see it.
    assert torch.load("x.pth", weights_only=True)["state"][0]["whole"][0, 1] != 1
    with pytest.raises(ValueError, match=r"the checksum of .* is wrong"):
        check_archive("x.pth")


def repack(change, compression=zipfile.ZIP_STORED) -> None:
    with zipfile.ZipFile("x.pth") as archive:
        members = [(info.filename, archive.read(info)) for info in archive.infolist()]
    with zipfile.ZipFile("x.pth", "w", compression) as archive:
        for name, content in change(members):
            archive.writestr(name, content)


def test_a_compressed_member_is_refused(saved):
    repack(list, zipfile.ZIP_DEFLATED)
    with pytest.raises(ValueError, match="compressed"):
        check_archive("x.pth")


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_a_member_that_occurs_twice_is_refused(saved):
    repack(lambda members: [*members, members[0]])
    with pytest.raises(ValueError, match="twice"):
        check_archive("x.pth")


def test_what_is_no_archive(tmp_path):
    Path("x.pth").write_bytes(b"no archive")
    with pytest.raises(zipfile.BadZipFile):
        check_archive("x.pth")
