"""Plan a comparison's runs and check them before any starts."""

import json
import os
import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from recbole.config import Config
from recbole.utils.argument_list import dataset_arguments, evaluation_arguments

from recbole_evcf.config.checks import check_one_of_several
from recbole_evcf.config.files import read_yaml, resolve_config_files
from recbole_evcf.config.keys import Role, checked, effective_settings, with_role
from recbole_evcf.data.identity import digest_of_data
from recbole_evcf.data.loading_settings import check_tested
from recbole_evcf.model.models import BEST
from recbole_evcf.results import VERSIONS, digest
from recbole_evcf.trainer.checkpoint import plain_config
from recbole_evcf.utils.text import plain_value, shortened, shown

# These decide what is evaluated: a model with its own value could not be compared.
SHARED = {*dataset_arguments, *evaluation_arguments, *with_role(Role.SAME_FOR_ALL)}
SHARED -= {*with_role(Role.OF_EACH_MODEL)}
# What commas do not split: quoted strings, and brackets with no others in them.
QUOTED = re.compile(r"'[^']*'|\"[^\"]*\"")
BRACKETS = re.compile(r"\([^][(){}]*\)|\[[^][(){}]*\]|\{[^][(){}]*\}")


@dataclass(frozen=True)
class ModelSpec:
    """A model as it takes part in a comparison, and how tables name it."""

    label: str
    model: str
    # Of this model alone; they override those of all models.
    settings: dict[str, Any] = field(default_factory=dict)
    # Of this model alone, read before those of all models.
    config_files: tuple[str, ...] = ()


@dataclass(frozen=True)
class Run:
    """One training and evaluation of a model with one seed."""

    spec: ModelSpec
    seed: int
    # The key of the result, see settings_of_result.
    settings: dict[str, Any]
    # What worker.execute takes.
    request: dict[str, Any]

    @property
    def name(self) -> str:
        """The name of the run's files, the same for the same settings."""
        return f"{self.spec.model}-{self.seed}-{digest(self.settings)[:16]}"


@dataclass(frozen=True)
class Plan:
    """The runs of a comparison, model by model, seed by seed."""

    specs: tuple[ModelSpec, ...]
    seeds: tuple[int, ...]
    runs: tuple[Run, ...]
    # Label of the model that the others are tested against.
    baseline: str

    @property
    def settings(self) -> dict[str, Any]:
        """Those of the first run; what decides what is evaluated is the same for all runs."""
        return self.runs[0].settings

    @property
    def metrics(self) -> dict[str, str]:
        """The keys of RecBole's results, in its order, to the names that they have in tables."""
        cutoffs = [f"@{k}" for k in self.settings["topk"]]
        # Metrics such as AUC have no cut-off.
        names = [f"{name}{k}" for name in self.settings["metrics"] for k in [*cutoffs, ""]]
        return {name.lower(): name for name in names}


def make_plan(
    specs: Sequence[ModelSpec],
    dataset: str,
    config_files: Sequence[str] = (),
    settings: Mapping[str, object] | None = None,
    seeds: Sequence[int] = (),
    baseline: str | None = None,
) -> Plan:
    """Check a comparison and list its runs.

    Args:
        specs: the models.
        dataset: name of the data set, or the file of a table.
        config_files: for all models, read after those of a model.
        settings: config keys for all models; they override every file.
        seeds: of the models; by default the one of the config.
        baseline: label of one of the models, by default the first's.

    Raises:
        ValueError: a model, a setting or a seed is wrong.
    """
    settings = dict(settings or {})
    # Spaces in a label do not matter.
    labels = {"".join(spec.label.split()): spec.label for spec in specs}
    first_tested = "".join((baseline or specs[0].label).split())
    if first_tested not in labels:
        models = ", ".join(labels.values())
        raise ValueError(f"--baseline: {baseline!r} is none of the models {models}.")
    if seeds and "seed" in settings:
        raise ValueError("--seed and --seeds were both given: the seeds of the models are --seeds.")
    if len(set(seeds)) < len(seeds):
        raise ValueError(f"--seeds names a seed twice: {', '.join(map(str, seeds))}.")
    configs = []
    for spec in specs:
        files = resolve_config_files([*spec.config_files, *config_files])
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
                "dataset": first["dataset"],
                "config_files": [os.path.abspath(path) for path in files],
                "settings": {**settings, **spec.settings, **both},
            }
            runs.append(Run(spec, seed, settings_of_result(config, data, **both), request))
    return Plan(tuple(specs), seeds, tuple(runs), labels[first_tested])


def _config_of(spec: ModelSpec, dataset: str, files: list[str], settings: dict) -> Config:
    label = shortened(spec.label, 200)
    for key in SHARED.intersection(spec.settings):
        raise ValueError(f"{label}: {key} must be the same for all models; set it as --{key}=... .")
    config = Config(spec.model, dataset, files, {**settings, **spec.settings})
    own = sorted(spec.settings.keys() - settings.keys())
    check_one_of_several(config, "a comparison", own, label)
    return config


def settings_of_result(config: Config, data: str, **seeds: int) -> dict[str, Any]:
    """Return all that the result of a run depends on, as JSON's types.

    Args:
        config: of the run, before anything is loaded: RecBole writes into it.
        data: the digest of its data.
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
    specs: list[ModelSpec] = []
    named = {"best": BEST}
    for piece in (each for word in _split(text, text) for each in named.get(word, (word,))):
        found = re.fullmatch(r"([^\[]+?)\s*(?:\[(.*)\])?", piece, re.DOTALL)
        if found is None:
            raise ValueError(
                f"cannot read {shown(piece, 200)}: a model is written Name or Name[key=value,...]."
            )
        name, inner = found[1], (found[2] or "").strip()
        parts = _split(inner, piece) if inner else []
        settings: dict[str, object] = {}
        for part in parts:
            key, equals, value = (word.strip() for word in part.partition("="))
            if not equals or not key.isidentifier():
                raise ValueError(
                    f"cannot read {shown(part, 200)} in {shown(piece, 200)}: write key=value."
                )
            if key in settings:
                raise ValueError(f"{shown(piece, 200)} gives {key} twice.")
            settings[key] = _value(value, piece)
        label = ", ".join(" ".join(part.split()) for part in parts)
        spec = ModelSpec(f"{name}[{label}]" if label else name, name, settings)
        if any(spec.label == o.label or (name, settings) == (o.model, o.settings) for o in specs):
            raise ValueError(f"--models names {spec.label} twice with the same settings.")
        specs.append(spec)
    return specs


def _value(text: str, piece: str) -> object:
    with suppress(SyntaxError):
        return plain_value(text)
    try:
        return read_yaml(text)
    except ValueError:
        message = f"cannot read the value {shown(text, 200)} in {shown(piece, 200)}."
        raise ValueError(message) from None


def _split(text: str, whole: str) -> list[str]:
    """Split at the commas outside brackets and quotation marks."""
    masked, found = QUOTED.subn(_mask, text)[0], 1
    while found:
        masked, found = BRACKETS.subn(_mask, masked)
    if single := re.search(r"[][(){}'\"]", masked):
        raise ValueError(f"cannot read {shown(whole, 200)}: {single[0]} has no counterpart.")
    commas = [place for place, letter in enumerate(masked) if letter == ","]
    bounds = zip([-1, *commas], [*commas, len(text)])
    pieces = [text[comma + 1 : end].strip() for comma, end in bounds]
    if not all(pieces):
        raise ValueError(
            f"cannot read {shown(whole, 200)}: there is nothing before or after a comma."
        )
    return pieces


def _mask(found: re.Match[str]) -> str:
    return "_" * len(found[0])
