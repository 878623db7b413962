"""Search for the settings that are best on validation users.

A trial trains a model and measures it on the validation users: RecBole's ``objective_function``
would evaluate every trial on the test users too, and here the best alone is, once.
"""

import logging
import os
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Any

import pandas as pd
import yaml
from recbole.config import Config
from recbole.trainer import Trainer
from recbole.utils import get_trainer

from recbole_evcf.comparison.plan import SHARED, settings_of_result
from recbole_evcf.config.checks import check_one_of_several
from recbole_evcf.config.files import resolve_config_files
from recbole_evcf.config.keys import Role, checked, choice, whole, with_role
from recbole_evcf.data.identity import digest_of_data
from recbole_evcf.distributed import end_unguarded
from recbole_evcf.quick_start import load_data, new_model
from recbole_evcf.report.table import setting
from recbole_evcf.results import folder_held
from recbole_evcf.trainer.checkpoint import ConfigOfSettings
from recbole_evcf.tuning.report import write_report
from recbole_evcf.tuning.search import Parameter, Search, Trial, read_params_file
from recbole_evcf.utils.files import plain_json, write_json, write_text
from recbole_evcf.utils.packages import extra, with_ray
from recbole_evcf.utils.text import one_line, shortened

# Trials with other values of these could not be compared, or not be kept.
COMMON_TO_ALL = {*SHARED, *with_role(Role.NOT_TUNED)}

Settings = Mapping[str, Any]


@dataclass(frozen=True)
class Tuning:
    """What :func:`tune` found.

    Attributes:
        best: the best trial: ``model``, ``dataset``, ``number``, ``params``, ``score``, ``valid``
            and ``test`` (its metrics on validation and test users) and more.
        folder: with ``best.yaml`` for ``recbole-evcf run``, the model ``best.pth`` and more.
    """

    best: dict[str, Any]
    folder: str
    _search: Search

    @property
    def trials(self) -> pd.DataFrame:
        """A row per trial: number, status, parameters, validation metrics, epochs, seconds."""
        return self._search.table()

    def report(self) -> str:
        """Write the page, which needs no network, into the folder, and return its path."""
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
    """Search for the settings that are best on validation users; test the best trial alone.

    The same call resumes a search.

    Args:
        model: its name; None for that of a config file.
        params_file: the search space, a path or a shipped one such as ``hyper/GatedHVamp.hyper``.
        dataset: name of the data set; None for that of a config file.
        output: folder of all results.
        config_files: paths, or names of shipped files such as ``protocol/strong_generalization``.
        algo: ``exhaustive`` (the whole grid), ``random`` or ``bayes`` (TPE).
        max_evals: trials at most.
        early_stop: end after so many trials without a better one.
        tool: ``hyperopt``, or ``ray`` for trials in parallel and early stopping by ASHA.
        ray_address: of a Ray cluster; None for this machine.
        cpus_per_trial, gpus_per_trial: with Ray; 0.5 puts two trials on one.
        grace_period: epochs before Ray may stop a trial; None for the warm-up, or a tenth of all.
        log: takes a line on each trial; None for Python's logging.
        settings: config keys for all trials.

    Raises:
        ValueError: a setting, file or option is wrong (nothing was trained), or all trials failed.

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
    end_unguarded()
    log = log or logging.getLogger(__name__).info
    choice("hyperopt", "ray").checked("--tool", tool)
    choice("exhaustive", "random", "bayes").checked("--algo", algo)
    whole(1, none=True).checked("--max_evals", max_evals)
    whole(1, none=True).checked("--early_stop", early_stop)
    if algo != "exhaustive":
        extra("hyperopt", f"--algo={algo}", "hyperopt", "tune")
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

    def on_trial(trial: Trial) -> None:
        _write_trials(search)
        params = ", ".join(f"{name} {setting(value)}" for name, value in trial["params"].items())
        outcome = f"failed: {trial.get('reason')}"
        if "score" in trial:
            early = ", stopped early" if trial["status"] == "stopped" else ""
            outcome = f"{search.metric} {trial['score']:.4f}{early}, {trial['seconds']:.0f} s"
        log(f"trial {trial['number']} of {search.total}: {outcome} ({params})")

    with folder_held(output):
        search = Search(output, key, space, config, algo, max_evals, early_stop, on_trial)
        if search.trials:
            log(f"{output}: {len(search.trials)} of {search.total} trials are done; resuming.")
        if not search.is_over:
            # Finds errors of the data before any training.
            _, _, *held_out = load_data(ConfigOfSettings(config_dict=dict(shared)), console=False)
            if not all(held_out):
                split = config["eval_args"]["split"]
                raise ValueError(
                    f"eval_args: {split} leaves nothing for validation or for testing."
                )
            if tool == "ray":
                ray, share = with_ray("tuning.ray_search", cpus_per_trial, gpus_per_trial)
                ray.run(search, shared, share, ray_address, grace_period)
            while tool == "hyperopt" and (proposal := search.propose()) is not None:
                number, params = proposal
                model_file = search.model_file(number)
                search.settle(number, attempt_trial({**shared, **params}, model_file))
        return Tuning(_conclude(search, shared), output, search)


def check_parameters(
    config: Config, space: Sequence[Parameter], file: str, fixed: Settings, algo: str
) -> None:
    """Raise a ValueError if a search space does not fit the trials' common settings or ``algo``."""
    for name in ("epochs", "eval_step"):
        whole(1).checked(name, config[name])
    checked("seed", config["seed"])
    check_one_of_several(config, "a search", [parameter.name for parameter in space], file)
    if config["resume"] or config["resumable"]:
        raise ValueError("resume is no setting of a search: the same command resumes it.")
    for parameter in space:
        name, where = parameter.name, file
        try:
            if name in COMMON_TO_ALL:
                raise ValueError(f"{name} cannot be tuned; it is the same in all trials.")
            if name in fixed:
                raise ValueError(f"{name} is set for all trials too: remove one of the two.")
            if algo == "exhaustive" and parameter.kind != "choice":
                raise ValueError(f"{name} is no choice: write one, or use --algo=random or bayes.")
            for value in parameter.extremes():
                where = f"{file}, {name} = {shortened(str(value))}"
                settings = {**config.external_config_dict, name: value}
                Config(config["model"], config["dataset"], [], settings)
        except ValueError as error:
            raise ValueError(f"{where}: {error}") from None


def _write_trials(search: Search) -> None:
    write_text(os.path.join(search.folder, "trials.csv"), search.table().to_csv(index=False))
    write_json(os.path.join(search.folder, "trials.json"), search.trials)


def _conclude(search: Search, shared: Settings) -> dict[str, Any]:
    """Evaluate the best trial on the test users, once, and write all files on it."""
    best = search.best
    if best is None:
        reason = search.trials[0]["reason"]
        raise ValueError(f"All {len(search.trials)} trials failed, the first with: {reason}")
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
    remark = f"# Trial {best['number']}, the best: recbole-evcf run --config_files={path}\n"
    text = yaml.safe_dump(plain_json(settings), sort_keys=False, allow_unicode=True)
    write_text(path, remark + text)
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
        ``status``: ``finished``, ``failed`` or, before the last epoch, ``stopped``; ``reason`` of
        a failure; otherwise ``score`` (best value of ``valid_metric``), ``valid`` (the metrics of
        that epoch), ``best_epoch`` and ``epochs`` (the last), counted from 1, ``history`` (pairs of
        epoch and value) and ``seconds``.
    """
    start = time.perf_counter()
    history: list[tuple[int, float]] = []
    outcome: dict[str, Any] = {}

    def after_validation(epoch: int, value: float) -> None:
        history.append((epoch + 1, float(value)))
        score = float(trainer.best_valid_score)
        outcome.update(
            status="stopped" if epoch + 1 < trainer.config["epochs"] else "finished",
            score=score,
            valid={name: float(value) for name, value in trainer.best_valid_result.items()},
            # As RecBole chooses: the last of the best.
            best_epoch=max(epoch for epoch, value in history if value == score),
            epochs=epoch + 1,
            history=list(history),
            seconds=round(time.perf_counter() - start, 3),
        )
        on_validation(dict(outcome))

    try:
        trainer, (train_data, valid_data, _) = _prepared(settings, model_file)
        with closing(trainer.tensorboard):
            trainer.fit(train_data, valid_data, show_progress=False, callback_fn=after_validation)
        if not history:
            raise ValueError("no epoch was validated (see eval_step and epochs).")
    # A model may raise anything, including out of memory.
    except Exception as error:
        logging.getLogger().exception("The trial failed.")
        return {"status": "failed", "reason": f"{type(error).__name__}: {one_line(error)}"}
    return {**outcome, "status": "finished"}


def evaluate_on_test_users(settings: Settings, model_file: str) -> dict[str, float]:
    """Return the metrics of a trial's model on the test users."""
    # Another machine, with its own disk, may have trained it.
    if not os.path.exists(model_file):
        outcome = attempt_trial(settings, model_file)
        if outcome["status"] == "failed":
            raise ValueError(f"The best trial could not be trained again: {outcome['reason']}")
    trainer, (train_data, _, test_data) = _prepared(settings, model_file)
    with closing(trainer.tensorboard):
        # Some metrics count by it; fit() would set it.
        trainer.eval_collector.data_collect(train_data)
        result = trainer.evaluate(test_data, load_best_model=True, model_file=model_file)
    return {name: float(value) for name, value in result.items()}


def _prepared(settings: Settings, model_file: str) -> tuple[Trainer, list[Any]]:
    folder = os.path.dirname(model_file)
    os.makedirs(folder, exist_ok=True)
    config = ConfigOfSettings(config_dict={**settings, "checkpoint_dir": folder})
    # One log file per trial, as in RecBole's tuning; the terminal shows the search.
    _, *loaders = load_data(config, console=False)
    model = new_model(config, loaders[0]._dataset)
    trainer = get_trainer(config["MODEL_TYPE"], config["model"])(config, model)
    trainer.saved_model_file = model_file
    return trainer, loaders
