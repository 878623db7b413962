"""What the fuzz tests share: how many cases there are, what each may end in, and their count.

``RECBOLE_EVCF_FUZZ=20 python -m pytest tests/fuzz`` runs twenty times as many cases, other ones
each time; without it they are the same ones each time. The count by reader is printed at the end.
"""

import contextlib
import io
import os
import re
import resource
import shutil
import signal
import sys
import time
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

import hypothesis
import pytest
import yaml
from hypothesis import strategies as st

from recbole_evcf import cli
from recbole_evcf.utils.text import one_line

FACTOR = int(os.environ.get("RECBOLE_EVCF_FUZZ", "1"))
# What a single tiny input may take, of a processor and in all: far above what it takes here, since
# machines differ and may be busy.
SECONDS, SECONDS_IN_ALL = 30, 300
RESIDENT_BYTES, ADDRESS_BYTES = 2**28, 2**32
# A sentence with a value of the user's in it, or a list of what there is; what is asked about is
# not counted.
LETTERS = 1000
COUNTS: dict[str, Counter] = defaultdict(Counter)

# Bytes that mean something in text files, and bytes that are none in UTF-8.
LETTERS_OF_FILES = "0123456789ui,;:.\t \r\n\"'\\|-+eE#&*!{}[]<>%\0\x1b\ufeff\u2028é"
ANY_BYTES = st.binary(max_size=40) | st.text(LETTERS_OF_FILES, max_size=40).map(str.encode)

# Values as YAML, JSON and Python know them, the awkward ones often.
AWKWARD = ["", " ", "0", "-1", "1e3", "nan", "inf", "True", "none", "[600]", "a: b", "é", "{}"]
AWKWARD += ["\x1b[31m", "\n", "..", "/", "'", '"', "\u202e", "__import__('os').mkdir('made')"]
AWKWARD += ["x" * 3000, "9" * 5000]
NUMBERS = [2**31, 2**63, 10**30, -(10**30), 1e308, float("nan"), float("inf")]
PLAIN = st.none() | st.booleans() | st.integers(-3, 70) | st.integers() | st.floats()
PLAIN |= st.floats(0, 1) | st.sampled_from(AWKWARD) | st.sampled_from(NUMBERS)
PLAIN |= st.dates() | st.text(max_size=8)
ANY_VALUES = st.recursive(
    PLAIN,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text(max_size=5) | st.integers(-1, 3), inner, max_size=3)
    ),
    max_leaves=5,
)


def cases(number: int) -> hypothesis.settings:
    """Settings for so many cases of a test in an ordinary run."""
    return hypothesis.settings(
        max_examples=number * FACTOR,
        deadline=None,
        derandomize=FACTOR == 1,
        database=None,
        print_blob=False,
        # The cases are small as they are, and a failing run ends as soon as a good one.
        phases=[hypothesis.Phase.explicit, hypothesis.Phase.generate],
        report_multiple_bugs=False,
        suppress_health_check=list(hypothesis.HealthCheck),
    )


class Ending(NamedTuple):
    """How a case ended: with a result, or with a sentence that says why there is none."""

    result: Any
    refusal: str | None


class HangError(BaseException):
    """A case took too long; no ``except Exception`` of the code under test swallows it."""


def ends_well(
    reader: str, read: Callable[[], Any], names: Sequence[str], folder: str | None = None
) -> Ending:
    """Run one case, which must end in a result or in a sentence that has one of the ``names``, and
    then leaves everything in the ``folder`` as it was."""
    before = everything_under(folder)
    refusal = result = None
    with _limited():
        try:
            result = read()
        except (ValueError, OSError) as error:
            _assert_no_memory_error(error)
            refusal = one_line(error)
    if refusal is not None:
        assert refusal.strip()
        assert any(name in refusal for name in names), f"{refusal!r} names none of {names}"
        rest = re.sub("|".join(map(re.escape, names)), "", refusal)
        assert len(rest) <= LETTERS, rest
        assert everything_under(folder) == before
    COUNTS[reader]["read" if refusal is None else "refused"] += 1
    return Ending(result, refusal)


def command_ends_well(reader, arguments, names, folder=None, failing=(2,)) -> Ending:
    """As :func:`ends_well` of a command, which is refused with one of the exit codes ``failing``;
    the result is what it printed."""

    def run() -> str:
        # Text streams that are no terminal, and encode as one does.
        output, errors = (type("Text", (io.StringIO,), {"encoding": "utf-8"})() for _ in range(2))
        streams = {"argv": sys.argv[:], "stdout": output, "stderr": errors}
        with mock.patch.multiple(sys, **streams):
            code = cli.main(list(arguments))
        lines = errors.getvalue().splitlines()
        assert "Traceback" not in errors.getvalue(), lines
        if code == 0:
            return output.getvalue()
        assert code in failing, (code, lines)
        ours = [line for line in lines if line.startswith("recbole-evcf")]
        assert ours == lines[-1:], lines
        assert lines[-1].startswith("recbole-evcf: error: "), lines
        # No control characters, which could rewrite the terminal, and nothing that turns the line.
        assert not set(map(unicodedata.category, lines[-1])) & {"Cc", "Cs", "Zl", "Zp"}
        assert not set(lines[-1]) & set("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
        raise ValueError(lines[-1].removeprefix("recbole-evcf: error: "))

    return ends_well(reader, run, names, folder)


@st.composite
def damaged(draw, sound: bytes, most: int = 3) -> bytes:
    """A sound file with bytes flipped, replaced, put in, doubled, zeroed or cut off."""
    content = sound
    for _ in range(draw(st.integers(1, most))):
        start = draw(st.integers(0, len(content)))
        end = draw(st.integers(start, min(len(content), start + 40)))
        piece, rest = content[start:end], content[end:]
        kind = draw(st.sampled_from(["put", "flip", "cut", "double", "zero", "end"]))
        if kind == "put":
            piece = draw(ANY_BYTES)
        elif kind == "flip" and piece:
            piece = bytes([piece[0] ^ 1 << draw(st.integers(0, 7))]) + piece[1:]
        elif kind == "double":
            piece = piece * draw(st.integers(2, 4))
        elif kind == "zero":
            # What a file system leaves of a file after a power failure.
            piece = bytes(len(piece))
        elif kind in ("cut", "end"):
            piece = b""
        content = content[:start] + piece + (b"" if kind == "end" else rest)
    return content


def file_ends_well(reader: str, path: str, content: bytes, read: Callable[[str], Any]) -> Ending:
    """As :func:`ends_well` of a file with that content, which a refusal must name."""
    Path(path).write_bytes(content)
    return ends_well(reader, lambda: read(path), [path])


def empty(folder: str) -> Path:
    """Make a folder that is empty, whatever an earlier case left in it."""
    shutil.rmtree(folder, ignore_errors=True)
    Path(folder).mkdir()
    return Path(folder)


def everything_under(folder: str | None) -> dict[str, bytes | None]:
    """The content of every file under a folder; empty for no folder."""
    paths = sorted(Path(folder).rglob("*")) if folder else []
    return {str(path): path.read_bytes() if path.is_file() else None for path in paths}


@contextlib.contextmanager
def _limited() -> Iterator[None]:
    """Fail a case that hangs or takes memory that its few bytes cannot be worth."""
    start, resident = time.process_time(), _status("VmRSS")
    limits = resource.getrlimit(resource.RLIMIT_AS)
    timers = ((signal.ITIMER_PROF, SECONDS), (signal.ITIMER_REAL, SECONDS_IN_ALL))
    handlers = {number: signal.signal(number, _hang) for number in (signal.SIGALRM, signal.SIGPROF)}
    for timer, seconds in timers:
        signal.setitimer(timer, seconds)
    if resident is not None:
        # From here on, VmHWM is the peak of this case.
        Path("/proc/self/clear_refs").write_text("5")
        resource.setrlimit(resource.RLIMIT_AS, (_status("VmSize") + ADDRESS_BYTES, limits[1]))
    try:
        yield
    finally:
        for timer, _ in timers:
            signal.setitimer(timer, 0)
        for number, handler in handlers.items():
            signal.signal(number, handler)
        resource.setrlimit(resource.RLIMIT_AS, limits)
    assert time.process_time() - start < SECONDS
    assert resident is None or _status("VmHWM") - resident < RESIDENT_BYTES


def _hang(signum, frame) -> None:
    raise HangError("took too long")


def _status(name: str) -> int | None:
    """Bytes by a name in /proc/self/status; None where there is no such file."""
    path = Path("/proc/self/status")
    found = path.exists() and re.search(rf"{name}:\s*(\d+)", path.read_text())
    return int(found[1]) * 1024 if found else None


def _assert_no_memory_error(error: BaseException | None) -> None:
    """Nobody else would have had the memory either, had there been no limit here."""
    while error is not None:
        assert not isinstance(error, MemoryError)
        assert "allocate memory" not in str(error)
        error = error.__cause__ or error.__context__


def pytest_terminal_summary(terminalreporter) -> None:
    """Print how many cases each reader met."""
    if not COUNTS:
        return
    terminalreporter.section("fuzz cases")
    for reader, count in {**COUNTS, "in all": sum(COUNTS.values(), Counter())}.items():
        total, read, refused = sum(count.values()), count["read"], count["refused"]
        terminalreporter.line(f"{reader}: {total:,} cases: {read:,} read, {refused:,} refused")


class Trained(NamedTuple):
    """A small data set, the config file that reads it, and models of it by name."""

    config_file: str
    models: dict[str, str]


@pytest.fixture(scope="session")
def trained(tmp_path_factory) -> Trained:
    """A data set of 60 users and 40 items, the config file that reads it, and trained models."""
    import build
    from conftest import make_tiny

    folder = tmp_path_factory.mktemp("trained")
    settings = make_tiny(folder / "data") | {"epochs": 1, "checkpoint_dir": str(folder / "saved")}
    settings |= {"mlp_hidden_size": [4], "latent_dimension": 4, "n_pseudo_inputs": 3}
    (folder / "tiny.yaml").write_text(yaml.safe_dump(settings), encoding="utf-8")
    models = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setattr("sys.argv", sys.argv[:1])
        for model in ("Vamp", "HVamp", "EASE", "MultiVAE", "BPR"):
            models[model] = build.trained(model, settings)[1].saved_model_file
    return Trained(str(folder / "tiny.yaml"), models)
