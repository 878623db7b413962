"""Names from an .item file."""

import numpy as np
import pytest

from recbole_evcf.inspection.inspection import item_names

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
    ("header", "name"),
    [
        ("item_id:token\tclass:token_seq\tmovie_title:token_seq", "b"),
        ("item_id:token\tstudio_name:token\tTitle:token", "b"),
        ("item_id:token\tname:token\tprice:token", "a"),
        ("item_id:token\tprice:float\ttitle_length:float", None),
    ],
)
def test_the_column_of_names(header, name, tmp_path):
    names = named(tmp_path, f"{header}\n1\ta\tb\n")
    assert names is None if name is None else names.tolist() == [name, "2", "30"]


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
