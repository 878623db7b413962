"""One command tunes, compares and resumes."""

import json
import sys

import pandas as pd

import quality
from recbole_evcf.comparison import compare


def test_models_are_tuned_with_their_own_settings_and_compared_once(tiny, tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["quality.py"])
    # There are fewer than 100 items.
    for key, value in {"topk": [10], "valid_metric": "NDCG@10"}.items():
        monkeypatch.setitem(quality.METRICS, key, value)
    folder = tmp_path / "quality"
    words = [f"--data=tiny:{tiny['data_path']}", f"--output={folder}", "--trials=2", "--seeds=1,2"]
    models = "EASE,GatedMultiVAE[epochs=1,dropout_prob=0.4]"
    words += [f"--models={models}", "--baseline=EASE", "--exhaust=EASE", "--bf16"]
    quality.main(words)
    tried = [folder / "tuning" / model / "trials.csv" for model in ("EASE", "GatedMultiVAE")]
    assert [len(pd.read_csv(each)) for each in tried] == [10, 2]
    chosen = json.loads((folder / "tuned.json").read_text())
    assert chosen["EASE"].startswith("EASE[reg_weight=")
    vae = chosen["GatedMultiVAE[epochs=1, dropout_prob=0.4]"]
    assert "anneal_cap=" in vae
    assert vae.endswith("epochs=1,dropout_prob=0.4,enable_amp=True]")
    comparison = json.loads((folder / "comparison" / "comparison.json").read_text())
    assert len(comparison["models"]) == 2
    # All is kept: nothing is trained again.
    monkeypatch.setattr(compare, "run_in_process", None)
    quality.main(words)
