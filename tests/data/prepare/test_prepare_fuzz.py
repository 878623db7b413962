"""Whatever bytes a raw file holds: a data set or one sentence, and never half a data set."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

import pytest

from prepare_raw_files import (
    MOVIES,
    NETFLIX,
    PRO_SG,
    RATINGS,
    everything_under,
    write_files,
    write_zip,
)
from recbole_evcf.data.prepare import lines, prepare

hypothesis = pytest.importorskip("hypothesis")
st = hypothesis.strategies

ANYTHING = st.binary(max_size=60)
# Bytes that mean something in these files come up often.
MEANINGFUL = st.text(alphabet='0123456789,.:-\n\r" x\0\u00e9\t', max_size=60).map(str.encode)
FUZZ = hypothesis.settings(
    max_examples=150,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[hypothesis.HealthCheck.function_scoped_fixture],
)


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch):
    """Blocks of some lines only, so that their borders are met."""
    monkeypatch.setattr(lines, "BLOCK_BYTES", 128)


def damage(data, sound: bytes) -> bytes:
    """Replace some bytes of a sound file by others."""
    start = data.draw(st.integers(0, len(sound)))
    end = data.draw(st.integers(start, min(len(sound), start + 20)))
    return sound[:start] + data.draw(ANYTHING | MEANINGFUL) + sound[end:]


def refusal(kind: str, raw: Path, output: Path) -> str | None:
    """Prepare; give the sentence that says why not, if any."""
    try:
        prepare(kind, raw, "tiny", output, show_progress=False)
    except ValueError as error:
        return str(error)
    return None


def all_or_nothing(kind: str, files: dict[str, str | bytes], packed: bool = False) -> None:
    """Prepare, and check what is left on the disk."""
    folder = Path(tempfile.mkdtemp())
    try:
        if packed:
            (folder / "raw.zip").write_bytes(files["raw.zip"])
            raw = folder / "raw.zip"
        else:
            raw = write_files(folder / "raw", files)
        problem = refusal(kind, raw, folder / "out")
        if problem is None:
            left = everything_under(folder / "out")
            assert left[0] == "tiny"
            assert all(name.startswith("tiny/tiny.") for name in left[1:])
        else:
            assert str(raw) in problem
            assert "\n" not in problem
            assert not (folder / "out").exists()
    finally:
        shutil.rmtree(folder)


@FUZZ
@hypothesis.given(data=st.data())
def test_any_bytes_in_a_pro_sg_file(data):
    name = data.draw(st.sampled_from(sorted(PRO_SG)))
    all_or_nothing("pro_sg", {**PRO_SG, name: damage(data, PRO_SG[name].encode())})


@FUZZ
@hypothesis.given(data=st.data())
def test_any_bytes_in_a_movielens_file(data):
    files = {"ratings.csv": RATINGS, "movies.csv": MOVIES}
    name = data.draw(st.sampled_from(sorted(files)))
    all_or_nothing("ml-20m", {**files, name: damage(data, files[name].encode())})


@FUZZ
@hypothesis.given(data=st.data())
def test_any_bytes_in_a_netflix_file(data):
    files = {name: text.encode("latin-1") for name, text in NETFLIX.items()}
    name = data.draw(st.sampled_from(sorted(files)))
    all_or_nothing("netflix", {**files, name: damage(data, files[name])})


@FUZZ
@hypothesis.given(data=st.data())
def test_any_bytes_in_a_zip_archive(tmp_path, data):
    sound = write_zip(tmp_path / "sound.zip", {"ratings.csv": RATINGS}).read_bytes()
    all_or_nothing("ml-20m", {"raw.zip": damage(data, sound)}, packed=True)


@FUZZ
@hypothesis.given(content=ANYTHING | MEANINGFUL)
def test_nothing_but_any_bytes(content):
    all_or_nothing("ml-20m", {"ratings.csv": content})
    all_or_nothing("netflix", {"combined_data_1.txt": content})
    all_or_nothing("pro_sg", {**PRO_SG, "train.csv": content})
