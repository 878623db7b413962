"""``recbole-evcf inspect`` by its exit code, output and files."""

import logging
import re
from pathlib import Path

import pandas as pd
import torch

import recbole_evcf
from build import SG
from recbole_evcf import cli


def inspect(tiny, capsys, model, *words, **settings):
    """Train and inspect a model; what is printed, and the metrics of the test users."""
    trained = recbole_evcf.run(model, "tiny", **{**tiny, **settings})
    capsys.readouterr()
    path = f"--model_file={trained['model_file']}"
    assert cli.main(["inspect", path, "--output=seen", *words]) == 0
    return capsys.readouterr(), trained["test_result"]


def test_files_and_summary(tiny, capsys):
    captured, result = inspect(tiny, capsys, "GatedHVamp", "--dataset=tiny")
    lines = dict(line.split("  ", 1) for line in captured.out.splitlines() if "  " in line)
    lines = {name: value.strip() for name, value in lines.items()}
    assert lines["prior"] == "VampPrior, 7 components"
    assert lines["NDCG@10 on test users"].startswith(f"{result['ndcg@10']:.4f} ± ")
    assert lines["Recall@10 on test users"].startswith(f"{result['recall@10']:.4f} ± ")
    assert captured.out.endswith("seen/report.html and 11 CSV files beside it\n")
    assert "INFO" not in captured.err
    assert logging.getLogger().isEnabledFor(logging.ERROR)
    assert len(list(Path("seen").iterdir())) == 12
    names = ("users", "components", "component_items")
    users, components, items = (pd.read_csv(f"seen/{name}.csv") for name in names)
    assert set(users["user_id"]) == {f"u{user}" for user in range(60)}
    counts = users["component"].value_counts()
    for row in components.itertuples():
        assert row.users == counts.get(row.component, 0)
    assert items["item"].str.match(r"i\d+$").all()
    assert "name" not in items


def test_one_test_user_has_no_error(tiny, capsys):
    split = {**SG, "split": {"SG": [58, 1, 1]}}
    captured, result = inspect(tiny, capsys, "HVamp", eval_args=split)
    summary = re.sub(" {3,}", "  ", captured.out)
    assert f"Recall@10 on test users  {result['recall@10']:.4f}\n" in summary
    page = Path("seen/report.html").read_text(encoding="utf-8")
    assert "± nan" not in page
    assert ">nan" not in re.sub(r"<script.*?</script>", "", page, flags=re.S)


def test_mistakes_are_one_line_and_leave_nothing(tiny, refused, monkeypatch):
    ease, path = (
        recbole_evcf.run(model, "tiny", **tiny)["model_file"] for model in ("EASE", "Vamp")
    )
    Path("cut.pth").write_bytes(Path(path).read_bytes()[:5000])
    Path("file").write_text("x", encoding="utf-8")
    torch.save({"config": {}, "state_dict": {}}, "empty.pth")
    other = {**torch.load(path, weights_only=True), "config": {"model": "Nope", "dataset": "tiny"}}
    torch.save(other, "nope.pth")
    inter = Path(tiny["data_path"], "tiny", "tiny.inter")
    for file, argument, message in (
        ("none.pth", "--output=seen", "no model file none.pth"),
        ("empty.pth", "--output=seen", "empty.pth cannot be used: it does not fit"),
        ("nope.pth", "--output=seen", "no model named 'Nope'"),
        ("cut.pth", "--output=seen", "cut.pth is not a model file"),
        (ease, "--output=seen", "model EASE; inspect reads the latent variables of Vamp"),
        (path, "--dataset=ml-100k", "was trained on tiny, not on ml-100k"),
        (path, "--output=file", "is a file"),
        (path, "--output=file/below", "is a file"),
        (path, "--output=seen", "the data set has changed since"),
    ):
        if "changed" in message:
            inter.write_text(f"{inter.read_text()}u0\tnew\t3\n")
        with monkeypatch.context() as patched:
            # What the file alone tells is refused before its data are read.
            if "changed" not in message and "fit" not in message:
                patched.setattr("recbole_evcf.quick_start.create_dataset", None)
            error = refused("inspect", f"--model_file={file}", "--output=seen", argument)
        assert message in error
        assert not Path("seen").exists()
        assert Path("file").read_text(encoding="utf-8") == "x"
