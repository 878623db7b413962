"""``recbole-evcf tune``: search for the settings of a model that are best on validation users."""

from __future__ import annotations

import argparse
import os
import sys
from importlib import import_module
from typing import Any

from recbole_evcf.commands.common import (
    exit_code,
    fail,
    fail_somewhere,
    put_words_aside,
    read_settings,
    remark_on,
)
from recbole_evcf.commands.options import parse, split_files
from recbole_evcf.commands.run import result_table
from recbole_evcf.config.checks import finished_config, resolve_config_files
from recbole_evcf.data.digest import digest_of_data
from recbole_evcf.report.values import setting
from recbole_evcf.results import VERSIONS, folder_held
from recbole_evcf.tuning.check import check_limits, check_parameters
from recbole_evcf.tuning.params_file import Parameter, read_params_file
from recbole_evcf.tuning.report import write_report
from recbole_evcf.tuning.results import conclude, write_trials
from recbole_evcf.tuning.store import TrialStore
from recbole_evcf.tuning.trial import Task, attempt_trial, load_data

__all__ = ["main"]

TOOLS = ("hyperopt", "ray")


def main(arguments: list[str]) -> int:
    """Search; see :func:`recbole_evcf.cli.main` for arguments and exit code."""
    options, words = parse("tune", arguments)
    put_words_aside()
    try:
        _tune(options, read_settings(words))
    # NotImplementedError: RecBole's word for a setting it does not know.
    except (ValueError, NotImplementedError, OSError) as error:
        return fail(error)
    # RecBole meets a value of the wrong kind where it first computes with it.
    except Exception as error:
        remark = remark_on(options.model, options.dataset, options.config_files, words)
        return fail_somewhere(error, remark)
    except KeyboardInterrupt as error:
        print(
            f"\nStopped. The trials that are done are in {options.output}; the same command goes "
            "on from there.",
            file=sys.stderr,
        )
        return exit_code(error)
    return 0


def _tune(options: argparse.Namespace, settings: dict[str, str]) -> None:
    if options.tool not in TOOLS:
        raise ValueError(f"--tool must be one of {', '.join(TOOLS)}, not {options.tool!r}.")
    parameters = read_params_file(options.params_file)
    check_limits(parameters, options.algo, options.max_evals, options.early_stop)
    config = finished_config(
        options.model,
        options.dataset,
        resolve_config_files(split_files(options.config_files)),
        settings,
    )
    check_parameters(config, parameters, options.params_file, settings)
    task = Task(config["model"], config["dataset"], dict(config.external_config_dict))
    with folder_held(options.output):
        print(_best_text(*_best(options, config, task, parameters)))


def _best(options, config, task: Task, parameters: list[Parameter]) -> tuple[dict[str, Any], str]:
    """The best trial of the search, all being written down, and the folder."""
    store = TrialStore(
        options.output, _identity(options, config, task, parameters), config["valid_metric_bigger"]
    )
    search = _search(options, config, task, parameters, store)
    if not search.is_over:
        load_data(task)
        _run(options, config, task, store, search)
    best = conclude(store, task)
    write_trials(store)
    write_report(
        os.path.join(store.folder, "report.html"),
        store.trials,
        best,
        parameters,
        config["valid_metric"],
        store.bigger,
        f"{options.algo} search",
    )
    return best, store.folder


def _identity(options, config, task: Task, parameters: list[Parameter]) -> dict[str, Any]:
    return {
        "model": task.model,
        "dataset": task.dataset,
        "algo": options.algo,
        "params_file": {p.name: [p.kind, *p.range] for p in parameters},
        "settings": task.settings,
        "data": digest_of_data(config),
        "versions": VERSIONS,
    }


def _search(options, config, task: Task, parameters: list[Parameter], store: TrialStore):
    try:
        module = import_module("recbole_evcf.tuning.hyperopt_search")
    except ImportError as error:
        raise ValueError(
            f"Tuning needs hyperopt ({error}): pip install 'recbole-evcf[tune]'."
        ) from None

    def train(number: int, params: dict[str, Any]) -> dict[str, Any]:
        return attempt_trial(task, params, store.model_file(number))

    def tell(trial: dict[str, Any]) -> None:
        write_trials(store)
        print(_trial_text(trial, search.max_evals, config["valid_metric"]), file=sys.stderr)

    search = module.Search(
        train,
        parameters,
        store,
        options.algo,
        options.max_evals,
        options.early_stop,
        config["seed"],
        tell,
    )
    if store.trials:
        done = f"{len(store.trials)} of {search.max_evals} trials are done"
        print(f"{store.folder}: {done}; going on.", file=sys.stderr)
    return search


def _run(options, config, task: Task, store: TrialStore, search) -> None:
    if options.tool == "hyperopt":
        search.run()
        return
    try:
        module = import_module("recbole_evcf.tuning.ray_search")
    except ImportError as error:
        raise ValueError(
            f"--tool=ray cannot be loaded ({error}): pip install 'recbole-evcf[tune]' brings Ray "
            "and what it needs."
        ) from None
    module.run(
        search,
        config,
        task,
        store.model_file,
        options.ray_address,
        options.cpus_per_trial,
        options.gpus_per_trial,
        options.grace_period,
    )


def _trial_text(trial: dict[str, Any], total: int, metric: str) -> str:
    params = ", ".join(f"{name} {setting(value)}" for name, value in trial["params"].items())
    start = f"trial {trial['number']} of {total}"
    if trial["status"] == "failed":
        return f"{start} failed: {trial['reason']} ({params})"
    how = "" if trial["status"] == "finished" else ", stopped early"
    return f"{start}: {metric} {trial['score']:.4f} ({params}; {trial['seconds']:.0f} s{how})"


def _best_text(best: dict[str, Any], folder: str) -> str:
    width = max(map(len, best["params"]))
    lines = [f"{name:<{width}}  {setting(value)}" for name, value in best["params"].items()]
    table = result_table({"best_valid_result": best["valid"], "test_result": best["test"]})
    settings, report = (os.path.join(folder, name) for name in ("best.yaml", "report.html"))
    return (
        f"Best is trial {best['number']}:\n"
        + "\n".join(lines)
        + f"\n\n{table}\n\nrecbole-evcf run --config_files={settings} trains it again; "
        + f"all trials are in {report}"
    )
