"""How the settings of evaluation fit together: ``eval_args``, ``metrics``, ``topk``."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import Any

from recbole.config import Config
from recbole.data.dataset import Dataset
from recbole.evaluator.register import metric_information

from recbole_evcf.config.keys import Role, with_role
from recbole_evcf.config.names import new_in_1_2_1
from recbole_evcf.utils.text import shortened, shown

__all__ = ["check_eval_args", "check_valid_metric", "overridden"]

SPLITS = ("RS", "LS", "TS", "SG")


def overridden(*sources: Mapping[str, Any]) -> dict[str, Any]:
    """Settings of several sources, later ones over earlier ones.

    RecBole replaces ``eval_args`` as a whole, so that a later one without a split would silently
    bring back RecBole's. Here it is overridden part by part; another kind of split leaves nothing
    of ``fold_in_ratio``, which belongs to the split by users.
    """
    settings: dict[str, Any] = {}
    for source in sources:
        before, after = settings.get("eval_args"), source.get("eval_args")
        settings.update(source)
        if isinstance(before, dict) and isinstance(after, dict):
            other_split = not _is_by_users(after.get("split", {"SG": None}))
            kept = {k: v for k, v in before.items() if k != "fold_in_ratio" or not other_split}
            settings["eval_args"] = {**kept, **after}
    return settings


def _is_by_users(split: object) -> bool:
    return isinstance(split, dict) and "SG" in split


def check_eval_args(config: Config) -> None:
    """Check ``eval_args``, of which RecBole leaves out what it does not know.

    Raises:
        ValueError: a part is unknown, has no effect, or has a value that it does not take.
    """
    arguments, parts = config["eval_args"], with_role(Role.PART_OF_EVAL_ARGS)
    for key in arguments:
        if key not in parts:
            close = difflib.get_close_matches(str(key), parts, n=1)
            hint = f" Did you mean {close[0]}?" if close else ""
            raise ValueError(f"eval_args takes {', '.join(parts)}, and not {shown(key)}.{hint}")
    # They are a split by themselves.
    if config["benchmark_filename"] is not None:
        return
    _check_split(arguments["split"])
    if "fold_in_ratio" in arguments and not _is_by_users(arguments["split"]):
        raise ValueError(
            "eval_args: fold_in_ratio is a part of the split by users (SG), and split is "
            f"{arguments['split']}: leave it out."
        )
    if arguments["order"] not in ("RO", "TO"):
        raise ValueError(f"eval_args: order must be RO or TO, not {shown(arguments['order'])}.")
    group_by = arguments["group_by"]
    if group_by not in (None, "user") and str(group_by).lower() != "none":
        raise ValueError(f"eval_args: group_by must be user or none, not {shown(group_by)}.")


def _check_split(split: Any) -> None:
    kinds = list(split) if isinstance(split, dict) else []
    if len(kinds) > 1:
        raise ValueError(
            f"eval_args: split names {shown(', '.join(map(str, kinds)))}: give one way to split."
        )
    if not kinds or kinds[0] not in SPLITS:
        raise ValueError(
            f"eval_args: split must be one of {', '.join(SPLITS)} with its value, such as "
            f"{{'RS': [0.8, 0.1, 0.1]}}, not {shown(split)}."
        )
    if "TS" in split and not hasattr(Dataset, "time_based_split"):
        raise new_in_1_2_1("eval_args: split: TS")
    shares = split.get("SG")
    counted = isinstance(shares, (list, tuple)) and all(type(share) is int for share in shares)
    if counted and sum(shares) in (10, 100) and min(shares) > 0:
        raise ValueError(
            f"eval_args: split: SG: {shares!r} are counts of users, {sum(shares)} in all, and the "
            f"others would be left out: write shares, {[s / sum(shares) for s in shares]}, or -1 "
            "for all the others."
        )


def check_valid_metric(config: Config) -> None:
    """Check that the metric which chooses the best epoch is one that will be computed.

    Raises:
        ValueError: it is not.
    """
    # No epoch is validated.
    if isinstance(config["eval_step"], int) and config["eval_step"] <= 0:
        return
    keys = _result_keys(config)
    if str(config["valid_metric"]).lower() not in keys:
        raise ValueError(
            f"valid_metric is {shortened(str(config['valid_metric']))}, which is not computed: "
            f"metrics is {config['metrics']} and topk {config['topk']}, which give "
            f"{shortened(', '.join(keys), 200)}."
        )


def _result_keys(config: Config) -> list[str]:
    """The keys of RecBole's results: ``ndcg@10``, and ``auc``, which has no cut-off."""
    keys = []
    for metric in (metric.lower() for metric in config["metrics"]):
        of_ranks = {"rec.topk", "rec.items"} & set(metric_information.get(metric, ()))
        keys += [f"{metric}@{k}" for k in config["topk"]] if of_ranks else [metric]
    return keys
