"""Names from an .item file."""

import numpy as np
import pytest

from recbole_evcf.inspection.names import item_names, name_column

TOKENS = np.array(["1", "2", "30"], dtype=object)


def named(tmp_path, text, **settings):
    (tmp_path / "d").mkdir()
    if text is not None:
        (tmp_path / "d" / "d.item").write_text(text, encoding=settings.get("encoding", "utf-8"))
    config = {
        "data_path": str(tmp_path / "d"),
        "dataset": "d",
        "field_separator": "\t",
        "seq_separator": " ",
        "encoding": "utf-8",
        "ITEM_ID_FIELD": "item_id",
        **settings,
    }
    return item_names(config, TOKENS)


@pytest.mark.parametrize(
    ("header", "column"),
    [
        (["item_id:token", "movie_title:token_seq", "class:token_seq"], "movie_title:token_seq"),
        (["studio_name:token", "item_id:token", "Title:token"], "Title:token"),
        (["item_id:token", "name:token"], "name:token"),
        (["item_name:token", "price:float"], None),
        (["item_id:token", "title_length:float"], None),
    ],
)
def test_the_column_of_names(header, column):
    assert name_column(header, "item_name" if column is None else "item_id") == column


def test_names_by_token_whatever_their_order(tmp_path):
    text = "item_id:token\tprice:float\ttitle:token\n30\t1\tNone\n1\t2\tToy, Story & <b>\n9\t3\tX\n"
    assert named(tmp_path, text).tolist() == ["Toy, Story & <b>", "2", "None"]


def test_words_of_a_sequence_become_a_title(tmp_path):
    text = "item_id:token,name:token_seq\n1,Toy|Story\n2,\n30,Heat\n"
    names = named(tmp_path, text, field_separator=",", seq_separator="|", encoding="latin-1")
    assert names.tolist() == ["Toy Story", "2", "Heat"]


@pytest.mark.parametrize("text", [None, "item_id:token\tprice:float\n1\t2\n"])
def test_without_names(text, tmp_path):
    assert named(tmp_path, text) is None


def test_a_broken_file_is_named(tmp_path):
    with pytest.raises(ValueError, match=r"d\.item"):
        named(tmp_path, "movie:token\ttitle:token\n1\tx\n")
