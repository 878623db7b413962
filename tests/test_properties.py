"""The shipped YAML files, read as a user reads them."""

import pytest
import yaml
from recbole.config import Config
from recbole.data import create_dataset

from prepare_raw_files import write_files
from recbole_evcf import cli
from recbole_evcf.config.files import shipped_file, shipped_names

# The paper's figures, no settings.
NO_CONFIGS = ("paper/published",)


@pytest.mark.parametrize("name", [name for name in shipped_names() if name not in NO_CONFIGS])
def test_every_file_is_a_mapping_that_config_takes(name):
    content = yaml.safe_load(shipped_file(name).read_text(encoding="utf-8"))
    assert isinstance(content, dict)
    config = Config(content.get("model", "GatedHVamp"), "ml-100k", [name])
    for key, value in content.items():
        if key not in ("eval_args", "train_neg_sample_args"):
            assert config[key] == value, key


RATINGS = {
    # user: (item, rating) pairs; 4 and above count, 5 of them are needed.
    1: [(item, 4.0) for item in range(1, 6)],
    2: [(item, 5.0) for item in range(1, 5)] + [(9, 3.5)],
    3: [(item, 4.5) for item in range(2, 9)] + [(1, 0.5)],
}


@pytest.mark.parametrize("kind", ["ml-20m", "netflix"])
def test_prepared_ratings_are_filtered_as_published(tmp_path, capsys, kind):
    rows = [(user, item, rating) for user, rated in RATINGS.items() for item, rating in rated]
    if kind == "ml-20m":
        name, lines = "ratings.csv", [f"{user},{item},{rating},1000" for user, item, rating in rows]
        lines.insert(0, "userId,movieId,rating,timestamp")
    else:
        # In whole stars, each below its film.
        name, stars = "combined_data_1.txt", [(u, i, max(1, int(rating))) for u, i, rating in rows]
        lines = [f"{item}:\n{user},{rating},2005-09-06" for user, item, rating in stars]
    raw = write_files(tmp_path / "raw", {name: "\n".join(lines) + "\n"})
    output = str(tmp_path / "data")
    assert cli.main(["prepare", kind, f"--raw={raw}", f"--output={output}"]) == 0
    assert "published" in capsys.readouterr().out
    config = Config("Vamp", kind, [f"dataset/{kind}"], {"data_path": output})
    dataset = create_dataset(config)
    assert len(dataset.inter_feat) == 5 + 7
    assert sorted(dataset.field2id_token["user_id"][1:]) == ["1", "3"]
