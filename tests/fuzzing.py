"""What the fuzz tests share: how many cases there are, what each may end in, and their count.

``RECBOLE_EVCF_FUZZ=20 python -m pytest tests/fuzz`` runs twenty times as many cases, other ones
each time; without it they are the same ones each time. The count by reader stands at the end.
"""

from __future__ import annotations

import contextlib
import os
import re
import resource
import signal
import sys
import time
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import hypothesis
import pytest
import yaml
from hypothesis import strategies as st

from recbole_evcf import cli
from recbole_evcf.utils.text import one_line

__all__ = [
    "ANY_BYTES",
    "ANY_VALUES",
    "Ending",
    "cases",
    "command_ends_well",
    "damaged",
    "ends_well",
    "everything_under",
]

FACTOR = int(os.environ.get("RECBOLE_EVCF_FUZZ", "1"))
# What a single tiny input may take, of a processor and in all: far above what it takes here, since
# machines differ and may be busy.
SECONDS, SECONDS_IN_ALL = 30, 300
RESIDENT_BYTES = 2**28
ADDRESS_BYTES = 2**32
# A sentence with a value of the user's in it, or a list of what there is; what is asked about is
# not counted.
LETTERS = 1000

COUNTS: dict[str, Counter] = defaultdict(Counter)

# Bytes that mean something in text files, and bytes that are none in UTF-8.
ANY_BYTES = st.one_of(
    st.binary(max_size=40),
    st.text(
        alphabet="0123456789ui,;:.\t \r\n\"'\\|-+eE#&*!{}[]<>%\0\x1b\ufeff\u2028é", max_size=40
    ).map(lambda text: text.encode()),
)

# Values as YAML, JSON and Python know them, the awkward ones often.
AWKWARD_TEXTS = [
    "",
    " ",
    "0",
    "-1",
    "1e3",
    "nan",
    "inf",
    "True",
    "none",
    "[600]",
    "a: b",
    "é",
    "{}",
]
STEERING_TEXTS = ["\x1b[31m", "\n", "..", "/", "'", '"', "\u202e", "__import__('os').mkdir('made')"]
LONG_TEXTS = ["x" * 3000, "9" * 5000]
AWKWARD_NUMBERS = [2**31, 2**63, 10**30, -(10**30), 1e308, float("nan"), float("inf")]
PLAIN = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-3, 70),
    st.integers(),
    st.floats(),
    st.floats(0, 1),
    st.sampled_from([*AWKWARD_TEXTS, *STEERING_TEXTS, *LONG_TEXTS]),
    st.sampled_from(AWKWARD_NUMBERS),
    st.dates(),
    st.text(max_size=8),
)
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
    reader: str,
    read: Callable[[], Any],
    names: Sequence[str],
    folder: str | Path | None = None,
) -> Ending:
    """Run one case, which must end in a result or a good sentence.

    Args:
        reader: what reads, for the count.
        read: the case.
        names: the sentence must name one of these.
        folder: where a case that is refused must leave everything as it was.
    """
    before = everything_under(folder)
    refusal = result = None
    with _limited():
        try:
            result = read()
        except (ValueError, OSError) as error:
            _assert_no_memory_error(error)
            refusal = one_line(error)
    if refusal is not None:
        assert_sentence(refusal, names)
        assert everything_under(folder) == before
    COUNTS[reader]["read" if refusal is None else "refused"] += 1
    return Ending(result, refusal)


def command_ends_well(
    reader: str,
    arguments: Sequence[str],
    names: Sequence[str],
    folder: str | Path | None = None,
    codes: Sequence[int] = (0,),
    failing: Sequence[int] = (2,),
) -> Ending:
    """As :func:`ends_well` of a command; the result is what it printed.

    Args:
        reader: what reads, for the count.
        arguments: of ``recbole-evcf``.
        names: the line on standard error must name one of these.
        folder: where a case that is refused must leave everything as it was.
        codes: exit codes of a result.
        failing: exit codes of a refusal.
    """
    before = everything_under(folder)
    output, errors = _Text(), _Text()
    argv = sys.argv[:]
    try:
        with _limited(), contextlib.redirect_stdout(output), contextlib.redirect_stderr(errors):
            code = cli.main(list(arguments))
    finally:
        sys.argv = argv
    lines = str(errors).splitlines()
    assert not any("Traceback" in line for line in lines), lines
    if code in codes:
        COUNTS[reader]["read"] += 1
        return Ending(str(output), None)
    assert code in failing, (code, lines)
    start = "recbole-evcf: error: "
    assert [line.startswith(start) for line in lines if line.startswith("recbole-evcf")] == [
        True
    ], lines
    assert lines[-1].startswith(start), lines
    refusal = lines[-1][len(start) :]
    assert_sentence(refusal, names)
    assert_shown_as_it_is(refusal)
    assert everything_under(folder) == before
    COUNTS[reader]["refused"] += 1
    return Ending(None, refusal)


def assert_sentence(text: str, names: Sequence[str]) -> None:
    """It says something in a line of bearable length, and names what is wrong."""
    assert text.strip()
    assert len(text.splitlines()) == 1, ascii(text)
    assert any(name in text for name in names), f"{text!r} names none of {names}"
    for name in names:
        text = text.replace(name, "")
    assert len(text) <= LETTERS, text


def assert_shown_as_it_is(text: str) -> None:
    """No control characters, which could rewrite the terminal, and nothing that turns the line."""
    assert not {unicodedata.category(letter) for letter in text} & {"Cc", "Cs", "Zl", "Zp"}
    assert not set(text) & set("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")


def damaged(data: st.DataObject, sound: bytes, most: int = 3) -> bytes:
    """A sound file with bytes flipped, replaced, put in, doubled, moved, zeroed or cut off."""
    content = sound
    for _ in range(data.draw(st.integers(1, most))):
        start = data.draw(st.integers(0, len(content)))
        end = data.draw(st.integers(start, min(len(content), start + 40)))
        kind = data.draw(st.sampled_from(["put", "flip", "cut", "double", "zero", "end"]))
        piece = content[start:end]
        if kind == "put":
            piece = data.draw(ANY_BYTES)
        elif kind == "flip" and piece:
            piece = bytes([piece[0] ^ 1 << data.draw(st.integers(0, 7))]) + piece[1:]
        elif kind == "double":
            piece = piece * data.draw(st.integers(2, 4))
        elif kind == "zero":
            # What a file system leaves of a file after a power failure.
            piece = b"\0" * len(piece)
        elif kind == "cut":
            piece = b""
        content = content[:start] + piece + (b"" if kind == "end" else content[end:])
    return content


def everything_under(folder: str | Path | None) -> dict[str, bytes | None]:
    """The content of every file under a folder; empty for no folder."""
    if folder is None or not Path(folder).exists():
        return {}
    return {
        str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None
        for path in sorted(Path(folder).rglob("*"))
    }


class _Text:
    """A text stream that is no terminal, and encodes as one does."""

    encoding = "utf-8"

    def __init__(self):
        self._parts: list[str] = []

    def write(self, text: str) -> int:
        self._parts.append(text)
        return len(text)

    def flush(self) -> None:
        pass

    def isatty(self) -> bool:
        return False

    def __str__(self) -> str:
        return "".join(self._parts)


@contextlib.contextmanager
def _limited() -> Iterator[None]:
    """Fail a case that hangs or takes memory that its few bytes cannot be worth."""
    start, resident = time.process_time(), _status("VmRSS")
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    handlers = {number: signal.signal(number, _hang) for number in (signal.SIGALRM, signal.SIGPROF)}
    signal.setitimer(signal.ITIMER_PROF, SECONDS)
    signal.setitimer(signal.ITIMER_REAL, SECONDS_IN_ALL)
    if resident is not None:
        # From here on, VmHWM is the peak of this case.
        Path("/proc/self/clear_refs").write_text("5")
        resource.setrlimit(resource.RLIMIT_AS, (_status("VmSize") + ADDRESS_BYTES, hard))
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.setitimer(signal.ITIMER_REAL, 0)
        for number, handler in handlers.items():
            signal.signal(number, handler)
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))
    assert time.process_time() - start < SECONDS
    if resident is not None:
        assert _status("VmHWM") - resident < RESIDENT_BYTES


def _hang(signum, frame) -> None:
    raise HangError("took too long")


def _status(name: str) -> int | None:
    """Bytes by a name in /proc/self/status; None where there is no such file."""
    try:
        text = Path("/proc/self/status").read_text()
    except OSError:
        return None
    return int(re.search(rf"{name}:\s*(\d+)", text).group(1)) * 1024


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
    for reader, count in COUNTS.items():
        total, read, refused = sum(count.values()), count["read"], count["refused"]
        terminalreporter.line(f"{reader}: {total:,} cases: {read:,} read, {refused:,} refused")
    total = sum(sum(count.values()) for count in COUNTS.values())
    terminalreporter.line(f"in all: {total:,} cases")


class Trained(NamedTuple):
    """A small data set and models of it."""

    settings: dict
    config_file: str
    models: dict[str, str]


@pytest.fixture(scope="session")
def trained(tmp_path_factory) -> Trained:
    """A data set of 60 users and 40 items, the config file that reads it, and trained models."""
    from build import build
    from conftest import write_inter

    folder = tmp_path_factory.mktemp("trained")
    write_inter(folder / "data", "tiny", tiny_rows())
    settings = {
        "data_path": str(folder / "data"),
        "load_col": {"inter": ["user_id", "item_id", "timestamp"]},
        "mlp_hidden_size": [4],
        "latent_dimension": 4,
        "n_pseudo_inputs": 3,
        "train_batch_size": 32,
        "epochs": 1,
        "warmup_epochs": 1,
        "show_progress": False,
        "state": "error",
        "checkpoint_dir": str(folder / "saved"),
        "metrics": ["NDCG", "Recall"],
        "topk": [10],
        "valid_metric": "NDCG@10",
    }
    (folder / "tiny.yaml").write_text(yaml.safe_dump(settings), encoding="utf-8")
    before = os.getcwd()
    os.chdir(folder)
    argv, sys.argv = sys.argv, sys.argv[:1]
    models = {}
    try:
        for model in ("Vamp", "HVamp", "EASE", "MultiVAE", "BPR"):
            own = {} if model != "MultiVAE" else {"total_anneal_steps": 9, "warmup_epochs": None}
            _, loaders, _, trainer = build(model, "tiny", {**settings, **own})
            trainer.fit(loaders[0], loaders[1])
            models[model] = trainer.saved_model_file
    finally:
        os.chdir(before)
        sys.argv = argv
    return Trained(settings, str(folder / "tiny.yaml"), models)


def tiny_rows() -> list[tuple[str, str, int]]:
    """User, item and time of each interaction of 60 users with 40 items."""
    return [
        (f"u{user}", f"i{(user * step + step * step) % 40}", 7 * user + step)
        for user in range(60)
        for step in range(1, 9 + user % 5)
        # Each pair once.
        if (user * step + step * step) % 40
        not in {(user * other + other * other) % 40 for other in range(1, step)}
    ]
