"""``recbole-evcf reproduce`` by its exit code, output and files."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml

from conftest import write_inter
from recbole_evcf import cli
from recbole_evcf.comparison import compare


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["table1"], "--dataset is missing"),
        (["table1", "--quick", "--topk=[5]", "--valid_metric=NDCG@5"], "the paper has ndcg@100"),
        (["table1", "--quick", "--likelihood=poisson"], "likelihood must be"),
        (
            ["table1", "--quick", "--seed=[1]"],
            "seed must be a whole number of at least 0 and at most",
        ),
        (
            ["table1", "--quick", "--seeds=99999999999"],
            "--seeds must be a whole number of at least 0 and at most",
        ),
        (["table2", "--dataset=nope"], "nope"),
        (["table2", "--quick", "--output=/dev/null/out"], "/dev/null/out cannot be written"),
    ],
)
def test_a_mistake_is_one_line_before_anything_runs(arguments, message, capsys, monkeypatch):
    monkeypatch.setattr(compare, "run_in_process", lambda *args: pytest.fail("something ran"))
    assert cli.main(["reproduce", *arguments]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert message in error


def test_an_unknown_table(capsys):
    with pytest.raises(SystemExit) as stopped:
        cli.main(["reproduce", "table3"])
    assert stopped.value.code == 2


def test_both_tables_share_their_runs(tiny, tmp_path, in_process, capsys):
    rng = np.random.default_rng(2)
    drawn = [(user, rng.choice(110, size=25, replace=False)) for user in range(60)]
    # More items than the protocol ranks.
    rows = [(f"u{user}", f"i{item}", 1) for user, items in drawn for item in items]
    write_inter(tmp_path / "data", "tiny", rows)
    small = {**tiny, "epochs": 1, "mlp_hidden_size": [8]}
    (tmp_path / "tiny.yaml").write_text(yaml.safe_dump(small), encoding="utf-8")
    common = ["--dataset=tiny", f"--config_files={tmp_path / 'tiny.yaml'}", "--output=out"]
    assert cli.main(["reproduce", "table1", *common]) == 0
    output = capsys.readouterr().out
    assert "paper, ML-20M" in output
    assert "A VampPrior beats the standard normal prior" in output
    assert in_process == [
        "WMF",
        "SLIM",
        "CDAE",
        "Mult-VAE",
        "Vamp",
        "H+Vamp",
        "Mult-VAE (Gated)",
        "H+Vamp (Gated)",
    ]
    content = json.loads(Path("out/table1-beside-paper.json").read_text())
    assert len(content["statements"]) == 5
    frame = pd.read_csv("out/table1-beside-paper.csv")
    assert frame["ours"].notna().all()
    assert {"table1.csv", "table1.json", "table1.md", "table1.tex", "table1.html"} <= {
        path.name for path in Path("out").iterdir()
    }
    # The file gives all models one layer, so that both depths of table 2 are the same run.
    assert cli.main(["reproduce", "table2", *common]) == 0
    assert in_process[8:] == ["Vamp (Gated), 1 layer"]
    assert "With gates 2 layers are better than 1 for Vamp" in capsys.readouterr().out
