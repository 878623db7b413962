"""Search for the settings that are best on validation users."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from logging import getLogger
from typing import Any

import pandas as pd
import yaml
from recbole.config import Config

from recbole_evcf.comparison.plan import SHARED, settings_of_result
from recbole_evcf.config.files import resolve_config_files
from recbole_evcf.config.keys import Role, checked, with_role
from recbole_evcf.config.names import check_keys_of_model, check_several
from recbole_evcf.data.identity import digest_of_data
from recbole_evcf.report.values import setting
from recbole_evcf.results import folder_held
from recbole_evcf.tuning.params_file import Parameter, read_params_file
from recbole_evcf.tuning.report import write_report
from recbole_evcf.tuning.store import TrialStore
from recbole_evcf.tuning.trial import Task, attempt_trial, evaluate_on_test_users, load_data
from recbole_evcf.utils.files import atomic_write, plain_json, write_json
from recbole_evcf.utils.text import shortened

__all__ = ["SearchOptions", "Tuning", "check_parameters", "finish_search", "tune"]

ALGORITHMS = ("exhaustive", "random", "bayes")
TOOLS = ("hyperopt", "ray")
# Trials with other values of these could not be compared, or not be kept.
COMMON_TO_ALL = {*SHARED, *with_role(Role.NOT_TUNED)}
# A search may be resumed on another device.
OF_THE_DEVICE = ("device", "use_gpu")


@dataclass(frozen=True)
class SearchOptions:
    """How to search; arguments as of :func:`tune`."""

    algo: str = "exhaustive"
    max_evals: int | None = None
    early_stop: int | None = None
    tool: str = "hyperopt"
    ray_address: str | None = None
    cpus_per_trial: float = 1
    gpus_per_trial: float = 0
    grace_period: int | None = None

    def check(self, parameters: Sequence[Parameter]) -> None:
        """Check them, and that the algorithm can search a space.

        Raises:
            ValueError: it cannot, or an option is wrong.
        """
        for name, word, known in (("tool", self.tool, TOOLS), ("algo", self.algo, ALGORITHMS)):
            if word not in known:
                raise ValueError(f"--{name} must be one of {', '.join(known)}, not {word!r}.")
        for name, value in (("max_evals", self.max_evals), ("early_stop", self.early_stop)):
            if value is not None and value < 1:
                raise ValueError(f"--{name} must be at least 1, not {value}.")
        if self.algo != "exhaustive" and self.max_evals is None:
            raise ValueError(f"--algo={self.algo} has no end of its own: say how many --max_evals.")
        endless = [parameter.name for parameter in parameters if parameter.kind != "choice"]
        if self.algo == "exhaustive" and endless:
            raise ValueError(
                f"--algo=exhaustive tries every choice, and {', '.join(endless)} is no choice: "
                "write choices into the params file, or search with --algo=random or --algo=bayes."
            )


@dataclass(frozen=True)
class Tuning:
    """What :func:`tune` found.

    Attributes:
        best: the best trial: ``model``, ``dataset``, ``number``, ``params``, ``score``, ``valid``
            and ``test`` (its metrics on validation and test users) and more.
        folder: with ``best.yaml`` (settings for ``recbole-evcf run``), ``best.pth`` (the model),
            ``best.json``, ``trials.csv`` and ``trials.json``.
    """

    best: dict[str, Any]
    folder: str
    _trials: list[dict[str, Any]]
    # Further arguments of :func:`~recbole_evcf.tuning.report.write_report`.
    _shown: tuple[list[Parameter], str, bool, str]

    @property
    def trials(self) -> pd.DataFrame:
        """A row per trial: number, status, parameters, validation metrics, epochs, seconds."""
        return _trial_table(self._trials)

    def report(self) -> str:
        """Write the page into the folder.

        Returns:
            its path; it needs no network.
        """
        path = os.path.join(self.folder, "report.html")
        write_report(path, self._trials, self.best, *self._shown)
        return path


def tune(
    model: str | None,
    params_file: str,
    dataset: str | None = None,
    *,
    output: str = "tuning",
    config_files: Sequence[str] = (),
    algo: str = "exhaustive",
    max_evals: int | None = None,
    early_stop: int | None = None,
    tool: str = "hyperopt",
    ray_address: str | None = None,
    cpus_per_trial: float = 1,
    gpus_per_trial: float = 0,
    grace_period: int | None = None,
    **settings: object,
) -> Tuning:
    """Search for the settings of a model that are best on validation users.

    Finished trials are kept in ``output``: the same call resumes the search. The best trial alone
    is evaluated on the test users.

    Args:
        model: its name; None for that of a config file.
        params_file: the search space, a path or a shipped one such as ``hyper/GatedHVamp.hyper``.
        dataset: name of the data set; None for that of a config file.
        output: folder of all results.
        config_files: paths, or names of shipped files such as ``protocol/strong_generalization``.
        algo: ``exhaustive`` (the whole grid), ``random`` or ``bayes`` (TPE).
        max_evals: trials at most.
        early_stop: end after so many trials without a better one.
        tool: ``hyperopt`` for one trial after the other, ``ray`` for trials in parallel and early
            stopping by ASHA.
        ray_address: of a Ray cluster; None for this machine.
        cpus_per_trial: with Ray.
        gpus_per_trial: with Ray; may be 0.5.
        grace_period: with Ray, epochs before a trial may be stopped; None for the warm-up of the KL
            weight, or a tenth of the epochs.
        settings: config keys for all trials.

    Raises:
        ValueError: a setting, a file or an option is wrong, and nothing has been trained; or all
            trials failed.

    >>> import recbole_evcf
    >>> with open("space.hyper", "w") as file:
    ...     _ = file.write("latent_dimension choice [10, 20]")
    >>> found = recbole_evcf.tune(
    ...     "Vamp", "space.hyper", "ml-100k", epochs=2, mlp_hidden_size=[30], show_progress=False
    ... )
    >>> found.trials["latent_dimension"].tolist()
    [10, 20]
    >>> found.best["params"]["latent_dimension"] in (10, 20)
    True
    >>> found.report()
    'tuning/report.html'
    """
    way = SearchOptions(
        algo, max_evals, early_stop, tool, ray_address, cpus_per_trial, gpus_per_trial, grace_period
    )
    log = getLogger(__name__).info
    return finish_search(model, dataset, params_file, output, config_files, settings, way, log)


def finish_search(
    model: str | None,
    dataset: str | None,
    params_file: str,
    folder: str,
    config_files: Sequence[str],
    settings: Mapping[str, object],
    options: SearchOptions,
    log: Callable[[str], None],
) -> Tuning:
    """Do what :func:`tune` does; ``log`` takes a line on each trial."""
    parameters = read_params_file(params_file)
    options.check(parameters)
    config = Config(model, dataset, resolve_config_files(config_files), settings)
    check_parameters(config, parameters, params_file, settings)
    key = settings_of_result(config, digest_of_data(config))
    key = {name: value for name, value in key.items() if name not in OF_THE_DEVICE}
    key |= {"algo": options.algo, "params_file": {p.name: [p.kind, *p.range] for p in parameters}}
    task = Task(config["model"], config["dataset"], dict(config.external_config_dict))
    with folder_held(folder):
        store = TrialStore(folder, key, config["valid_metric_bigger"])
        _search(options, config, task, parameters, store, log)
        best = _conclude(store, task)
        shown = (parameters, config["valid_metric"], store.bigger, f"{options.algo} search")
        return Tuning(best, folder, store.trials, shown)


def check_parameters(
    config: Config, parameters: Sequence[Parameter], params_file: str, fixed: Mapping[str, object]
) -> None:
    """Check a search space against the config that all trials share.

    Args:
        config: of the trials.
        parameters: the search space.
        params_file: its name, for the error.
        fixed: keys that are set for all trials.

    Raises:
        ValueError: a parameter is unknown, is set elsewhere, or has a value that the model does
            not take; the seed is none; or the trials would not be validated.
    """
    for key in ("epochs", "eval_step"):
        value = config[key]
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise ValueError(
                f"{key} must be a whole number of at least 1, not {shortened(repr(value))}: "
                "validation finds the best trial."
            )
    checked("seed", config["seed"])
    check_several(config, "a search")
    if config["resume"] or config["resumable"]:
        raise ValueError(
            "resume is no setting of a search: the same command resumes it, and keeps the trials "
            "that are done."
        )
    for name in (parameter.name for parameter in parameters):
        try:
            check_keys_of_model(config, [name])
            if name in COMMON_TO_ALL:
                raise ValueError(f"{name} cannot be tuned; it is the same in all trials.")
            if name in fixed:
                raise ValueError(f"{name} is set for all trials too: remove one of the two.")
        except ValueError as error:
            raise ValueError(f"{params_file}: {error}") from None
    for name, value in ((each.name, value) for each in parameters for value in each.extremes()):
        settings = {**config.external_config_dict, name: value}
        try:
            Config(config["model"], config["dataset"], [], settings)
        except ValueError as error:
            where = f"{params_file}, {name} = {shortened(str(value))}"
            raise ValueError(f"{where}: {error}") from None


def _search(
    options: SearchOptions,
    config: Config,
    task: Task,
    parameters: list[Parameter],
    store: TrialStore,
    log: Callable[[str], None],
) -> None:
    def on_trial(trial: dict[str, Any]) -> None:
        _write_trials(store)
        log(_trial_text(trial, search.max_evals, config["valid_metric"]))

    limits = (options.algo, options.max_evals, options.early_stop)
    search_class = _optional("hyperopt_search", "Tuning needs hyperopt").Search
    search = search_class(parameters, store, *limits, config["seed"], on_trial)
    if store.trials:
        done = f"{len(store.trials)} of {search.max_evals} trials are done"
        log(f"{store.folder}: {done}; resuming.")
    if search.is_over:
        return
    load_data(task)
    if options.tool == "ray":
        ray_search = _optional("ray_search", "--tool=ray needs Ray and pyarrow")
        ray_search.run(search, options, config, task, store.model_file)
        return
    while (proposal := search.propose()) is not None:
        number, params = proposal
        search.settle(number, attempt_trial(task, params, store.model_file(number)))


def _optional(module: str, what: str) -> Any:
    try:
        return import_module(f"recbole_evcf.tuning.{module}")
    except ImportError as error:
        raise ValueError(f"{what} ({error}): pip install 'recbole-evcf[tune]'.") from None


def _conclude(store: TrialStore, task: Task) -> dict[str, Any]:
    """Evaluate the best trial on the test users, once, and record it."""
    best = store.best
    if best is None:
        reason = store.trials[0]["reason"]
        raise ValueError(f"All {len(store.trials)} trials failed, the first with: {reason}")
    test = store.test_result(best)
    model_file = store.model_file(best["number"])
    if test is None:
        test = _test(task, best, model_file)
        store.add_test_result(best, test)
    if os.path.exists(model_file):
        os.replace(model_file, os.path.join(store.folder, "best.pth"))
        os.rmdir(os.path.dirname(model_file))
    names = {"model": task.model, "dataset": task.dataset}
    found = {**names, **best, "test": test}
    write_json(os.path.join(store.folder, "best.json"), found)
    settings = {**names, **task.settings, **best["params"]}
    path = os.path.join(store.folder, "best.yaml")
    with atomic_write(path) as temporary, open(temporary, "w", encoding="utf-8") as file:
        file.write(f"# Trial {best['number']}, the best: recbole-evcf run --config_files={path}\n")
        yaml.safe_dump(plain_json(settings), file, sort_keys=False, allow_unicode=True)
    _write_trials(store)
    return found


def _test(task: Task, best: Mapping[str, Any], model_file: str) -> dict[str, float]:
    if not os.path.exists(model_file):
        # It was trained on another machine with its own disk.
        outcome = attempt_trial(task, best["params"], model_file)
        if outcome["status"] == "failed":
            raise ValueError(f"The best trial could not be trained again: {outcome['reason']}")
    return evaluate_on_test_users(task, best["params"], model_file)


def _write_trials(store: TrialStore) -> None:
    with atomic_write(os.path.join(store.folder, "trials.csv")) as temporary:
        _trial_table(store.trials).to_csv(temporary, index=False)
    write_json(os.path.join(store.folder, "trials.json"), store.trials)


def _trial_table(trials: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    rows = []
    for trial in trials:
        params = {
            name: json.dumps(value) if isinstance(value, (list, dict)) else value
            for name, value in trial["params"].items()
        }
        rest = {key: trial.get(key) for key in ("best_epoch", "epochs", "seconds", "reason")}
        begin = {"trial": trial["number"], "status": trial["status"]}
        rows.append({**begin, **params, **trial.get("valid", {}), **rest})
    return pd.DataFrame(rows).astype({"best_epoch": "Int64", "epochs": "Int64"})


def _trial_text(trial: Mapping[str, Any], total: int, metric: str) -> str:
    params = ", ".join(f"{name} {setting(value)}" for name, value in trial["params"].items())
    start = f"trial {trial['number']} of {total}"
    if trial["status"] == "failed":
        return f"{start} failed: {trial['reason']} ({params})"
    how = "" if trial["status"] == "finished" else ", stopped early"
    return f"{start}: {metric} {trial['score']:.4f} ({params}; {trial['seconds']:.0f} s{how})"
