"""A table's file is a data set, and a config file beside a data set is read by itself."""

import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from recbole.config import Config
from recbole.quick_start import run_recbole

from build import build
from conftest import parts_made_elsewhere
from recbole_evcf import cli, compare, prepare, run, tune
from recbole_evcf.comparison.plan import settings_of_result
from recbole_evcf.data.identity import digest_of_data
from recbole_evcf.data.prepare import prepared

SMALL = ["--mlp_hidden_size=[8]", "--latent_dimension=4", "--n_pseudo_inputs=3", "--epochs=1"]
SMALL += ["--show_progress=False", "--state=error"]


@pytest.fixture
def shop():
    """The path of a shop's table, with times in milliseconds."""
    pairs = [(user, item) for user in range(30) for item in range(user % 7, user % 7 + 6)]
    rows = [f"C-{user:03},SKU{item}A,{1700000000000 + user * item}" for user, item in pairs]
    path = Path("our shop.2026.csv")
    path.write_text("\n".join(["customer,sku,date", *rows]) + "\n")
    return path


def test_a_tables_file_is_a_data_set(shop, capsys, caplog):
    words = ["run", "--model=Vamp", f"--dataset={shop}", *SMALL]
    assert cli.main(words) == 0
    assert "dataset/our-shop: prepared from table" in caplog.text
    output = capsys.readouterr()
    (model_file,) = Path("saved").glob("*.pth")
    assert output.err.splitlines()[-3:] == [
        f"The model is in {model_file}",
        f"  recbole-evcf recommend --model_file={model_file} --output=recommendations.csv",
        f"  recbole-evcf inspect --model_file={model_file} --output=inspection",
    ]
    for line in output.err.splitlines()[-2:]:
        assert cli.main(line.split()[1:]) == 0
    assert len(Path("recommendations.csv").read_text().splitlines()) > 30
    # Prepared once, until the file changes.
    caplog.clear()
    written = os.stat("dataset/our-shop/our-shop.inter").st_mtime_ns
    assert run("Vamp", str(shop), epochs=0, state="error")["model_file"]
    assert os.stat("dataset/our-shop/our-shop.inter").st_mtime_ns == written
    assert not caplog.text
    with shop.open("a") as file:
        file.write("C-999,SKU3A,1700000000000\n")
    os.utime(shop, (1, 1))
    assert cli.main(words) == 0
    assert "C-999" in Path("dataset/our-shop/our-shop.inter").read_text()


def test_another_data_set_of_that_name_is_not_replaced(shop, capsys):
    Path("dataset/our-shop").mkdir(parents=True)
    Path("dataset/our-shop/our-shop.inter").write_text("mine")
    assert cli.main(["run", f"--dataset={shop}", *SMALL]) == 2
    error = capsys.readouterr().err
    assert "our-shop: exists already; pass overwrite" in error
    words = "prepare table '--raw=our shop.2026.csv' --name=our-shop --output=dataset/"
    assert f"; options of the table can be given to: recbole-evcf {words}\n" in error
    assert Path("dataset/our-shop/our-shop.inter").read_text() == "mine"


def test_a_file_of_that_name_in_another_folder_is_another(shop):
    for folder in ("orders of May", "orders of June"):
        Path(folder).mkdir()
        shop.rename(Path(folder, shop.name))
        shop = Path(folder, shop.name)
        if folder == "orders of May":
            assert prepared(str(shop), "dataset") == "our-shop"
    with pytest.raises(ValueError, match="our-shop: exists already"):
        prepared(str(shop), "dataset")


WAYS = {
    "run": lambda shop: run("Pop", shop, "own.yaml"),
    "file": lambda shop: run("Pop", config_files="own.yaml"),
    "tune": lambda shop: tune("EASE", "own.hyper", shop, config_files=["own.yaml"]).best,
    "compare": lambda shop: compare("Pop", shop, config_files=["own.yaml"]).table.dropna(),
    "RecBole": lambda shop: run_recbole("Pop", shop, ["own.yaml"]),
}


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
def test_a_tables_file_is_prepared_where_a_config_file_says(shop, way):
    own = {"data_path": "elsewhere", "dataset": str(shop), "state": "error"}
    Path("own.yaml").write_text(yaml.safe_dump(own))
    Path("own.hyper").write_text("reg_weight choice [5.0]\n")
    assert len(way(str(shop)))
    assert Path("elsewhere/our-shop/our-shop.inter").is_file()
    assert not Path("dataset").exists()


@pytest.mark.parametrize("changed", ["our shop.2026.csv", "names.tsv"])
def test_a_changed_file_is_prepared_with_the_options_of_before(shop, changed):
    Path("names.tsv").write_text("sku\tname\nSKU3A\tTea pot\n")
    options = {"title": "name", "min_item": np.int64(8)}
    prepare(shop, "our-shop", item_file=Path("names.tsv"), **options)
    folder, shop = Path("dataset/our-shop").resolve(), str(shop.resolve())
    before = {path.name: path.read_text().splitlines() for path in folder.iterdir()}
    written = os.stat(folder / "our-shop.item").st_mtime_ns
    prepared(shop, str(folder.parent))
    assert os.stat(folder / "our-shop.item").st_mtime_ns == written
    os.utime(changed, (1, 1))
    os.chdir("/")
    prepared(shop, str(folder.parent))
    after = {path.name: path.read_text().splitlines() for path in folder.iterdir()}
    assert before["our-shop.yaml"].pop(0) != after["our-shop.yaml"].pop(0)
    assert before == after
    assert len(before) == 3
    # A table of items that is in no file cannot be read again.
    items = pd.DataFrame({"sku": ["SKU3A"], "name": "Tea pot"})
    prepare(shop, "our-shop", output=folder.parent, overwrite=True, item_file=items, **options)
    with pytest.raises(ValueError, match="our-shop: exists already"):
        prepared(shop, str(folder.parent))


def test_what_was_added_to_a_data_set_is_kept_when_its_file_changes(shop):
    prepared(shop, "dataset")
    config, users = Path("dataset/our-shop/our-shop.yaml"), Path("dataset/our-shop/our-shop.user")
    own = "  user: [user_id, age]\n# Mine, for ü:\ntopk: [7, 10]\n"
    config.write_text(config.read_text() + own)
    users.write_text("user_id:token\tage:float\nC-001\t30\n")
    pd.read_csv(shop)[["customer", "sku"]].to_csv(shop, index=False)
    os.utime(shop, (1, 1))
    assert Config("Pop", str(shop))["topk"] == [7, 10]
    columns = {"inter": ["user_id", "item_id"], "user": ["user_id", "age"]}
    assert yaml.safe_load(config.read_text()) == {"load_col": columns, "topk": [7, 10]}
    assert config.read_text().endswith(own)
    assert users.read_text().endswith("\nC-001\t30\n")
    assert "timestamp" not in Path("dataset/our-shop/our-shop.inter").read_text()
    prepare(shop, "our-shop", overwrite=True)
    assert sorted(os.listdir(config.parent)) == ["our-shop.inter", "our-shop.yaml"]
    assert "topk" not in config.read_text()


def test_equal_data_are_the_same_whenever_and_wherever_they_were_prepared(shop, monkeypatch):
    def key():
        config = Config("Pop", str(shop))
        return settings_of_result(config, digest_of_data(config))

    before, written = key(), os.stat("dataset/our-shop/our-shop.inter").st_mtime_ns
    with monkeypatch.context() as elsewhere:
        elsewhere.setenv("TZ", "Asia/Tokyo")
        time.tzset()
        assert key() == before
    time.tzset()
    assert os.stat("dataset/our-shop/our-shop.inter").st_mtime_ns == written
    os.utime(shop, (1, 1))
    assert key() == before
    assert os.stat("dataset/our-shop/our-shop.inter").st_mtime_ns != written
    with shop.open("a") as file:
        file.write("C-999,SKU3A,1700000000000\n")
    assert key() != before


# As slow as a large table, with a gap between the renames.
AT_ONCE = """
import sys, time
from pathlib import Path
from recbole.config import Config
from recbole_evcf.data.prepare import FORMATS

def slow(function, seconds):
    def slowed(*args, **options):
        done = function(*args, **options)
        time.sleep(seconds)
        return done
    return slowed

FORMATS["table"], Path.rename = slow(FORMATS["table"], 0.5), slow(Path.rename, 0.5)
print(flush=True)
sys.stdin.readline()
print(Config("Pop", sys.argv[1])["topk"])
"""


def test_of_processes_that_ask_at_once_one_prepares_and_the_others_wait(shop):
    prepared(shop, "dataset")
    with Path("dataset/our-shop/our-shop.yaml").open("a") as file:
        file.write("topk: [7, 10]\n")
    os.utime(shop, (1, 1))
    pipes = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
    words = [sys.executable, "-c", AT_ONCE, str(shop)]
    processes = [subprocess.Popen(words, text=True, **pipes) for _ in range(3)]
    for process in processes:
        process.stdout.readline()
    for process in processes:
        process.stdin.write("\n")
        process.stdin.flush()
    said = [process.communicate(timeout=60) for process in processes]
    assert [output for output, _ in said] == ["[7, 10]\n"] * 3, said
    assert sum("prepared from table" in error for _, error in said) == 1
    assert os.listdir("dataset") == ["our-shop"]


@pytest.mark.parametrize("options", ["{", "[1]", '{"min_users": 3}'])
def test_options_that_were_damaged(shop, options):
    prepared(shop, "dataset")
    config = Path("dataset/our-shop/our-shop.yaml")
    config.write_text(config.read_text().replace("# Options: {}", f"# Options: {options}"))
    before = config.read_text()
    os.utime(shop, (1, 1))
    where = "dataset/our-shop/our-shop.yaml, options: Expecting" if options == "{" else ""
    with pytest.raises(ValueError, match=f"^{where}.*; options of the table can be given to: rec"):
        prepared(shop, "dataset")
    assert config.read_text() == before


def test_the_file_beside_a_data_set_is_below_the_users(tiny):
    settings = {"data_path": tiny["data_path"], "epochs": 9}
    path = Path(tiny["data_path"], "tiny", "tiny.yaml")
    own = {"epochs": 7, "valid_metric": "MRR@3", "topk": 3, "eval_args": {"order": "TO"}}
    path.write_text(yaml.safe_dump(own))
    config = Config("Vamp", "tiny", config_dict=settings)
    assert (config["epochs"], config["topk"], config["eval_args"]["order"]) == (9, [3], "TO")
    Path("mine.yaml").write_text("topk: [3, 4]\n")
    assert Config("BPR", "tiny", ["mine.yaml"], settings)["topk"] == [3, 4]
    path.write_text("epoch: 7\n")
    with pytest.raises(ValueError, match=r"tiny\.yaml: Vamp has no setting 'epoch'"):
        Config("Vamp", "tiny", config_dict=settings)


def test_a_prepared_split_needs_no_config_file():
    Path("raw").mkdir()
    users = {user for pairs in parts_made_elsewhere().values() for user, _ in pairs}
    number = {name: n for n, name in enumerate(sorted(users))}
    names = ("train", "validation_tr", "validation_te", "test_tr", "test_te")
    for name, pairs in zip(names, parts_made_elsewhere().values()):
        rows = [f"{number[user]},{item[1:]}" for user, item in pairs]
        Path("raw", f"{name}.csv").write_text("\n".join(["uid,sid", *rows]) + "\n")
    prepare("raw", "made", "pro_sg")
    settings = {"n_pseudo_inputs": 3, "epochs": 1, "state": "error"}
    _, (train, valid, _), _, _ = build("Vamp", "made", settings)
    assert (len(train.user_list), len(valid.uid_list)) == (20, 5)
