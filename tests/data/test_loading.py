"""Loading against what RecBole does itself: pandas' Python engine, Counter, loops."""

from collections import Counter

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from recbole.data.dataset import Dataset
from recbole.data.interaction import Interaction

from recbole_evcf import speed_up_recbole
from recbole_evcf.data.loading import count, grouped_index, parts_by_ratio, with_c_engine

speed_up_recbole()

OPTIONS = {
    "delimiter": "\t",
    "usecols": ["user_id:token", "x:float"],
    "dtype": {"user_id:token": str, "x:float": np.float64},
    "engine": "python",
}

cells = st.one_of(
    st.text(alphabet="ab1.-eE\"' ,é\u2028NaN", max_size=6),
    st.floats().map(repr),
    st.floats(allow_nan=False).map(lambda x: f"{x:.17g}"),
    st.integers(-(10**20), 10**20).map(str),
    st.sampled_from(
        ["", "NA", "nan", "inf", "-Infinity", "1e400", " 1.5", "1_0", "0x1p3", '"a b"']
    ),
)
rows = st.lists(st.lists(cells, min_size=1, max_size=4), min_size=1, max_size=8)


def outcome(read, path, **changes):
    try:
        return read(path, **{**OPTIONS, **changes})
    except Exception as error:
        return type(error), str(error)


def read_counting(engines):
    def read_csv(path, **options):
        engines.append(options["engine"])
        return pd.read_csv(path, **options)

    return read_csv


@given(rows, st.sampled_from(["\n", "\r\n"]))
@settings(
    max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_both_engines_read_the_same(tmp_path, table, end):
    text = end.join(["user_id:token\titem_id:token\tx:float", *map("\t".join, table), ""])
    (tmp_path / "x.inter").write_text(text, encoding="utf-8", newline="")
    expected = outcome(pd.read_csv, tmp_path / "x.inter")
    result = outcome(with_c_engine(pd.read_csv), tmp_path / "x.inter")
    if isinstance(expected, tuple):
        assert isinstance(result, tuple), result
        assert result == expected
    else:
        pd.testing.assert_frame_equal(result, expected, check_exact=True)


@pytest.mark.parametrize(
    ("text", "options", "expected"),
    [
        ("u 1\t7\t0.1\n\t8\t\n", {}, ["c"]),
        ("u\t7\t0.1\nv\t8\t2\t9\n", {}, ["python"]),
        ("u\t7\t0.1\nv\0w\t8\t2\n", {}, ["python"]),
        ("u\t7\t0.1\n \n", {}, ["python"]),
        ('u\t7\t0.1\n\t"\t"1\n', {}, ["python"]),
        ("u\t7\tsoon\n", {}, ["c", "python"]),
        ("u::7::0.1\n", {"delimiter": "::"}, ["python"]),
    ],
)
def test_what_could_differ_is_read_as_asked(text, options, expected, tmp_path):
    engines = []
    header = options.get("delimiter", "\t").join(["user_id:token", "item_id:token", "x:float\n"])
    (tmp_path / "x.inter").write_text(header + text, encoding="utf-8")
    outcome(with_c_engine(read_counting(engines)), tmp_path / "x.inter", **options)
    assert engines == expected


def test_lines_across_chunks_are_counted(tmp_path, monkeypatch):
    monkeypatch.setattr("recbole_evcf.data.loading.CHUNK", 7)
    engines = []
    text = "user_id:token\titem_id:token\tx:float\n" + "user\titem\t1\n" * 9
    (tmp_path / "x.inter").write_text(text + "u\ti\t1\t1", encoding="utf-8")
    outcome(with_c_engine(read_counting(engines)), tmp_path / "x.inter")
    assert engines == ["python"]
    (tmp_path / "x.inter").write_text(text, encoding="utf-8")
    assert len(outcome(with_c_engine(read_counting(engines)), tmp_path / "x.inter")) == 9
    assert engines == ["python", "c"]


@given(st.lists(st.sampled_from(["u", "v", "w", "1", "é"])))
def test_count_is_counter(values):
    for array in (pd.Series(values, dtype=str).values, np.array(values, dtype=object)):
        counted = count(array)
        assert counted == Counter(values)
        assert list(counted) == list(Counter(values))
    assert count() == Counter()
    numbers = np.array([len(value.encode()) for value in values], dtype=np.int64)
    assert list(count(numbers).items()) == list(Counter(numbers).items())


@given(st.lists(st.integers(1, 6), min_size=1), st.lists(st.integers(1, 9), min_size=2, max_size=4))
def test_grouping_and_splitting_are_recboles(keys, weights):
    keys = np.array(keys)
    groups = Dataset._grouped_index.__wrapped__(None, keys)
    assert grouped_index(keys) == list(groups)
    ratios = [weight / sum(weights) for weight in weights]
    expected = [[] for _ in ratios]
    for group in groups:
        points = Dataset._calcu_split_ids(None, len(group), ratios)
        for part, start, end in zip(expected, [0, *points], [*points, len(group)]):
            part.extend(group[start:end])
    parts = parts_by_ratio(keys, lambda size: Dataset._calcu_split_ids(None, size, ratios))
    assert [part.tolist() for part in parts] == expected


@pytest.mark.parametrize(
    "index",
    [
        np.array([4, 0, 0, 2]),
        np.array([3, 1], dtype=np.uint8),
        np.array([True, False, True, False, False]),
        np.array([4, 0], dtype=object),
        np.array([4, 0], dtype=np.uint16),
        np.array([4, 0], dtype=np.uint64),
        np.array([4, 0, -2], dtype=">i4"),
        np.arange(5)[::-2],
        np.array([]),
        torch.tensor([1, 1]),
        torch.tensor([], dtype=torch.long),
        torch.tensor(3),
        slice(1, 4),
        [2, 0],
        2,
    ],
)
def test_rows_of_an_interaction_are_recboles(index):
    columns = {"a": torch.arange(5), "b": torch.rand(5, 2)}
    expected = Interaction.__getitem__.__wrapped__(Interaction(columns), index)
    result = Interaction(columns)[index]
    assert list(result.columns) == ["a", "b"]
    for name in columns:
        assert torch.equal(result[name], expected[name])
