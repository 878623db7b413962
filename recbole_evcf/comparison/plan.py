"""What a comparison will run, checked before anything of it runs."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from recbole.config import Config
from recbole.utils.argument_list import dataset_arguments, evaluation_arguments

from recbole_evcf.comparison.entry import Entry
from recbole_evcf.comparison.identity import digest_of_data, identity
from recbole_evcf.config.checks import check_seed, finished_config, resolve_config_files
from recbole_evcf.config.names import check_keys_of_model
from recbole_evcf.data.loading_settings import check_tested
from recbole_evcf.results import digest
from recbole_evcf.utils.text import shortened

__all__ = ["SHARED", "Plan", "Run", "make_plan"]

# These decide what is evaluated: with one of them its own, a model could not be compared.
SHARED = {
    *dataset_arguments,
    *evaluation_arguments,
    "data_path",
    "dataset",
    "model",
    "seed",
    "split_seed",
} - {"MAX_ITEM_LIST_LENGTH", "eval_batch_size"}


@dataclass(frozen=True)
class Run:
    """One training and evaluation: an entry with one seed.

    Attributes:
        entry: what is run.
        seed: of the model.
        settings: every config key with an effect on the result, and what else tells results
            apart: version and device, and the digest of the data.
        request: what :func:`recbole_evcf.comparison.worker.execute` takes.
    """

    entry: Entry
    seed: int
    settings: dict
    request: dict

    @property
    def digest(self) -> str:
        """A short text that is the same for the same settings."""
        return digest(self.settings)[:16]


@dataclass(frozen=True)
class Plan:
    """The runs of a comparison.

    Attributes:
        dataset: name of the data set.
        entries: in the order of the tables.
        seeds: of the models.
        split_seed: of the split, the same for all.
        eval_args: RecBole's key of that name: how the data are split.
        metrics: keys of RecBole's results, such as ``ndcg@100``, to the names they have in tables.
        valid_metric: the key by which models are selected.
        runs: entry by entry, seed by seed.
    """

    dataset: str
    entries: tuple[Entry, ...]
    seeds: tuple[int, ...]
    split_seed: int
    eval_args: dict
    metrics: dict[str, str]
    valid_metric: str
    runs: tuple[Run, ...]


def make_plan(
    entries: Sequence[Entry],
    dataset: str,
    config_files: Sequence[str] = (),
    settings: Mapping[str, object] | None = None,
    seeds: Sequence[int] = (),
    user_files: Sequence[str] = (),
) -> Plan:
    """Check a comparison and list its runs.

    Args:
        entries: the models.
        dataset: name of the data set.
        config_files: files for all, read first.
        settings: config keys for all; they go before every file.
        seeds: of the models; by default the one of the config.
        user_files: files for all, read last.

    Raises:
        ValueError: a model, a setting or a seed is wrong; nothing has been run.
    """
    settings = dict(settings or {})
    if seeds and "seed" in settings:
        raise ValueError("--seed and --seeds were both given: the seeds of the models are --seeds.")
    if len(set(seeds)) < len(seeds):
        raise ValueError(f"--seeds names a seed twice: {', '.join(map(str, seeds))}.")
    made = []
    for entry in entries:
        files = resolve_config_files([*config_files, *entry.config_files, *user_files])
        made.append((entry, files, _config_of(entry, dataset, files, settings)))
    first = made[0][2]
    check_tested(first)
    name, seeds = ("--seeds", tuple(seeds)) if seeds else ("seed", (first["seed"],))
    for seed in seeds:
        check_seed(seed, name)
    split_seed = seeds[0] if first["split_seed"] is None else first["split_seed"]
    data = digest_of_data(first)
    runs = tuple(
        _run(entry, seed, split_seed, files, settings, config, data)
        for entry, files, config in made
        for seed in seeds
    )
    return Plan(
        dataset,
        tuple(entries),
        seeds,
        split_seed,
        first["eval_args"],
        _names_of_metrics(first),
        str(first["valid_metric"]).lower(),
        runs,
    )


def _config_of(entry: Entry, dataset: str, files: Sequence[str], settings: Mapping) -> Config:
    label = shortened(entry.label, 200)
    for key in entry.settings:
        if key in SHARED:
            raise ValueError(
                f"{label}: {key} must be the same for all models; set it as --{key}=... ."
            )
    config = finished_config(entry.model, dataset, files, {**settings, **entry.settings})
    try:
        check_keys_of_model(config, sorted(entry.settings.keys() - settings.keys()))
    except ValueError as error:
        raise ValueError(f"{label}: {error}") from None
    return config


def _run(entry, seed, split_seed, files, settings, config, data) -> Run:
    request = {
        "model": entry.model,
        "dataset": config["dataset"],
        "config_files": [os.path.abspath(path) for path in files],
        "settings": {**settings, **entry.settings, "seed": seed, "split_seed": split_seed},
    }
    return Run(entry, seed, identity(config, data, seed=seed, split_seed=split_seed), request)


def _names_of_metrics(config: Config) -> dict[str, str]:
    """Keys of RecBole's results in the order in which it computes them, and how to print them."""
    names = {}
    for metric in config["metrics"]:
        names.update({f"{metric.lower()}@{k}": f"{metric}@{k}" for k in config["topk"]})
        # Metrics without a cut-off, such as AUC.
        names[metric.lower()] = metric
    return names
