"""``recbole-evcf inspect`` by its exit code, output and files."""

import json
import logging
import re
from pathlib import Path

import pandas as pd
import torch

from recbole_evcf import cli


def train(model, tiny, tmp_path, capsys, *settings):
    """Train on the tiny data set; path of the model file and the printed test metrics."""
    (tmp_path / "tiny.yaml").write_text(json.dumps({**tiny, "dataset": "tiny"}), encoding="utf-8")
    files = f"--config_files={tmp_path / 'tiny.yaml'}"
    assert cli.main(["run", f"--model={model}", files, "--result_file=r.json", *settings]) == 0
    capsys.readouterr()
    result = json.loads((tmp_path / "r.json").read_text(encoding="utf-8"))["test_result"]
    return str(next((tmp_path / "saved").glob(f"{model}-*.pth"))), result


def inspect(*arguments):
    return cli.main(["inspect", *arguments])


def test_files_and_summary(tiny, tmp_path, capsys):
    path, result = train("GatedHVamp", tiny, tmp_path, capsys)
    assert inspect(f"--model_file={path}", "--dataset=tiny", "--output=seen") == 0
    captured = capsys.readouterr()
    lines = dict(line.split("  ", 1) for line in captured.out.splitlines() if "  " in line)
    lines = {name: value.strip() for name, value in lines.items()}
    assert lines["prior"] == "VampPrior, 7 components"
    assert lines["NDCG@10 on test users"].startswith(f"{result['ndcg@10']:.4f} ± ")
    assert lines["Recall@10 on test users"].startswith(f"{result['recall@10']:.4f} ± ")
    assert captured.out.endswith("seen/report.html and 11 CSV files beside it\n")
    assert "INFO" not in captured.err
    assert logging.getLogger().isEnabledFor(logging.ERROR)
    assert len(list((tmp_path / "seen").iterdir())) == 12
    users, components, items = (
        pd.read_csv(tmp_path / "seen" / f"{name}.csv")
        for name in ("users", "components", "component_items")
    )
    assert set(users["user_id"]) == {f"u{user}" for user in range(60)}
    counts = users["component"].value_counts()
    for row in components.itertuples():
        assert row.users == counts.get(row.component, 0)
    assert items["item"].str.match(r"i\d+$").all()
    assert "name" not in items


def test_one_test_user_has_no_error(tiny, tmp_path, capsys):
    split = '{"split": {"SG": [58, 1, 1]}, "order": "RO", "group_by": "user", "mode": "full"}'
    path, result = train("HVamp", tiny, tmp_path, capsys, f"--eval_args={split}")
    assert inspect(f"--model_file={path}", "--output=seen") == 0
    summary = capsys.readouterr().out
    assert f"Recall@10 on test users  {result['recall@10']:.4f}\n" in re.sub(" {3,}", "  ", summary)
    page = (tmp_path / "seen" / "report.html").read_text(encoding="utf-8")
    assert "± nan" not in page
    assert ">nan" not in re.sub(r"<script.*?</script>", "", page, flags=re.S)


def test_mistakes_are_one_line_and_leave_nothing(tiny, tmp_path, capsys, monkeypatch):
    ease, _ = train("EASE", tiny, tmp_path, capsys)
    path, _ = train("Vamp", tiny, tmp_path, capsys)
    (tmp_path / "cut.pth").write_bytes(Path(path).read_bytes()[:5000])
    (tmp_path / "file").write_text("x", encoding="utf-8")
    torch.save({"config": {}, "state_dict": {}}, tmp_path / "empty.pth")
    other = {**torch.load(path, weights_only=True), "config": {"model": "Nope", "dataset": "tiny"}}
    torch.save(other, tmp_path / "nope.pth")
    inter = tmp_path / "data" / "tiny" / "tiny.inter"
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
            assert inspect(f"--model_file={file}", "--output=seen", argument) == 2
        error = capsys.readouterr().err
        assert error.count("\n") == 1
        assert error.startswith("recbole-evcf: error: ")
        assert message in error
        assert not (tmp_path / "seen").exists()
        assert (tmp_path / "file").read_text(encoding="utf-8") == "x"
