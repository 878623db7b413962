"""The page on a search, as a browser's parser and plotly read it."""

from types import SimpleNamespace

import pytest
from pages import Page, array

from recbole_evcf.tuning.report import write_report
from recbole_evcf.tuning.search import Parameter, Search

HOSTILE = "<script>alert('x')</script>"
SPACE = [
    Parameter("likelihood", "choice", ("multinomial", HOSTILE)),
    Parameter("mlp_hidden_size", "choice", ([8, 8], [8])),
    Parameter("anneal_cap", "uniform", (0.0, 1.0)),
    Parameter("learning_rate", "loguniform", (-8.0, -4.0)),
]


CHOICES = ("likelihood", "mlp_hidden_size")


def trial(number, score, status="finished"):
    sizes = {name: SPACE[place].range[number % 2] for place, name in enumerate(CHOICES)}
    params = {**sizes, "anneal_cap": number / 10, "learning_rate": 10.0**-number}
    made = {"number": number, "params": params, "status": status}
    if score is None:
        return {**made, "reason": HOSTILE}
    valid, history = {"ndcg@10": score, "ndcg@10_se": 0.01}, [[1, score - 0.1], [2, score]]
    made |= {"score": score, "valid": valid, "history": history}
    return {**made, "best_epoch": 2, "epochs": 2, "seconds": 61.2}


@pytest.mark.parametrize(
    ("bigger", "winner", "leaders"), [(True, 3, [0.2, 0.2, 0.5]), (False, 2, [0.2, 0.1, 0.1])]
)
def test_the_page_shows_every_trial(tmp_path, bigger, winner, leaders):
    trials = [trial(1, 0.2), trial(2, 0.1, "stopped"), trial(3, 0.5), trial(4, None, "failed")]
    test = {"ndcg@10": 0.4321, "ndcg@10_se": 0.02}
    best = {"model": "Vamp", "dataset": "tiny", **trials[winner - 1], "test": test}
    search = SimpleNamespace(space=SPACE, trials=trials, algo="random")
    search.metric, search.bigger, search.table = "NDCG@10", bigger, lambda: Search.table(search)
    path = tmp_path / "page.html"
    write_report(str(path), search, best)
    page = Page(path)
    page.check()
    score = trials[winner - 1]["score"]
    assert ["ndcg@10", f"{score:.4f} ± 0.0100", "0.4321 ± 0.0200"] in page.rows
    listed = [row for row in page.rows if len(row) == 10][1:]
    assert [row[0] for row in listed] == (["3", "1", "2", "4"] if bigger else ["2", "1", "3", "4"])
    assert listed[0][5:] == [f"{score:.4f}", "2", "2", "61", trials[winner - 1]["status"]]
    assert listed[-1][-1] == f"failed: {HOSTILE}"
    text = "4 trials (random search), of them 1 stopped early, 1 failed, 3 min of training"
    assert text in page.paragraphs[0]

    figures = [data for data, _ in page.figures()]
    assert len(figures) == 3
    (line,) = (trace for trace in figures[0] if trace["name"] == "best so far")
    assert array(line["y"]) == leaders
    # A panel for each parameter: all trials, then the best.
    assert len(figures[1]) == 2 * len(SPACE)
    assert array(figures[1][4]["x"]) == [0.1, 0.2, 0.3]
    assert array(figures[1][5]["x"]) == [winner / 10]
    # The best trial is drawn last, above the others.
    assert array(figures[2][-1]["y"]) == [score - 0.1, score]
    assert figures[2][-1]["line"]["color"] == "#D55E00"
