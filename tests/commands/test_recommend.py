"""``recbole-evcf recommend`` and ``export`` by exit code, output and files."""

import bz2
import gzip
import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from build import another_process, trained
from recbole_evcf import Recommender, cli
from recbole_evcf.commands import trained_model
from recbole_evcf.serving.recommendation_files import shortest_decimals


@pytest.mark.parametrize("scale", [1e-12, 1e-4, 1.0, 1e4, 1e7, 1e12])
def test_scores_have_the_fewest_decimals(scale):
    scores = np.random.default_rng(0).normal(size=5000) * scale
    scores = pd.Series(
        [*scores, 0.0, 0.1, 1e5, 33554430.0, 16777216.0, -1e-45, 3.4e38], dtype=np.float32
    )
    found = shortest_decimals(scores)
    assert np.array(found, dtype=np.float32).tolist() == scores.tolist()
    # NumPy's shortest decimals are the reference.
    assert list(map(repr, found)) == [repr(float(str(score))) for score in scores.to_numpy()]


@pytest.fixture
def model_file(tiny):
    return trained("GatedHVamp", tiny)[1].saved_model_file


@pytest.fixture
def recommend(model_file):
    """Function from more words of the command to its exit code."""
    return lambda *words: cli.main(["recommend", f"--model_file={model_file}", *words])


def test_options(recommend, capsys):
    Path("new.jsonl").write_text('{"user": "ann", "items": ["i1", "i5"]}\n')
    Path("allow.txt").write_text("i1\ni2\ni3\nx\n")
    Path("block.txt").write_text("i3\n")
    command = ["--histories=new.jsonl", "--allow_items=allow.txt"]
    assert recommend(*command, "--output=recs.jsonl") == 0
    assert "allow.txt names 1 item that the model does not know: 'x'." in capsys.readouterr().err
    assert sorted(json.loads(Path("recs.jsonl").read_text())["items"]) == ["i2", "i3"]
    more = ["--block_items=block.txt", "--include_seen", "--topk=99", "--output=recs.csv"]
    assert recommend(*command, *more) == 0
    assert sorted(pd.read_csv("recs.csv")["item"]) == ["i1", "i2"]
    Path("allow.txt").write_text("x\n")
    assert recommend(*command, "--output=no.csv") == 2
    assert "leave none that the model could recommend" in capsys.readouterr().err


def from_json_lines(path):
    users = map(json.loads, Path(path).read_text(encoding="utf-8").splitlines())
    frame = pd.DataFrame(users).explode(["items", "scores"], ignore_index=True)
    rank = frame.groupby("user").cumcount() + 1
    return frame.rename(columns={"items": "item", "scores": "score"}).assign(rank=rank)


READERS = {"csv": pd.read_csv, "jsonl": from_json_lines, "parquet": pd.read_parquet}


@pytest.mark.parametrize("ending", READERS)
def test_new_users_get_a_whole_file_or_none(recommend, model_file, ending, monkeypatch, capsys):
    if ending == "parquet":
        pytest.importorskip("pyarrow")
    Path("new.csv").write_text('user,item\nann,i1\n"ü,""b",i7\nann,i5\ncarl,x\nann,i1\n')
    path = Path(f"recs.{ending}")
    command = ["--histories=new.csv", "--topk=4", f"--output={path}"]
    # In two batches, at first on a disk that is full after the first.
    monkeypatch.setattr("recbole_evcf.serving.recommender.MAX_USERS", 2)
    whole = Recommender.recommend_in_batches

    def frames(*arguments):
        yield next(whole(*arguments))
        raise OSError("No space left on device")

    before = set(Path().iterdir())
    with monkeypatch.context() as patched:
        patched.setattr(Recommender, "recommend_in_batches", frames)
        assert recommend(*command) == 2
        assert set(Path().iterdir()) == before
        path.write_text("mine")
        assert recommend(*command) == 2
        assert path.read_text() == "mine"
    capsys.readouterr()
    assert recommend(*command) == 0
    output = capsys.readouterr()
    assert output.out == f"{path}: 12 items for 3 users\n"
    assert "left out 1 interaction with 1 item that the model does not know: 'x'." in output.err
    assert "prior recommendation went to 1 user with no known item" in output.err
    lists = {"ann": ["i1", "i5"], 'ü,"b': ["i7"], "carl": []}
    expected = Recommender.load(model_file).recommend(lists, k=4)
    found = READERS[ending](path)[expected.columns]
    assert found["score"].astype(np.float32).tolist() == expected["score"].tolist()
    pd.testing.assert_frame_equal(found, expected, check_dtype=False)


def written(folder="recs"):
    return {path.name: path.read_bytes() for path in Path(folder).iterdir()}


MANY = {
    "a.csv.gz": "user,item\nann,i1\nann,i5\nben,x\n",
    "b.tsv": "user_id:token\titem_id:token\nü\ti7\n",
    "c.parquet": pd.DataFrame({"user": [7, 8, 7, None], "item": ["i2", "i3", "i4", "i1"]}),
    "d.jsonl.bz2": '{"user": "dan", "items": ["i1", "i39"]}\n',
}


@pytest.fixture
def parts():
    pytest.importorskip("pyarrow")
    for folder in ("in", "recs"):
        Path(folder).mkdir()
    for name, content in MANY.items():
        if isinstance(content, str):
            opened = {".gz": gzip.open, ".bz2": bz2.open}.get(Path(name).suffix, open)
            with opened(f"in/{name}", "wt", encoding="utf-8") as file:
                file.write(content)
        else:
            content.to_parquet(f"in/{name}")


@pytest.mark.usefixtures("parts")
@pytest.mark.parametrize("ending", READERS)
def test_many_files_give_what_each_gives_alone(recommend, model_file, ending, capsys):
    command = ["--topk=4"]
    for name in MANY:
        alone = f"--output=alone.{name[0]}.{ending}"
        assert recommend(*command, f"--histories=in/{name}", alone) == 0
    expected = {f"{path.name[6:]}": path.read_bytes() for path in Path().glob("alone.*")}
    Path(f"recs/b.{ending}").write_text("mine")
    capsys.readouterr()
    many = [*command, "--histories", "in/a*", "in/[a-d].*", f"--output=recs/*.{ending}"]
    assert recommend(*many) == 0
    output = capsys.readouterr()
    assert "1 of 4 files are there already, and are kept as they are, whichever" in output.err
    assert "recbole-evcf: in/a.csv.gz: left out 1 interaction with 1 item" in output.err
    assert "in/c.parquet: left out 1 row without a user or an item" in output.err
    assert output.out.splitlines()[0] == f"recs/a.{ending}: 8 items for 2 users"
    assert written() == {**expected, f"b.{ending}": b"mine"}
    assert recommend(*many, "--overwrite", f"--nproc={2 if ending == 'csv' else 1}") == 0
    assert written() == expected
    found = READERS[ending](f"recs/c.{ending}")
    users = {"7": ["i2", "i4"], "8": ["i3"]}
    expected = Recommender.load(model_file).recommend(users, k=4)
    assert found["user"].astype(str).tolist() == expected["user"].tolist()
    assert found["item"].tolist() == expected["item"].tolist()


@pytest.mark.usefixtures("parts")
def test_ray_gives_what_this_process_gives(recommend, capsys):
    pytest.importorskip("ray")
    Path("in/bad.csv").write_text("user,item\nann,i1\nann,i1,i2\n")
    command = ["--histories=in/*", "--output=recs/*.csv"]
    assert recommend(*command) == 2
    expected = written()
    capsys.readouterr()
    assert recommend(*command, "--overwrite", "--tool=ray") == 2
    assert "in/bad.csv: Error tokenizing data. C error: Expected 2" in capsys.readouterr().err
    assert written() == expected
    assert len(expected) == len(MANY)


@pytest.mark.parametrize(("gpus", "device"), [("", "cpu"), ("3", "cuda")])
def test_rays_gpu_is_taken_and_not_that_of_the_file(gpus, device, monkeypatch):
    ray_files = pytest.importorskip("recbole_evcf.serving.ray_files")
    monkeypatch.setattr(ray_files, "gpus", lambda: gpus)
    monkeypatch.setattr(ray_files, "attempt_apart", lambda *words: words)
    assert ray_files._attempt("m.pth", ("a", "b"), None) == ("m.pth", ("a", "b"), None, device)


@pytest.mark.usefixtures("parts")
def test_what_is_there_starts_no_process_and_few_files_few(recommend, monkeypatch):
    monkeypatch.setattr(trained_model, "with_ray", None)
    sizes = []

    def in_processes(model_file, pairs, wanted, size):
        sizes.append(size)
        yield "not done"

    monkeypatch.setattr(trained_model, "in_processes", in_processes)
    command = ["--histories=in/*", "--output=recs/*.csv"]
    assert recommend(*command, "--nproc=8") == 2
    assert sizes == [4]
    assert recommend(*command) == 0
    assert recommend(*command, "--tool=ray") == 0


@pytest.mark.usefixtures("parts")
def test_a_file_that_another_command_writes_is_left_to_it(recommend, capsys):
    Path("recs/b.csv.7.tmp").write_text("the other's")
    command = ["--histories=in/*", "--output=recs/*.csv"]
    with another_process("from recbole_evcf.results import take\nassert take('recs/b.csv')"):
        assert recommend(*command) == 2
    assert "in/b.tsv: recs/b.csv is being written by another command" in capsys.readouterr().err
    assert {"a.csv", "b.csv.7.tmp", "c.csv", "d.csv"} <= set(written())
    assert recommend(*command) == 0
    assert sorted(written()) == ["a.csv", "b.csv", "c.csv", "d.csv"]


@pytest.mark.parametrize(("system", "same"), [("linux", False), ("darwin", True), ("win32", True)])
def test_names_that_a_system_takes_for_one_are_refused(system, same, monkeypatch):
    monkeypatch.setattr(sys, "platform", system)
    caught = None
    try:
        trained_model._check_outputs(["A.csv", "a.csv"], [])
    except ValueError as error:
        caught = str(error)
    expected = "A.csv would be written for several files: rename one of them."
    assert caught == (expected if same else None)


@pytest.mark.usefixtures("parts")
def test_a_bad_file_among_good_ones_is_named(recommend, capsys):
    Path("in/bad.csv").write_text("user,item\nann,i1\nann,i1,i2\n")
    Path("in/cut.parquet").write_bytes(Path("in/c.parquet").read_bytes()[:-9])
    Path("recs/a.csv.1.tmp").write_text("of a process that was killed")
    command = ["--histories=in/*", "--output=recs/*.csv"]
    assert recommend(*command) == 2
    errors = [line for line in capsys.readouterr().err.splitlines() if "error: " in line]
    bad, cut = sorted(errors)
    assert "error: in/bad.csv: " in bad
    assert "Expected 2 fields in line 3, saw 3" in bad
    assert "error: in/cut.parquet: " in cut
    assert sorted(written()) == ["a.csv", "b.csv", "c.csv", "d.csv"]


@pytest.mark.parametrize("killed", [signal.SIGTERM, signal.SIGKILL])
def test_a_killed_command_leaves_whole_files_and_the_same_command_goes_on(
    recommend, model_file, killed
):
    rows = pd.DataFrame({"user": range(10_000), "item": "i1"})
    for folder in ("in", "recs"):
        Path(folder).mkdir()
    for number in range(4):
        rows.assign(user=rows["user"] + number).to_csv(f"in/{number}.csv", index=False)
    command = ["--histories=in/*", "--output=recs/*.csv"]
    words = ["recommend", f"--model_file={model_file}", *command, "--nproc=2"]
    words = [sys.executable, "-m", "recbole_evcf", *words]
    process = subprocess.Popen(words, stderr=subprocess.PIPE, text=True)
    while not list(Path("recs").glob("*.csv")):
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(killed)
    error = process.communicate()[1]
    assert process.returncode == (143 if killed == signal.SIGTERM else -killed)
    assert "Traceback" not in error
    ended = {path.name: path.stat().st_mtime_ns for path in Path("recs").glob("*.csv")}
    assert 0 < len(ended) < 4
    for name in ended:
        assert len(pd.read_csv(f"recs/{name}")) == 200_000
    if killed != signal.SIGKILL:
        assert {name for name in written() if not name.endswith(".lock")} == set(ended)
    assert recommend(*command) == 0
    # A process that is killed may leave a lock.
    whole = [name for name in sorted(written()) if not name.endswith(".lock")]
    assert whole == [f"{number}.csv" for number in range(4)]
    for name, time_written in ended.items():
        assert Path(f"recs/{name}").stat().st_mtime_ns == time_written


GOOD = "user,item\nann,i1\n"


@pytest.mark.parametrize(
    ("arguments", "content", "message"),
    [
        ([], "", "new.csv: No columns to parse from file"),
        (["--separator=;"], GOOD, "user_id or user; the columns are 'user,item'"),
        (["--topk=0"], GOOD, "--topk must be at least 1"),
        (["--model_file=new.csv"], GOOD, "new.csv is not a model file"),
        (["--model_file=none.pth"], GOOD, "There is no model file none.pth"),
        (["--output=recs.xls"], GOOD, "written to .csv, .jsonl, .parquet files"),
        (["--output=recs"], GOOD, "written to .csv"),
        (["--output=."], GOOD, "written to .csv"),
        (["--output=recs.parquet"], GOOD, "pip install pyarrow"),
        (["--output=no/recs.csv"], GOOD, "there is no folder"),
        (["--histories=new.*", "--output=no/*.csv"], GOOD, "there is no folder"),
        (["--histories", "new.csv", "new.txt"], GOOD, "parquet; it names 2."),
        (["--histories", "new.csv", "new.txt", "--output=*.jsonl"], GOOD, "for several files"),
        (["--nproc=2"], GOOD, "--nproc is for many files: --output needs a *"),
        (["--overwrite"], GOOD, "--overwrite is for many files: --output needs a *"),
        (["--tool=ray"], GOOD, "--tool is for many files: --output needs a *"),
        (["--tool=ray", "--nproc=2", "--output=*.jsonl"], GOOD, "--nproc is not for --tool=ray"),
        (["--ray_address=auto"], GOOD, "--ray_address is for --tool=ray."),
        (["--separator=;", "--histories=new.jsonl"], GOOD, "--separator is for --histories in"),
        (["--output=*.csv"], GOOD, "--output would replace new.csv"),
        (["--nproc=0", "--output=*.jsonl"], GOOD, "--nproc must be at least 1"),
        (["--histories=none*.csv"], GOOD, "none*.csv: there is no such file"),
        (["--output=new.csv"], GOOD, "--output would replace new.csv"),
        (["--histories=none.csv"], GOOD, "none.csv"),
        (["--allow_items=none.txt"], GOOD, "none.txt"),
        (["export", "--model_file=none.pth"], GOOD, "There is no model file none.pth"),
        (["export", "--output=no/model.onnx"], GOOD, "there is no folder"),
    ],
)
def test_a_mistake_is_one_line_and_no_file(
    model_file, arguments, content, message, refused, monkeypatch
):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    for name in ("new.csv", "new.txt", "new.jsonl"):
        Path(name).write_text(content)
    before = set(Path().iterdir())
    exports = "export" in arguments
    command = ["export"] if exports else ["recommend", "--histories=new.csv"]
    words = [f"--model_file={model_file}", "--output=recs.csv", *arguments[exports:]]
    assert message in refused(*command, *words)
    assert set(Path().iterdir()) == before


def test_a_data_set_that_changed(model_file, tiny, refused):
    path = Path(tiny["data_path"]) / "tiny" / "tiny.inter"
    lines = path.read_text().splitlines()
    # Other items come first: each has another number.
    path.write_text("\n".join([lines[0], *lines[200:]]) + "\n")
    command = ["recommend", f"--model_file={model_file}", "--output=recs.csv"]
    assert "the data set has changed since" in refused(*command)
    path.unlink()
    assert "tiny.inter" in refused(*command)
    assert not Path("recs.csv").exists()


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (
            "ann,i1\n,i7\nben,i5\n",
            "new.csv: left out 1 row without a user or an item, the first being "
            "row 2 below the header.",
        ),
        ("ann,x\nben,y\n", "no history has an item that the model knows"),
    ],
)
def test_what_is_left_out_is_reported(recommend, rows, message, capsys):
    Path("new.csv").write_text(f"user,item\n{rows}")
    assert recommend("--histories=new.csv", "--topk=3", "--output=recs.csv") == 0
    assert message in capsys.readouterr().err
    found = pd.read_csv("recs.csv")
    assert found["user"].unique().tolist() == ["ann", "ben"]
    assert found["from_prior"].all() == ("x" in rows)


def test_users_with_no_item_left_are_not_called_unknown(recommend, capsys):
    Path("new.csv").write_text("user,item\nann,i1\n")
    Path("allow.txt").write_text("i1\n")
    words = ["--histories=new.csv", "--allow_items=allow.txt", "--output=recs.csv"]
    assert recommend(*words) == 0
    assert capsys.readouterr().err == "recbole-evcf: 1 user had no item left.\n"


@pytest.mark.parametrize("command", ["recommend", "export", "inspect"])
def test_several_model_files_are_refused_in_one_sentence(command, capsys):
    said = "unrecognized arguments: b.pth"
    with pytest.raises(SystemExit) as caught:
        cli.main([command, "--model_file", "a.pth", "b.pth", "--output=out.csv"])
    assert caught.value.code == 2
    assert capsys.readouterr().err.endswith(f"recbole-evcf {command}: error: {said}\n")
    assert cli.main([command, "--model_file", "a.pth", "--output=out.onnx"]) == 2


def test_a_model_is_exported(model_file):
    onnxruntime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    words = ["export", f"--model_file={model_file}", "--format=onnx", "--output=model.onnx"]
    # PyTorch's exporter talks much, by loggers that keep the stderr of when torch was imported.
    command = [sys.executable, "-m", "recbole_evcf", *words]
    done = subprocess.run(command, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("model.onnx: float32 history (users, 40 items) -> scores, ")
    session = onnxruntime.InferenceSession("model.onnx", providers=["CPUExecutionProvider"])
    (history,) = session.get_inputs()
    assert history.shape[1] == 40
    # As the line says.
    assert history.type == "tensor(float)"
