"""Search for the settings that are best on validation users.

A trial trains a model and measures it on the validation users: RecBole's ``objective_function``
would evaluate every trial on the test users too, and here the best alone is, once.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import pandas as pd
import yaml
from recbole.config import Config
from recbole.data import create_dataset, data_preparation
from recbole.trainer import Trainer
from recbole.utils import get_model, get_trainer, init_logger, init_seed

from recbole_evcf.comparison.plan import SHARED, settings_of_result
from recbole_evcf.config.files import resolve_config_files
from recbole_evcf.config.keys import Role, checked, choice, whole, with_role
from recbole_evcf.config.names import check_keys_of_model, check_several
from recbole_evcf.data.identity import digest_of_data
from recbole_evcf.report.table import setting
from recbole_evcf.results import folder_held
from recbole_evcf.trainer.checkpoint import ConfigOfSettings
from recbole_evcf.tuning.report import write_report
from recbole_evcf.tuning.search import Parameter, Search, read_params_file
from recbole_evcf.utils.files import atomic_write, plain_json, write_json
from recbole_evcf.utils.packages import CONSOLE
from recbole_evcf.utils.text import one_line, shortened

__all__ = ["Tuning", "attempt_trial", "check_parameters", "evaluate_on_test_users", "tune"]

# Trials with other values of these could not be compared, or not be kept.
COMMON_TO_ALL = {*SHARED, *with_role(Role.NOT_TUNED)}

Settings = Mapping[str, Any]
# For training, validation and testing.
Loaders = tuple[Any, Any, Any]


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
    _search: Search

    @property
    def trials(self) -> pd.DataFrame:
        """A row per trial: number, status, parameters, validation metrics, epochs, seconds."""
        return _trial_table(self._search)

    def report(self) -> str:
        """Write the page into the folder.

        Returns:
            its path; it needs no network.
        """
        path = os.path.join(self.folder, "report.html")
        write_report(path, self._search, self.best)
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
    log: Callable[[str], None] | None = None,
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
        log: takes a line on each trial; None for Python's logging.
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
    log = log or logging.getLogger(__name__).info
    choice("hyperopt", "ray").checked("--tool", tool)
    choice("exhaustive", "random", "bayes").checked("--algo", algo)
    whole(1, none=True).checked("--max_evals", max_evals)
    whole(1, none=True).checked("--early_stop", early_stop)
    if algo != "exhaustive":
        _optional("hyperopt", "hyperopt")
        if max_evals is None:
            raise ValueError(f"--algo={algo} has no end of its own: say how many --max_evals.")
    space = read_params_file(params_file)
    config = Config(model, dataset, resolve_config_files(config_files), settings)
    check_parameters(config, space, params_file, settings, algo)
    key = settings_of_result(config, digest_of_data(config))
    key |= {"algo": algo, "params_file": {p.name: [p.kind, *p.range] for p in space}}
    # A search may be resumed on another device.
    key = {name: value for name, value in key.items() if name not in ("device", "use_gpu")}
    names = {"model": config["model"], "dataset": config["dataset"]}
    shared = {**names, **config.external_config_dict, **names}

    def on_trial(trial: Settings) -> None:
        _write_trials(search)
        log(_in_a_line(trial, search))

    with folder_held(output):
        search = Search(output, key, space, config, algo, max_evals, early_stop, on_trial)
        if search.trials:
            log(f"{output}: {len(search.trials)} of {search.max_evals} trials are done; resuming.")
        if not search.is_over:
            _check_split(shared)
            if tool == "ray":
                ray_search = _optional("recbole_evcf.tuning.ray_search", "Ray and pyarrow")
                share = {"CPU": cpus_per_trial, "GPU": gpus_per_trial}
                ray_search.run(search, shared, config, share, ray_address, grace_period)
            while tool == "hyperopt" and (proposal := search.propose()) is not None:
                number, params = proposal
                outcome = attempt_trial({**shared, **params}, search.model_file(number))
                search.settle(number, outcome)
        return Tuning(_conclude(search, shared), output, search)


def _optional(module: str, what: str) -> Any:
    try:
        return import_module(module)
    except ImportError as error:
        install = "pip install 'recbole-evcf[tune]'"
        raise ValueError(f"This search needs {what} ({error}): {install}.") from None


def check_parameters(
    config: Config, space: Sequence[Parameter], file: str, fixed: Settings, algo: str
) -> None:
    """Check a search space against the config that all trials share, and the keys set for all.

    Raises:
        ValueError: a parameter is unknown, is set elsewhere, or has a value that the model does
            not take; the algorithm cannot search the space; or the trials would not be validated.
    """
    for name in ("epochs", "eval_step"):
        whole(1).checked(name, config[name])
    checked("seed", config["seed"])
    check_several(config, "a search")
    if config["resume"] or config["resumable"]:
        raise ValueError("resume is no setting of a search: the same command resumes it.")
    where = file
    try:
        for name in (parameter.name for parameter in space):
            check_keys_of_model(config, [name])
            if name in COMMON_TO_ALL:
                raise ValueError(f"{name} cannot be tuned; it is the same in all trials.")
            if name in fixed:
                raise ValueError(f"{name} is set for all trials too: remove one of the two.")
        for name, value in ((each.name, value) for each in space for value in each.extremes()):
            where = f"{file}, {name} = {shortened(str(value))}"
            settings = {**config.external_config_dict, name: value}
            Config(config["model"], config["dataset"], [], settings)
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from None
    endless = [parameter.name for parameter in space if parameter.kind != "choice"]
    if algo == "exhaustive" and endless:
        raise ValueError(
            f"--algo=exhaustive tries every choice, and {', '.join(endless)} is no choice: write "
            "choices into the params file, or search with --algo=random or --algo=bayes."
        )


def _in_a_line(trial: Settings, search: Search) -> str:
    params = ", ".join(f"{name} {setting(value)}" for name, value in trial["params"].items())
    start = f"trial {trial['number']} of {search.max_evals}"
    if trial["status"] == "failed":
        return f"{start} failed: {trial['reason']} ({params})"
    how = "" if trial["status"] == "finished" else ", stopped early"
    score = f"{search.metric} {trial['score']:.4f}"
    return f"{start}: {score} ({params}; {trial['seconds']:.0f} s{how})"


def _write_trials(search: Search) -> None:
    with atomic_write(os.path.join(search.folder, "trials.csv")) as temporary:
        _trial_table(search).to_csv(temporary, index=False)
    write_json(os.path.join(search.folder, "trials.json"), search.trials)


def _trial_table(search: Search) -> pd.DataFrame:
    rows = []
    for trial in search.trials:
        params = {
            name: json.dumps(value) if isinstance(value, (list, dict)) else value
            for name, value in trial["params"].items()
        }
        rest = {key: trial.get(key) for key in ("best_epoch", "epochs", "seconds", "reason")}
        begin = {"trial": trial["number"], "status": trial["status"]}
        rows.append({**begin, **params, **trial.get("valid", {}), **rest})
    return pd.DataFrame(rows).astype({"best_epoch": "Int64", "epochs": "Int64"})


def _conclude(search: Search, shared: Settings) -> dict[str, Any]:
    """Evaluate the best trial on the test users, once, and write it and the table of trials."""
    best = search.best
    if best is None:
        trials = search.trials
        reason = trials[0]["reason"]
        raise ValueError(f"All {len(trials)} trials failed, the first with: {reason}")
    settings, model_file = {**shared, **best["params"]}, search.model_file(best["number"])
    key = {**search.key, "trial": best}
    test = search.store.get("best", key)
    if test is None:
        test = evaluate_on_test_users(settings, model_file)
        search.store.put("best", key, test)
    if os.path.exists(model_file):
        os.replace(model_file, os.path.join(search.folder, "best.pth"))
        os.rmdir(os.path.dirname(model_file))
    found = {"model": shared["model"], "dataset": shared["dataset"], **best, "test": test}
    write_json(os.path.join(search.folder, "best.json"), found)
    path = os.path.join(search.folder, "best.yaml")
    with atomic_write(path) as temporary, open(temporary, "w", encoding="utf-8") as file:
        file.write(f"# Trial {best['number']}, the best: recbole-evcf run --config_files={path}\n")
        yaml.safe_dump(plain_json(settings), file, sort_keys=False, allow_unicode=True)
    _write_trials(search)
    return found


def attempt_trial(
    settings: Settings,
    model_file: str,
    on_validation: Callable[[dict[str, Any]], None] = lambda outcome: None,
) -> dict[str, Any]:
    """Train with a trial's settings; the same ones give the same values.

    Args:
        settings: ``model``, ``dataset`` and other keys of the config.
        model_file: path for the model of the best epoch.
        on_validation: is called with the outcome so far after each validation.

    Returns:
        ``status``, ``finished`` or ``failed`` (and ``stopped`` where ASHA ended it), and ``reason``
        of a failure; otherwise ``score`` (best value of ``valid_metric``), ``valid`` (every metric
        of that epoch), ``best_epoch`` and ``epochs`` (how many were trained), counted from 1,
        ``history`` (pairs of epoch and value of ``valid_metric``) and ``seconds``.
    """
    try:
        return {"status": "finished", **_train(settings, model_file, on_validation)}
    # A model may raise anything, including out of memory.
    except Exception as error:
        logging.getLogger().exception("The trial failed.")
        return {"status": "failed", "reason": f"{type(error).__name__}: {one_line(error)}"}


def _train(
    settings: Settings, model_file: str, on_validation: Callable[[dict[str, Any]], None]
) -> dict[str, Any]:
    start = time.perf_counter()
    os.makedirs(os.path.dirname(model_file), exist_ok=True)
    history: list[tuple[int, float]] = []
    outcome: dict[str, Any] = {}

    def after_validation(epoch: int, value: float) -> None:
        history.append((epoch + 1, float(value)))
        score = float(trainer.best_valid_score)
        outcome.update(
            score=score,
            valid={name: float(value) for name, value in trainer.best_valid_result.items()},
            # As RecBole chooses: the last of the best.
            best_epoch=max(epoch for epoch, value in history if value == score),
            epochs=epoch + 1,
            history=list(history),
            seconds=round(time.perf_counter() - start, 3),
        )
        on_validation(dict(outcome))

    with _prepared(settings, model_file) as (trainer, (train_data, valid_data, _)):
        trainer.fit(train_data, valid_data, show_progress=False, callback_fn=after_validation)
    if not history:
        raise ValueError("no epoch was validated (see eval_step and epochs).")
    return outcome


def evaluate_on_test_users(settings: Settings, model_file: str) -> dict[str, float]:
    """Return the metrics of a trial's model on the test users.

    It is trained again if its file is missing: another machine with its own disk trained it.

    Raises:
        ValueError: that failed.
    """
    if not os.path.exists(model_file):
        outcome = attempt_trial(settings, model_file)
        if outcome["status"] == "failed":
            raise ValueError(f"The best trial could not be trained again: {outcome['reason']}")
    with _prepared(settings, model_file) as (trainer, (train_data, _, test_data)):
        # Some metrics count by it; fit() would set it.
        trainer.eval_collector.data_collect(train_data)
        result = trainer.evaluate(test_data, load_best_model=True, model_file=model_file)
    return {name: float(value) for name, value in result.items()}


def _check_split(settings: Settings) -> None:
    """Read and split the data once, to find errors before any training."""
    config, (_, valid_data, test_data) = _load(settings)
    uses = ("validation, by which the best trial is chosen", "testing the best trial")
    for data, use in zip((valid_data, test_data), uses):
        if not data:
            split = config["eval_args"]["split"]
            raise ValueError(f"eval_args: {split} leaves nothing for {use}.")


def _load(settings: Settings) -> tuple[Config, Loaders]:
    config = ConfigOfSettings(config_dict=dict(settings))
    # One log file per trial, as in RecBole's tuning; the terminal shows the search.
    init_logger(config)
    for handler in logging.getLogger().handlers:
        if handler.name == CONSOLE:
            handler.setLevel(logging.CRITICAL)
    init_seed(config["seed"], config["reproducibility"])
    return config, data_preparation(config, create_dataset(config))


@contextlib.contextmanager
def _prepared(settings: Settings, model_file: str) -> Iterator[tuple[Trainer, Loaders]]:
    config, loaders = _load({**settings, "checkpoint_dir": os.path.dirname(model_file)})
    init_seed(config["seed"], config["reproducibility"])
    model = get_model(config["model"])(config, loaders[0]._dataset).to(config["device"])
    trainer = get_trainer(config["MODEL_TYPE"], config["model"])(config, model)
    trainer.saved_model_file = model_file
    try:
        yield trainer, loaders
    finally:
        trainer.tensorboard.close()
