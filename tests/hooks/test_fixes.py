"""Each repair of RecBole, proven by what RecBole then does."""

import os
import subprocess
import sys
import types
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from recbole.config import Config
from recbole.data import create_dataset
from recbole.data.dataset import Dataset
from recbole.quick_start import quick_start
from recbole.trainer import HyperTuning, TraditionalTrainer
from recbole.utils import get_model
from recbole.utils.case_study import full_sort_topk

import recbole_evcf
from build import RS, SIZES, build
from recbole_evcf.hooks import fixes_data

INTER = """user_id:token\titem_id:token\trating:float
u1\ti1\t1
u1\ti2\t
u2\ti1\t4
u2\ti3\t1
u3\ti2\t2
u3\ti3\t2
"""
ITEM = """item_id:token\tbrand:token\tgenre:token_seq\tprice:float\tview:float_seq
i1\tb1\tx y\t1.0\t0.5 0.25
i2\t\t\t\t
i3\tb2\ty\t3.0\t0.75
"""
# The package alone registers everything: here it is an empty one with the repairs in it.
PRELUDE = f"""
import sys, types
sys.modules["recbole_evcf"] = package = types.ModuleType("recbole_evcf")
package.__path__ = {recbole_evcf.__path__!r}
from recbole_evcf.hooks import fixes
"""


def fresh(code: str) -> subprocess.CompletedProcess:
    """Run code in a new interpreter, in the current folder."""
    done = subprocess.run(
        [sys.executable, "-c", PRELUDE + code], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done


def write_tiny(folder="data", inter=INTER) -> None:
    path = Path(folder, "tiny")
    path.mkdir(parents=True)
    (path / "tiny.inter").write_text(inter)
    (path / "tiny.item").write_text(ITEM)


def tiny_config(model="BPR", **settings) -> Config:
    load = {"inter": ["user_id", "item_id", "rating"], "item": "*"}
    settings = {"data_path": "data", "load_col": load, "state": "ERROR", **settings}
    return Config(model, "tiny", config_dict=settings)


def test_one_thread_calls_each_vector_function_first():
    """Where two do, torch may return values of low accuracy: seen in 1 of 40 processes."""
    code = """
import torch
from torch.utils._python_dispatch import TorchDispatchMode

class Calls(TorchDispatchMode):
    sizes = {}

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        if args and isinstance(args[0], torch.Tensor):
            self.sizes.setdefault((str(function), args[0].dtype), args[0].numel())
        return function(*args, **(kwargs or {}))

with Calls():
    fixes.repair()
for name in ("exp", "log", "sqrt", "tanh"):
    for dtype in (torch.float32, torch.float64):
        assert Calls.sizes[f"aten.{name}.default", dtype] == 1, name
"""
    fresh(code)


def test_a_repair_draws_no_random_number():
    fresh(
        "import random, numpy, torch\n"
        "def states():\n"
        "    return [random.getstate(), str(numpy.random.get_state()),"
        " torch.get_rng_state().tolist()]\n"
        "for generator in (random.seed, numpy.random.seed, torch.manual_seed):\n"
        "    generator(1)\n"
        "before = states()\n"
        "fixes.repair()\n"
        "assert states() == before\n"
    )


def test_numpy_has_its_old_names_and_nothing_else_changes():
    fresh(
        "import warnings, numpy\n"
        "before = dict(vars(numpy))\n"
        "warnings.simplefilter('error')\n"
        "fixes.repair_numpy_names()\n"
        "assert all(vars(numpy)[name] is value for name, value in before.items())\n"
        "for name in ('bool', 'bool8', 'complex', 'complex_', 'float', 'float_', 'int',\n"
        "             'long', 'object', 'str', 'unicode', 'unicode_'):\n"
        "    numpy.zeros(1, dtype=vars(numpy)[name])\n"
        "assert not {'ray', 'recbole', 'pandas', 'torch'} & set(sys.modules)\n"
    )


REPORT = "from recbole.quick_start.quick_start import tune\ntune.report(recall=0.1)"


class TestRay:
    @pytest.mark.parametrize("missing", ["ray", "pkg_resources"])
    def test_missing(self, missing):
        fresh(f"sys.modules[{missing!r}] = None\nfixes.repair()\n" + REPORT)

    def test_the_users_own_import(self):
        pytest.importorskip("ray.tune")
        done = fresh("fixes.repair()\nimport ray.tune\nassert ray.tune.Tuner\n" + REPORT)
        for said in ("pkg_resources", "Session not detected", "report"):
            assert said not in done.stderr

    @pytest.mark.parametrize("inside", [True, False, None])
    def test_reports_inside_ray_alone(self, inside, monkeypatch):
        reported = []
        tune = types.SimpleNamespace(report=reported.append)
        if inside is not None:
            tune.report = lambda **metrics: reported.append(metrics)
            tune.is_session_enabled = lambda: inside
        monkeypatch.setitem(sys.modules, "ray.tune", tune)
        quick_start.tune.report(recall=0.1)
        assert reported == [{"recall": 0.1}] * (inside is not False)


def test_light_gcn_fills_its_matrix():
    write_tiny()
    dataset = create_dataset(tiny_config("LightGCN"))
    dataset._change_feat_format()
    dense = get_model("LightGCN")(dataset.config, dataset).norm_adj_matrix.to_dense()
    torch.testing.assert_close(dense[dense > 0], torch.full((12,), 0.5))


class TestMissingValues:
    def test_columns_keep_their_rows(self):
        write_tiny()
        dataset = create_dataset(tiny_config())
        tokens = [list(dataset.id2token("genre", ids)) for ids in dataset.item_feat["genre"]]
        assert tokens == [[], ["x", "y"], [], ["y"]]
        # Row 0 is padding, row 2 the item without values: padding or the mean.
        assert [len(values) for values in dataset.item_feat["view"]] == [0, 2, 0, 1]
        assert dataset.item_feat["brand"].tolist() == [0, 1, 0, 2]
        assert dataset.item_feat["price"].tolist() == [2.0, 1.0, 2.0, 3.0]
        assert dataset.inter_feat["rating"].tolist() == [1, 2, 4, 1, 2, 2]

    def test_benchmark_sequences_have_their_own_length(self):
        write_tiny()
        text = "user_id:token\titem_id:token\titem_id_list:token_seq\nu1\ti3\ti1 i2\nu2\ti2\ti1\n"
        parts = ["train", "valid", "test"]
        for part in parts:
            Path(f"data/tiny/tiny.{part}.inter").write_text(text)
        settings = {"benchmark_filename": parts, "alias_of_item_id": ["item_id_list"]}
        settings.update(load_col=None, train_neg_sample_args=None)
        train, _, _ = create_dataset(tiny_config("GRU4Rec", **settings)).build()
        assert train.inter_feat["item_length"].tolist() == [2, 1]


WITHOUT_IDS = """user_id:token\titem_id:token\trating:float
NA\ti1\t1
u1\ti2\t2
u1\t\t3
\ti2\t4
u2\ti3\t5
u2\tnull\t6
u3\ti1\t7
"""


def test_rows_without_an_id_are_left_out(caplog):
    write_tiny(inter=WITHOUT_IDS)
    dataset = create_dataset(tiny_config(load_col={"inter": "*"}, state="WARNING"))
    fields = ("user_id", "item_id")
    columns = [dataset.id2token(each, dataset.inter_feat[each].to_numpy()) for each in fields]
    assert list(zip(*columns)) == [("u1", "i2"), ("u2", "i3"), ("u3", "i1")]
    assert dataset.inter_feat["rating"].tolist() == [2, 5, 7]
    assert [text for text in caplog.messages if "left out" in text] == [
        "In inter_feat, 2 rows have no user_id and are left out (line 2, 5).",
        "In inter_feat, 2 rows have no item_id and are left out (line 4, 7).",
    ]


def test_long_tokens_are_the_same_strings_in_less_room(monkeypatch):
    long = "x" * 1000
    write_tiny(inter=INTER.replace("u3", long))
    before = create_dataset(tiny_config())
    assert before.field2id_token["user_id"].dtype.kind == "U"
    monkeypatch.setattr(fixes_data, "MAX_TOKEN_CHARACTERS", 2000)
    dataset = create_dataset(tiny_config())
    tokens = dataset.field2id_token["user_id"]
    assert tokens.dtype == object
    assert tokens.tolist() == before.field2id_token["user_id"].tolist()
    assert dataset.field2token_id["user_id"] == before.field2token_id["user_id"]
    assert dataset.inter_feat.equals(before.inter_feat)
    assert dataset.id2token("user_id", [3, 1]).tolist() == [long, "u1"]


def load():
    return create_dataset(tiny_config(load_col={"inter": "*"}))


@pytest.mark.parametrize("model", ["EASE", "EDLAE", "WMF", "Pop"])
def test_models_of_one_epoch_are_kept_and_tested_whatever_eval_step_is(tiny, model):
    expected, result = (
        recbole_evcf.run(model, "tiny", **{**tiny, **SIZES.get(model, {}), "eval_step": step})
        for step in (1, 5)
    )
    assert result["test_result"] == expected["test_result"]
    assert result["best_valid_result"] == expected["best_valid_result"]


def test_the_trainer_of_one_epoch_takes_keywords_too(tiny):
    config, _, model, _ = build("Pop", "tiny", {**tiny, "eval_step": 5})
    assert TraditionalTrainer(config=config, model=model).eval_step == 1


def test_flops_of_a_data_set_of_one_interaction():
    write_tiny(inter="\n".join(INTER.splitlines()[:2]) + "\n")
    assert quick_start.get_flops(None, load(), "cpu", None, None) == 0


class TestDownload:
    @pytest.fixture
    def archive(self, monkeypatch, tmp_path):
        """The archive that RecBole takes the data set from."""
        write_tiny("source")
        path = tmp_path / "archive.zip"
        with zipfile.ZipFile(path, "w") as file:
            file.write("source/tiny/tiny.inter", "archive.inter")
        monkeypatch.setattr(Dataset, "_get_download_url", lambda self, name: path.as_uri())
        return path

    @pytest.mark.parametrize("group", [False, True])
    def test_waits_for_a_group_alone(self, archive, group, monkeypatch):
        waited = []
        monkeypatch.setattr(torch.distributed, "is_initialized", lambda: group)
        monkeypatch.setattr(torch.distributed, "barrier", lambda: waited.append(1))
        assert load().inter_num == 6
        assert os.listdir("data/tiny") == ["tiny.inter"]
        assert waited == [1] * group

    def test_an_archive_that_is_broken_or_explodes(self, archive):
        with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as file:
            file.writestr("archive.inter", bytes(10_000_000))
        with pytest.raises(ValueError, match=r"would unpack from .* to 10,000,000 bytes.*atomic"):
            load()
        archive.write_bytes(b"half an archive")
        with pytest.raises(ValueError, match=r"\[tiny\].*data/tiny.*atomic files"):
            load()
        assert not os.path.exists("data/tiny")

    def test_an_archive_that_points_outside(self, archive):
        with zipfile.ZipFile(archive, "a") as file:
            file.writestr("../../evil.inter", "evil")
        load()
        assert not any(map(os.path.exists, ("evil.inter", "../evil.inter")))

    def test_unknown_name(self):
        with pytest.raises(ValueError, match="a known dataset name"):
            load()


class TestHyperTuning:
    def tune(self, **settings) -> list:
        seen = []

        def objective(config, files):
            seen.append(config)
            result = {"best_valid_result": {"recall@10": 1.0}, "test_result": {"recall@10": 1.0}}
            return {"model": "BPR", "best_valid_score": 1.0, "valid_score_bigger": True, **result}

        HyperTuning(objective, **settings).run()
        return seen

    CHOICES = ([[8], [8, 8], "[16]"], [{"p": [1, 2]}, {"p": {"q": [3]}}, None, [[1], {"p": []}]])

    @pytest.mark.parametrize("algo", ["exhaustive", "random", "bayes"])
    @pytest.mark.parametrize("choices", CHOICES, ids=["lists", "dicts"])
    def test_choices_of_any_kind_are_handed_on_as_they_are(self, algo, choices):
        space = {"choice": {"size": choices, "rate": [0.1, 0.2]}}
        seen = self.tune(params_dict=space, algo=algo, max_evals=40)
        found = sorted(f"{params['size']!r} {params['rate']}" for params in seen)
        expected = sorted(f"{size!r} {rate}" for size in choices for rate in (0.1, 0.2))
        # Without a seed, as RecBole draws: seldom, a choice is left out.
        assert found == expected if algo == "exhaustive" else set(found) <= set(expected)

    def test_parameter_file(self):
        Path("space").write_text("size choice [2**3, 16]\nlayers choice ['[8,4]']\n")
        seen = self.tune(params_file="space")
        assert sorted(params["size"] for params in seen) == [8, 16]
        assert {params["layers"] for params in seen} == {"[8,4]"}

    @pytest.mark.parametrize("text", ["[open('made','w')]", "[1,"])
    def test_parameter_file_runs_no_code(self, text):
        Path("space").write_text(f"size choice {text}\n")
        with pytest.raises(ValueError, match="no plain Python values"):
            self.tune(params_file="space")
        assert not os.path.exists("made")


PLAIN = ["True", "None", "7", "-1", "0.1", "1e-3", "'text'", "(1, 2)", " 3"]
PLAIN += ["[1, 'a', [0.5]]", "{'a': {'b': [1]}}"]
PLAIN += ["2**10", "2**-1", "1/3", "7//2 + 7%2 - 2*3", "[2**3, -(1+1)]"]
CODE = ["open('made','w')", "__import__('os').mkdir('made')", "[open('made','w')]", "(lambda: 1)"]
NO_VALUE = [*CODE, "a.b", "'a' * 3", "9**9**9", "1/0", "{[]: 1}", "a\0b", ""]
NO_VALUE += ["[]x", "[a b]", "[a-b]"]
NO_VALUE += ["(" * 5000, "-" * 50000 + "1"]


@pytest.mark.parametrize("text", PLAIN)
def test_plain_values_in_settings(text):
    assert repr(tiny_config(tail_ratio=text)["tail_ratio"]) == repr(eval(text))


@pytest.mark.parametrize("text", ["[MRR]", "[MRR,NDCG]", "[ MRR , NDCG ]"])
def test_a_list_of_which_the_shell_took_the_quotes(text):
    assert tiny_config(metrics=text)["metrics"] == ["MRR", "NDCG"][: text.count(",") + 1]


@pytest.mark.parametrize("text", NO_VALUE, ids=lambda text: text[:10])
def test_everything_else_in_settings_stays_a_string(text):
    assert tiny_config(tail_ratio=text)["tail_ratio"] == text
    assert not os.path.exists("made")


@pytest.mark.parametrize("split", [{"RS": [0.8, 0.1, 0.1]}, {"LS": "valid_and_test"}])
@pytest.mark.parametrize("batch", [4096, 7])
def test_pop_counts_every_training_interaction(tiny, split, batch):
    """RecBole's own counts an item once per batch, and sampled negatives too."""
    how = {**RS, "split": split, "order": "TO"}
    settings = {**tiny, "eval_args": how, "train_batch_size": batch}
    _, loaders, network, trainer = build("Pop", "tiny", settings)
    trainer.fit(loaders[0], loaders[1], saved=False)
    items = loaders[0]._dataset.inter_feat["item_id"]
    counts = np.bincount(items, minlength=network.n_items)
    assert network.item_cnt.flatten().tolist() == counts.tolist()
    assert int(network.max_cnt) == counts.max()
    scores = network.full_sort_predict({"user_id": torch.arange(1, 4)}).reshape(3, -1)
    torch.testing.assert_close(scores, torch.from_numpy(counts / counts.max()).expand(3, -1))


def diversity(top, train_items, n_items, tail):
    """RecBole's metrics of what is recommended, (users, K), by their formulas."""
    users, k = top.shape
    shown = np.bincount(top.flatten(), minlength=n_items)
    counts = np.bincount(train_items, minlength=n_items)
    known = sorted((count, item) for item, count in enumerate(counts) if count)
    rare = [item for _, item in known[: max(int(len(known) * tail), 1)]]
    share = shown[shown > 0] / shown.sum()
    rank = np.arange(1, n_items + 1)
    return {
        # RecBole counts its padding item among the items.
        "itemcoverage": (shown > 0).sum() / n_items,
        "averagepopularity": counts[top].mean(),
        "shannonentropy": -(share * np.log(share)).sum() / len(share),
        "giniindex": ((2 * rank - n_items - 1) * np.sort(shown)).sum() / (n_items * users * k),
        "tailpercentage": np.isin(top, rare).mean(),
    }


@pytest.mark.parametrize(
    ("model", "split"),
    [("BPR", "RS"), ("EASE", "RS"), ("HVamp", "RS"), ("EASE", "SG"), ("HVamp", "SG")],
)
def test_metrics_that_need_counts(tiny, model, split):
    shares = {"RS": [0.8, 0.1, 0.1], "SG": [0.5, 0.2, 0.3]}[split]
    names = ["ItemCoverage", "AveragePopularity", "ShannonEntropy", "GiniIndex", "TailPercentage"]
    how = {"eval_args": {"split": {split: shares}, "order": "RO", "mode": "full"}, "epochs": 1}
    shown = {"metrics": names, "topk": [3, 5], "valid_metric": "ItemCoverage@5"}
    settings = {**tiny, **how, **shown, "tail_ratio": 0.4, "metric_decimal_place": 10}
    config, loaders, network, trainer = build(model, "tiny", settings)
    trainer.fit(loaders[0], loaders[1], saved=False)
    # Twice: what is collected of training is there for each evaluation.
    result, again = (trainer.evaluate(loaders[2], load_best_model=False) for _ in range(2))
    assert again == result
    users = loaders[2].uid_list.numpy()
    train = loaders[0]._dataset.inter_feat["item_id"].numpy()
    for k in (3, 5):
        _, top = full_sort_topk(users, network, loaders[2], k, device=config["device"])
        expected = diversity(top.numpy(), train, network.n_items, 0.4)
        for name, value in expected.items():
            assert result[f"{name}@{k}"] == pytest.approx(value), name
