"""The page."""

import re

import pytest

from recbole_evcf.comparison.report import learning_curves, metric_bars, write_comparison


@pytest.fixture
def outcome(compared, sg):
    return compared("Pop,Vamp,EASE[reg_weight='<x>']", {**sg, "epochs": 3}, seeds=(1, 2))


def test_every_part_is_there_and_nothing_is_asked_of_the_network(outcome, tmp_path):
    write_comparison(outcome, str(tmp_path), "recbole-evcf compare --models='a<b'")
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    for heading in ("Test metrics", "Failed", "Metrics", "Learning curves", "Against Pop", "Costs"):
        assert f">{heading}</h2>" in page
    assert "EASE[reg_weight=&#39;&lt;x&gt;&#39;]" in page
    assert "--models=&#39;a&lt;b&#39;" in page
    assert "<x>" not in re.sub(r"<script.*?</script>", "", page, flags=re.S)
    assert not re.search(
        r'(src|href)="?https?:', re.sub(r"<script>.*?</script>", "", page, flags=re.S)
    )
    assert page.count('id="figure-') == 2


def test_bars_are_the_means_and_their_errors(outcome):
    bars = metric_bars(outcome).data
    # Model by model, and for each of them chart by chart.
    assert [list(bar.y) for bar in bars] == [["Pop"]] * 4 + [["Vamp"]] * 4
    for place, key in enumerate(outcome.metrics):
        for model, bar in zip(outcome.finished, (bars[place], bars[place + 4])):
            assert list(bar.x) == [model.test[key]]
            assert list(bar.error_x.array) == [model.standard_error[key]]


def test_curves_are_of_every_seed_by_epoch(outcome):
    lines = learning_curves(outcome).data
    vamp = [line for line in lines if line.name == "Vamp"]
    # Four charts, two seeds.
    assert len(vamp) == 8
    assert all(list(line.x) == [1, 2, 3] for line in vamp)
    for line, result in zip(vamp, outcome.models[1].results.values()):
        assert list(line.y) == [row["valid_score"] for row in result["curve"]]
    assert [line.showlegend for line in vamp].count(True) == 1
    assert len([line for line in lines if line.name == "Pop"]) == 2


def test_a_page_on_nothing_but_failures(compared, sg, tmp_path):
    outcome = compared("EASE[reg_weight='x']", sg)
    write_comparison(outcome, str(tmp_path), "c")
    assert ">Failed</h2>" in (tmp_path / "report.html").read_text(encoding="utf-8")
