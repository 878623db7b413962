"""Plan a comparison's runs and check them before any starts."""

from __future__ import annotations

import ast
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from recbole.config import Config
from recbole.utils.argument_list import dataset_arguments, evaluation_arguments

from recbole_evcf.config.files import read_yaml, resolve_config_files
from recbole_evcf.config.keys import Role, checked, effective_settings, with_role
from recbole_evcf.config.names import check_keys_of_model, check_several
from recbole_evcf.data.identity import digest_of_data
from recbole_evcf.data.loading_settings import check_tested
from recbole_evcf.results import VERSIONS, digest
from recbole_evcf.trainer.checkpoint import plain_config
from recbole_evcf.utils.text import shortened, shown

__all__ = [
    "SHARED",
    "ModelSpec",
    "Plan",
    "Run",
    "make_plan",
    "parse_models",
    "settings_of_result",
]

# These decide what is evaluated: a model with its own value could not be compared.
SHARED = {
    *dataset_arguments,
    *evaluation_arguments,
    *with_role(Role.SAME_FOR_ALL),
} - {*with_role(Role.OF_EACH_MODEL)}
CLOSING = {"[": "]", "(": ")", "{": "}"}
QUOTES = "'\""


@dataclass(frozen=True)
class ModelSpec:
    """A model as it takes part in a comparison.

    Attributes:
        label: its name in tables and figures.
        model: RecBole's or our name of it.
        settings: config keys of this model alone; they override the settings of all models.
        config_files: files of this model alone, read after those that set the protocol.
    """

    label: str
    model: str
    settings: dict = field(default_factory=dict)
    config_files: tuple[str, ...] = ()


@dataclass(frozen=True)
class Run:
    """One training and evaluation of a model with one seed.

    Attributes:
        spec: the model.
        seed: of the model.
        settings: the key of the result, see :func:`settings_of_result`.
        request: what :func:`recbole_evcf.comparison.worker.execute` takes.
    """

    spec: ModelSpec
    seed: int
    settings: dict[str, Any]
    request: dict[str, Any]

    @property
    def name(self) -> str:
        """The name of the run's files, the same for the same settings."""
        return f"{self.spec.model}-{self.seed}-{digest(self.settings)[:16]}"


@dataclass(frozen=True)
class Plan:
    """The runs of a comparison.

    Attributes:
        dataset: name of the data set.
        specs: the models, in the order of the tables.
        seeds: of the models.
        split_seed: of the split, the same for all.
        eval_args: RecBole's key of that name: how the data are split.
        metrics: keys of RecBole's results, such as ``ndcg@100``, to the names they have in tables.
        valid_metric: the key by which models are selected.
        runs: model by model, seed by seed.
    """

    dataset: str
    specs: tuple[ModelSpec, ...]
    seeds: tuple[int, ...]
    split_seed: int
    eval_args: dict[str, Any]
    metrics: dict[str, str]
    valid_metric: str
    runs: tuple[Run, ...]


def make_plan(
    specs: Sequence[ModelSpec],
    dataset: str,
    config_files: Sequence[str] = (),
    settings: Mapping[str, object] | None = None,
    seeds: Sequence[int] = (),
    user_files: Sequence[str] = (),
) -> Plan:
    """Check a comparison and list its runs.

    Args:
        specs: the models.
        dataset: name of the data set.
        config_files: files for all models, read first.
        settings: config keys for all models; they override every file.
        seeds: of the models; by default the one of the config.
        user_files: files for all models, read last.

    Raises:
        ValueError: a model, a setting or a seed is wrong; nothing has been run.
    """
    settings = dict(settings or {})
    if seeds and "seed" in settings:
        raise ValueError("--seed and --seeds were both given: the seeds of the models are --seeds.")
    if len(set(seeds)) < len(seeds):
        raise ValueError(f"--seeds names a seed twice: {', '.join(map(str, seeds))}.")
    configs = []
    for spec in specs:
        files = resolve_config_files([*config_files, *spec.config_files, *user_files])
        configs.append((spec, files, _config_of(spec, dataset, files, settings)))
    first = configs[0][2]
    check_tested(first)
    name, seeds = ("--seeds", tuple(seeds)) if seeds else ("seed", (first["seed"],))
    for seed in seeds:
        checked("seed", seed, name)
    split_seed = seeds[0] if first["split_seed"] is None else first["split_seed"]
    data = digest_of_data(first)
    runs = []
    for spec, files, config in configs:
        for seed in seeds:
            both = {"seed": seed, "split_seed": split_seed}
            request = {
                "model": spec.model,
                "dataset": config["dataset"],
                "config_files": [os.path.abspath(path) for path in files],
                "settings": {**settings, **spec.settings, **both},
            }
            runs.append(Run(spec, seed, settings_of_result(config, data, **both), request))
    return Plan(
        dataset,
        tuple(specs),
        seeds,
        split_seed,
        first["eval_args"],
        _names_of_metrics(first),
        str(first["valid_metric"]).lower(),
        tuple(runs),
    )


def _config_of(spec: ModelSpec, dataset: str, files: Sequence[str], settings: Mapping) -> Config:
    label = shortened(spec.label, 200)
    for key in spec.settings:
        if key in SHARED:
            raise ValueError(
                f"{label}: {key} must be the same for all models; set it as --{key}=... ."
            )
    config = Config(spec.model, dataset, list(files), {**settings, **spec.settings})
    check_several(config, "a comparison")
    try:
        check_keys_of_model(config, sorted(spec.settings.keys() - settings.keys()))
    except ValueError as error:
        raise ValueError(f"{label}: {error}") from None
    return config


def _names_of_metrics(config: Config) -> dict[str, str]:
    """Return the keys of RecBole's results, in its order, and how to print them."""
    names = {}
    for metric in config["metrics"]:
        names.update({f"{metric.lower()}@{k}": f"{metric}@{k}" for k in config["topk"]})
        # Metrics without a cut-off, such as AUC.
        names[metric.lower()] = metric
    return names


def settings_of_result(config: Config, data: str, **seeds: int) -> dict[str, Any]:
    """Return all that the result of a run depends on, as JSON's types.

    Args:
        config: of the run, before anything is loaded: RecBole writes into it.
        data: see :func:`recbole_evcf.data.identity.digest_of_data`.
        seeds: ``seed`` and ``split_seed``, where the run has others than the config.
    """
    settings = effective_settings(plain_config(config))
    settings.update(device=config["device"].type, data=data, versions=VERSIONS, **seeds)
    # As read back from a file: tuples become lists.
    return json.loads(json.dumps(settings, default=str))


def parse_models(text: str) -> list[ModelSpec]:
    """Return the models of a comparison.

    Args:
        text: names separated by commas, each with ``[key=value,...]`` after it if some settings
            are its own. Values are Python literals or YAML; nothing in the string is run.

    Raises:
        ValueError: the string cannot be read, or names the same model with the same settings twice.
    """
    specs = [_spec(piece) for piece in _pieces(text, text)]
    for place, spec in enumerate(specs):
        if any(_same(spec, other) for other in specs[:place]):
            raise ValueError(f"--models names {spec.label} twice with the same settings.")
    return specs


def _same(spec: ModelSpec, other: ModelSpec) -> bool:
    return (spec.model, spec.settings) == (other.model, other.settings)


def _spec(piece: str) -> ModelSpec:
    name, bracket, rest = piece.partition("[")
    name = name.strip()
    if not bracket:
        return ModelSpec(name, name)
    inner = rest.rstrip()
    if not name or not inner.endswith("]") or _closing_place(piece) != len(piece.rstrip()) - 1:
        raise ValueError(
            f"cannot read {shown(piece, 200)}: a model is written Name or Name[key=value,...]."
        )
    settings = dict(_settings(inner[:-1], piece))
    return ModelSpec(f"{name}[{_normal(inner[:-1])}]" if settings else name, name, settings)


def _closing_place(piece: str) -> int:
    """Return where the first bracket of a balanced piece closes."""
    return next(
        place for place, depth in _depths(piece, piece) if depth == 0 and piece[place] == "]"
    )


def _normal(inner: str) -> str:
    return ", ".join(" ".join(part.split()) for part in _pieces(inner, inner))


def _settings(inner: str, piece: str) -> Iterator[tuple[str, object]]:
    seen = set()
    for part in _pieces(inner, piece) if inner.strip() else ():
        key, equals, value = part.partition("=")
        key = key.strip()
        if not equals or not key.isidentifier():
            raise ValueError(
                f"cannot read {shown(part.strip(), 200)} in {shown(piece, 200)}: write key=value."
            )
        if key in seen:
            raise ValueError(f"{shown(piece, 200)} gives {key} twice.")
        seen.add(key)
        yield key, _value(value.strip(), piece)


def _value(text: str, piece: str) -> object:
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        pass
    try:
        return read_yaml(text)
    except ValueError:
        raise ValueError(
            f"cannot read the value {shown(text, 200)} in {shown(piece, 200)}."
        ) from None


def _pieces(text: str, whole: str) -> list[str]:
    """Split at the commas outside brackets and quotation marks."""
    cuts = [-1]
    cuts += [place for place, depth in _depths(text, whole) if depth == 0 and text[place] == ","]
    pieces = [text[a + 1 : b].strip() for a, b in zip(cuts, [*cuts[1:], len(text)])]
    if not all(pieces):
        raise ValueError(
            f"cannot read {shown(whole, 200)}: there is nothing before or behind a comma."
        )
    return pieces


def _depths(text: str, whole: str) -> Iterator[tuple[int, int]]:
    """Yield each place outside quotation marks, and how many brackets are open after it."""
    open_brackets: list[str] = []
    quote = ""
    for place, letter in enumerate(text):
        if quote:
            quote = "" if letter == quote else quote
            continue
        if letter in QUOTES:
            quote = letter
        elif letter in CLOSING:
            open_brackets.append(CLOSING[letter])
        elif letter in CLOSING.values() and (not open_brackets or open_brackets.pop() != letter):
            raise ValueError(f"cannot read {shown(whole, 200)}: {letter!r} closes no bracket.")
        yield place, len(open_brackets)
    if quote or open_brackets:
        missing = quote or open_brackets[-1]
        raise ValueError(f"cannot read {shown(whole, 200)}: a closing {missing} is missing.")
