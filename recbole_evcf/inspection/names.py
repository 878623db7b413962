"""Names of items, where the data set has an .item file with a column of them."""

from __future__ import annotations

import os

import numpy as np
import pandas as pd

from recbole_evcf.data import atomic

__all__ = ["item_names", "name_column"]

NAME_TYPES = ("token", "token_seq")
# In this order: a title is a name, and a column such as studio_name may stand beside it.
NAME_WORDS = ("title", "name")


def item_names(config, tokens: np.ndarray) -> np.ndarray | None:
    """A name for each item; its original id where the file has none for it.

    RecBole loads columns of the .item file only where ``load_col`` asks for them, so the file is
    read here.

    Args:
        config: RecBole's ``Config`` of the data set.
        tokens: original item ids, (items,).

    Returns:
        (items,), or None without an .item file or without a column of names in it.

    Raises:
        ValueError: the file cannot be read.
    """
    path = os.path.join(config["data_path"], f"{config['dataset']}.item")
    if not os.path.isfile(path):
        return None
    separator, encoding = config["field_separator"], config["encoding"]
    id_field = config["ITEM_ID_FIELD"]
    with atomic.reading(path, separator, encoding, required=(id_field,)):
        with open(path, encoding=encoding) as file:
            header = file.readline().rstrip("\n").split(separator)
        column = name_column(header, id_field)
        if column is None:
            return None
        id_column = next(field for field in header if field.partition(":")[0] == id_field)
        table = pd.read_csv(
            path,
            sep=separator,
            encoding=encoding,
            usecols=[id_column, column],
            dtype=str,
            # A film may be called None, or NA.
            keep_default_na=False,
            engine="python",
        )
    names = table.drop_duplicates(id_column).set_index(id_column)[column]
    if column.endswith(":token_seq"):
        names = names.str.replace(config["seq_separator"], " ", regex=False)
    found = names[names != ""].reindex(tokens)
    return found.where(found.notna(), tokens).to_numpy(dtype=object)


def name_column(header: list[str], id_field: str) -> str | None:
    """The first column ``field:type`` of words whose field says title, or else name."""
    for word in NAME_WORDS:
        for column in header:
            field, _, kind = column.partition(":")
            if field != id_field and kind in NAME_TYPES and word in field.lower():
                return column
    return None
