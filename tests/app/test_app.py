"""The page and the API of the command ``app``: their answers are those of a ``Recommender``."""

import json
import re
import signal
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from types import SimpleNamespace

import numpy as np
import pytest
import scipy.sparse
import torch
from torch.distributions import Normal, kl_divergence

import browser
from build import trained
from conftest import make_tiny, write_inter
from recbole_evcf import Recommender, cli
from recbole_evcf.app.reasons import ItemWeights, NearestComponents
from recbole_evcf.commands.app import viewer_of

SG = {"split": {"SG": [0.6, 0.2, 0.2]}, "order": "RO", "group_by": "user", "mode": "full"}
# Whatever proxy the environment names.
DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))
HOSTILE = "<img src=x onerror=alert(1)> & \"quoted\" 'title'"
TITLES = {"i3": "Amélie", "i5": "Star Wars", "i6": "Star Wars again", "i7": HOSTILE}
TITLES |= {"i8": "A title that goes on and on, as those of books do, " * 3}


def write_titles(folder, titles):
    lines = ["item_id:token\tmovie_title:token_seq", *(f"{i}\t{t}" for i, t in titles.items())]
    (folder / "tiny" / "tiny.item").write_text("\n".join(lines) + "\n", encoding="utf-8")


@pytest.fixture(scope="module")
def paths(tmp_path_factory):
    """Model files of a data set, and one of another with another catalogue."""
    folder = tmp_path_factory.mktemp("app")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setattr("sys.argv", ["pytest"])
        settings = {**make_tiny(folder / "data"), "eval_args": SG}
        write_titles(folder / "data", TITLES)
        found = {
            name: trained(name, {**settings, "learning_rate": 0.01})[1].saved_model_file
            for name in ("GatedHVamp", "EASE")
        }
        rows = [
            (f"v{user}", f"i{30 + (user * 7 + 3 * k) % 23}", k)
            for user in range(40)
            for k in range(6)
        ]
        write_inter(folder / "others", "tiny", rows)
        write_titles(folder / "others", {"i3": "not this", "i52": "Of the other data set"})
        others = {**settings, "data_path": str(folder / "others")}
        found["MultiVAE"] = trained("MultiVAE", others)[1].saved_model_file
    return {name: str(folder / path) for name, path in found.items()}


@pytest.fixture(scope="module")
def viewer(paths):
    return viewer_of(list(paths.values()), "tiny")


@pytest.fixture(scope="module")
def url(viewer):
    uvicorn = pytest.importorskip("uvicorn", reason="no uvicorn")
    pytest.importorskip("fastapi", reason="no FastAPI")
    from recbole_evcf.app.server import listen, make_app

    with listen("127.0.0.1", 0) as server_socket:
        server = uvicorn.Server(uvicorn.Config(make_app(viewer), log_level="warning"))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [server_socket]})
        thread.start()
        yield f"http://127.0.0.1:{server_socket.getsockname()[1]}"
        server.should_exit = True
        thread.join()


def asked(address, body=None, **headers):
    """Status and JSON of a request."""
    data = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
    headers = {"Content-Type": "application/json", **headers}
    try:
        with DIRECT.open(urllib.request.Request(address, data, headers)) as answer:
            return answer.status, json.loads(answer.read())
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def ranked(path, history, k=20):
    """Items and scores as Python gets them."""
    frame = Recommender.load(path).recommend([history], k)
    return frame["item"].tolist(), frame["score"].to_numpy()


HISTORIES = [["i3", "i7", "i20"], ["i1"], ["i0", "i2", "i4", "i6", "i39"], []]


@pytest.mark.parametrize("name", ["GatedHVamp", "EASE", "MultiVAE"])
@pytest.mark.filterwarnings("ignore:left out")
def test_the_api_answers_as_python_does(name, url, paths):
    question = {"histories": HISTORIES, "k": 7, "model": name}
    status, answer = asked(f"{url}/recommend", question)
    assert (status, answer["model"]) == (200, name)
    known = set(Recommender.load(paths[name]).item_tokens)
    assert len(answer["recommendations"]) == 4
    for history, found in zip(HISTORIES, answer["recommendations"]):
        items, scores = ranked(paths[name], history, 7)
        assert found["items"] == items
        np.testing.assert_allclose(np.float32(found["scores"]), scores, rtol=1e-5, atol=1e-6)
        assert found["unknown"] == [item for item in history if item not in known]
        assert found["from_prior"] == (not known & set(history))
    first = asked(f"{url}/recommend", {"histories": HISTORIES})[1]
    assert first["model"] == "GatedHVamp"
    assert {len(each["items"]) for each in first["recommendations"]} == {20}
    assert asked(f"{url}/recommend", {"histories": []})[1]["recommendations"] == []


def test_fifty_requests_at_once_get_their_own_answers(url, paths):
    random = np.random.default_rng(3)
    lists = [[f"i{n}" for n in random.choice(40, 5, replace=False)] for _ in range(50)]
    names = ["GatedHVamp", "EASE"] * 25
    recommenders = {name: Recommender.load(paths[name]) for name in paths}
    expected = [
        recommenders[name].recommend([each], 5)["item"].tolist() for name, each in zip(names, lists)
    ]
    assert len(set(map(tuple, expected))) > 40
    together = threading.Barrier(50)

    def question(name, history):
        together.wait()
        body = {"histories": [history], "k": 5, "model": name}
        return asked(f"{url}/recommend", body)[1]["recommendations"][0]["items"]

    with ThreadPoolExecutor(50) as pool:
        assert list(pool.map(question, names, lists)) == expected


WRONG = [
    (b"{", 422, "the request: JSON decode error."),
    ({}, 422, "histories: Field required."),
    ({"histories": "i1"}, 422, "histories: Input should be a valid list."),
    ({"histories": [[1.5]]}, 422, "histories.0.0: Input should be a valid string."),
    ({"histories": [[True]]}, 422, "histories.0.0: Input should be a valid string."),
    ({"histories": [], "k": 0}, 422, "k: Input should be greater than or equal to 1."),
    ({"histories": [], "top": 5}, 422, "top: Extra inputs are not permitted."),
    ({"histories": [[]], "model": "x"}, 400, "there is no model 'x': the models are "),
]


def test_a_mistake_is_one_sentence(url):
    for body, code, message in WRONG:
        status, answer = asked(f"{url}/recommend", body)
        assert status == code
        detail = json.loads(answer)["detail"]
        assert detail.startswith(message)
        assert "\n" not in detail
    status, answer = asked(f"{url}/user?name=nobody")
    assert (status, json.loads(answer)["detail"]) == (
        400,
        "there is no user 'nobody' in the data set.",
    )
    # What a hostile page would send that has its own name resolved to this machine.
    assert asked(f"{url}/models", Host="example.org")[0] == 400
    assert asked(f"{url}/nothing")[0] == 404


def test_the_description_and_what_is_not_there(url):
    described = asked(f"{url}/openapi.json")[1]["paths"]
    assert set(described) == {"/models", "/items", "/users", "/user", "/recommend", "/compare"}
    for path in ("docs", "redoc"):
        assert asked(f"{url}/{path}")[0] == 404
    with DIRECT.open(f"{url}/") as page:
        assert "default-src 'none'" in page.headers["Content-Security-Policy"]
        text = page.read().decode()
    assert not re.search(r"https?://|<link[^>]*stylesheet|<script[^>]*src", text)


def test_search(viewer):
    def found(words):
        return [each["item"] for each in viewer.search(words)]

    assert found("star") == found("WARS star")
    assert set(found("star")) == {"i5", "i6"}
    assert found("amelie") == found("AMÉL") == ["i3"]
    # An id before what has it in its own; an item of the other data set; nothing; everything.
    assert found("i1")[0] == "i1"
    assert viewer.search("other set") == [{"item": "i52", "title": "Of the other data set"}]
    assert found("no such thing") == []
    assert len(viewer.search("", 7)) == 7
    # The titles of the first model's data set go before.
    assert viewer.search("i3")[0]["title"] == "Amélie"


def test_users_and_what_is_held_out(viewer):
    assert viewer.about()["users"] == 60
    assert viewer.search_users("u7")[0] == "u7"
    assert set(viewer.search_users("U5")) == {"u5", *(f"u5{n}" for n in range(10))}
    users = [viewer.user(name) for name in viewer.search_users("", 60)]
    held_out = [bool(user["held_out"]) for user in users]
    # Validation and test users; those of training have nothing left to find.
    assert held_out == [True] * 24 + [False] * 36
    for user in users:
        parts = [{each["item"] for each in user[part]} for part in ("history", "held_out")]
        assert parts[0]
        assert not parts[0] & parts[1]


def test_models_side_by_side(viewer, paths):
    history = ["i3", "i35", "i52", "i3", "nothing"]
    answer = viewer.compare(history, 10)
    assert [each["item"] for each in answer["history"]] == ["i3", "i35", "i52", "nothing"]
    models = {each["name"]: each for each in answer["models"]}
    unknown = {name: [each["item"] for each in m["unknown"]] for name, m in models.items()}
    assert unknown["MultiVAE"] == ["i3", "nothing"]
    assert unknown["EASE"] == unknown["GatedHVamp"] == ["i52", "nothing"]
    ranks = {
        name: {each["item"]: rank for rank, each in enumerate(m["items"], 1)}
        for name, m in models.items()
    }
    assert set(ranks["EASE"]) & set(ranks["GatedHVamp"])
    for name, model in models.items():
        for item in model["items"]:
            others = {
                n: r[item["item"]] for n, r in ranks.items() if n != name and item["item"] in r
            }
            assert item["also_in"] == others
    assert models["EASE"]["components"] is models["MultiVAE"]["components"] is None
    assert not any(item["because"] for item in models["MultiVAE"]["items"])
    # A history of which nothing is known has neither reasons nor components.
    models = {each["name"]: each for each in viewer.compare(["nothing"])["models"]}
    assert models["GatedHVamp"]["components"] == []
    assert all(each["from_prior"] for each in models.values())


def test_the_reasons_of_a_linear_model_add_up_to_its_scores(paths, viewer):
    history, recommender = ["i3", "i7", "i20", "i21"], Recommender.load(paths["EASE"])
    tokens = list(recommender.item_tokens)
    frame = recommender.recommend([history], 10)
    columns = np.array([tokens.index(item) for item in frame["item"]])
    rows = np.array([tokens.index(item) for item in history])
    weights = ItemWeights(recommender.model).between(rows, columns)
    np.testing.assert_allclose(weights.sum(0), frame["score"], rtol=1e-4, atol=1e-6)
    items = next(m for m in viewer.compare(history, 10)["models"] if m["name"] == "EASE")["items"]
    for item, column in zip(items, weights.T):
        order = [n for n in np.argsort(-column)[:3] if column[n] > 0]
        assert [each["item"] for each in item["because"]] == [history[n] for n in order]
        np.testing.assert_allclose([each["weight"] for each in item["because"]], column[order])


def test_weights_in_every_form():
    weights = torch.randn(5, 5)
    padded = np.pad(weights.numpy(), ((1, 0), (1, 0)))
    rows, columns = np.array([4, 0]), np.array([1, 2, 3])
    expected = weights.numpy()[[[4], [0]], columns]
    path = SimpleNamespace(item_weights=weights, linear_weight=torch.tensor(0.5))
    forms = [(path, 0.5), (SimpleNamespace(item_weights=weights), 1)]
    for form in (np.array, np.asmatrix, scipy.sparse.csc_matrix):
        forms.append((SimpleNamespace(item_similarity=form(padded)), 1))
    for model, factor in forms:
        assert ItemWeights.explains(model)
        found = ItemWeights(model).between(rows, columns)
        np.testing.assert_allclose(found, factor * expected, rtol=1e-6)
    assert not ItemWeights.explains(SimpleNamespace(item_similarity=None))


def test_the_nearest_components(paths):
    recommender = Recommender.load(paths["GatedHVamp"])
    assert NearestComponents.explains(recommender)
    assert not NearestComponents.explains(Recommender.load(paths["EASE"]))
    history = scipy.sparse.csr_matrix(np.isin(recommender.item_tokens, ["i3", "i7"])[None])
    network = recommender.model.network
    with torch.no_grad():
        x = torch.from_numpy(history.toarray()).float() / 2**0.5
        q, prior = network.encoder_z2(x), network.prior.components(network.encoder_z2)
        pair = [Normal(g.mean.double(), (g.log_variance.double() / 2).exp()) for g in (q, prior)]
        kl = kl_divergence(*pair).sum(1)
        z = prior.mean
        p = network.output(network.decoder(network.prior_z1(z).mean, z)).softmax(1)
        best = (p * (p / p.mean(0)).log()).topk(4).indices
    found = NearestComponents(recommender, 4).of(history, 3)
    order = kl.argsort()[:3]
    assert [each["component"] for each in found] == order.tolist()
    np.testing.assert_allclose([each["kl"] for each in found], kl[order], rtol=1e-4)
    shares = (-kl).softmax(0)[order]
    np.testing.assert_allclose([each["share"] for each in found], shares, rtol=1e-3)
    for each, number in zip(found, order):
        assert each["items"] == recommender.item_tokens[best[number].numpy()].tolist()


# The page.


@contextmanager
def page(url, tmp_path):
    if browser.CHROMIUM is None:
        pytest.skip("no Chromium")
    pytest.importorskip("websockets", reason="no websockets")
    with browser.opened(url, tmp_path) as tab:
        tab.wait("Boolean(document.body?.dataset.shown)")
        yield tab
        # Nothing leaves the machine, and nothing was wrong.
        assert tab.requests
        assert all(each.startswith((f"{url}/", "data:")) for each in tab.requests)
        assert tab.messages == []


def shown(tab):
    return tab.value("Number(document.body.dataset.shown)")


def chosen(tab, field, choices, text, first):
    """Type into a field, wait for the first choice, and click it."""
    before = shown(tab)
    tab.type(f"byId('{field}')", text)
    title = f"byId('{choices}').querySelector('.grow')"
    tab.wait(f"{title} && {title}.textContent === {json.dumps(first)}")
    tab.click(f"byId('{choices}').querySelector('button')")
    tab.wait(f"Number(document.body.dataset.shown) > {before}")


def in_list(tab, model, what="each.dataset.item", which=".row"):
    rows = f"document.querySelectorAll('[data-model={model}] {which}')"
    return tab.value(f"[...{rows}].map((each) => {what})")


@pytest.mark.filterwarnings("ignore:left out")
def test_a_history_put_together_by_clicks(url, paths, tmp_path):
    with page(url, tmp_path) as tab:
        # Before the first click.
        assert in_list(tab, "EASE") == ranked(paths["EASE"], [])[0]
        for text, title in (
            ("star", "Star Wars"),
            ("amelie", "Amélie"),
            ("i52", "Of the other data set"),
        ):
            # i5 or i6, whichever is more popular.
            titles = {"Star Wars": "i5", "Amélie": "i3", "Of the other data set": "i52"}
            chosen(tab, "query", "found", titles[title] if title == "Star Wars" else text, title)
        before = shown(tab)
        added = in_list(tab, "GatedHVamp")[4]
        tab.click("document.querySelectorAll('[data-model=GatedHVamp] .add')[4]")
        tab.wait(f"Number(document.body.dataset.shown) > {before}")
        history = ["i5", "i3", "i52", added]
        for name, path in paths.items():
            items, scores = ranked(path, history)
            assert in_list(tab, name) == items
            texts = in_list(tab, name, "each.querySelector('.score').textContent")
            np.testing.assert_allclose(list(map(float, texts)), scores, atol=0.00501)
        assert in_list(tab, "EASE", "each.textContent", ".note") == [
            "Does not know Of the other data set (i52)."
        ]
        assert in_list(tab, "GatedHVamp", "each.textContent", ".component")
        # One item less.
        before = shown(tab)
        tab.click("byId('history').querySelectorAll('button')[1]")
        tab.wait(f"Number(document.body.dataset.shown) > {before}")
        assert in_list(tab, "GatedHVamp") == ranked(paths["GatedHVamp"], ["i5", "i52", added])[0]
        # A title is never markup.
        chosen(tab, "query", "found", "quoted", HOSTILE)
        assert tab.value("document.querySelector('img')") is None
        tab.click("byId('clear')")
        tab.wait("byId('history').children.length === 0")


def test_held_out_items_are_marked(url, viewer, paths, tmp_path):
    name = viewer.search_users("")[0]
    user = viewer.user(name)
    held_out = {each["item"] for each in user["held_out"]}
    history = [each["item"] for each in user["history"]]
    with page(url, tmp_path) as tab:
        chosen(tab, "user", "users", name, name)
        for model in ("GatedHVamp", "EASE"):
            items = ranked(paths[model], history)[0]
            assert in_list(tab, model) == items
            marked = in_list(tab, model, which=".row.found")
            assert marked == [item for item in items if item in held_out]
            assert marked
            (said,) = in_list(tab, model, "each.textContent", "h2 + .soft")
            assert f"{len(marked)} of {len(held_out)} held-out items found" in said


def test_a_narrow_window_has_no_scroll_bar_below(url, tmp_path):
    with page(url, tmp_path) as tab:
        for width in (360, 800, 1600):
            tab.resize(width, 900)
            assert tab.value("document.documentElement.scrollWidth") <= width


# The command.


def test_the_command_serves_until_ctrl_c(paths):
    pytest.importorskip("uvicorn", reason="no uvicorn")
    pytest.importorskip("fastapi", reason="no FastAPI")
    command = [sys.executable, "-m", "recbole_evcf", "app", "--port=0", "--model_file"]
    with subprocess.Popen(
        [*command, paths["EASE"], paths["GatedHVamp"]],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        line = process.stdout.readline()
        try:
            address = re.fullmatch(r"2 models, 40 items: (http://127\.0\.0\.1:\d+) .*\n", line)[1]
            answer = asked(f"{address}/models")[1]
            assert [each["name"] for each in answer["models"]] == ["EASE", "GatedHVamp"]
            assert answer["users"] == 0
        finally:
            process.send_signal(signal.SIGINT)
            rest = process.communicate(timeout=60)
    assert (process.returncode, *rest) == (130, "", "")


def test_mistakes_are_one_line(paths, tmp_path, capsys, monkeypatch):
    (tmp_path / "cut.pth").write_bytes(b"nothing")
    path = paths["EASE"]
    for words, message in (
        ([path, "none.pth"], "There is no model file none.pth."),
        (["cut.pth"], "cut.pth is not a model file"),
        ([path, path], "--model_file names a file twice."),
        (
            [path, "--dataset=ml-100k"],
            "--dataset=ml-100k: none of the models was trained on it, but tiny.",
        ),
        ([path, "--host=203.0.113.7"], "port 0 of 203.0.113.7 cannot be used"),
        ([path, "--port=70000"], "--port must be a number from 0 to 65535, not 70000."),
    ):
        if "cut" not in message and "file" not in message:
            pytest.importorskip("fastapi", reason="no FastAPI")
        assert cli.main(["app", "--port=0", "--model_file", *words]) == 2
        captured = capsys.readouterr()
        assert captured.err.startswith(f"recbole-evcf: error: {message}")
        assert captured.err.count("\n") == 1
        assert captured.out == ""
    monkeypatch.setattr("recbole_evcf.commands.app.find_spec", lambda name: None)
    assert cli.main(["app", "--model_file", path]) == 2
    assert 'needs the package fastapi: pip install ".[app]"' in capsys.readouterr().err


def test_names_of_models(paths):
    other = paths["EASE"].replace("EASE", "again")
    with open(paths["EASE"], "rb") as source, open(other, "wb") as copy:
        copy.write(source.read())
    names = [each["name"] for each in viewer_of([paths["EASE"], other]).about()["models"]]
    assert [name.partition("-")[0] for name in names] == ["EASE", "again"]
    assert "Amélie" in str(viewer_of([other]).search("amelie"))
