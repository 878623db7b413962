"""``recbole-evcf run``: train a model and evaluate it."""

import argparse
import shlex
import time
from collections.abc import Mapping
from typing import Any

from recbole.config import Config
from recbole.model.abstract_recommender import GeneralRecommender

from recbole_evcf import distributed, quick_start
from recbole_evcf.commands.options import read_settings, split_files, tell
from recbole_evcf.config.checks import can_resume, is_vae
from recbole_evcf.config.keys import Role, with_role
from recbole_evcf.report.table import validation_and_test
from recbole_evcf.trainer.resumption import state_of, states_kept, unfinished_runs
from recbole_evcf.utils.files import check_target, write_json


def main(options: argparse.Namespace, words: list[str]) -> int:
    """Train and evaluate a model.

    Returns:
        0; 1 if another process, which says why, failed.
    """
    options.remark = " before training started."
    options.started = time.time()
    try:
        with states_kept():
            _train(options, words)
    except Exception as error:
        reason = distributed.explain(error)
        if isinstance(reason, distributed.FailedElsewhere):
            return 1
        raise reason from reason.__cause__
    return 0


def _train(options: argparse.Namespace, words: list[str]) -> None:
    resume = [] if options.resume is None else [f"--resume={options.resume}"]
    settings: dict[str, Any] = dict(read_settings([*words, *resume]))
    outside = distributed.from_environment()
    silent = bool(outside) and outside["local_rank"] + outside["offset"] > 0
    # The first of all processes alone writes files.
    elsewhere = silent or options.group_offset > 0
    if options.result_file and not elsewhere:
        check_target(options.result_file)
    files = split_files(options.config_files)
    config, files, settings = quick_start.planned_run(
        options.model, options.dataset, files, settings
    )
    model, dataset = config["model"], config["dataset"]
    processes = {key: getattr(options, key) for key in with_role(Role.ARGUMENT_OF_RUN)}
    try:
        result = quick_start.run(model, dataset, files, settings, **processes)
    except KeyboardInterrupt:
        options.remark = None if silent else _how_to_resume(config, options, elsewhere)
        raise
    if result is None:
        if not silent:
            tell("Done; the results are on the first machine.")
        return
    # First, so that they are printed even if a file cannot be written.
    print(result_table(result), flush=True)
    if options.result_file:
        write_json(options.result_file, {"model": model, "dataset": dataset, **result})
    if result["model_file"]:
        for line in _what_next(config, result["model_file"]):
            tell(line)


def _what_next(config: Config, model_file: str) -> list[str]:
    """Lines on what can be done with the trained model."""
    lines, file = [f"The model is in {model_file}"], f"--model_file={shlex.quote(model_file)}"
    if issubclass(config.model_class, GeneralRecommender):
        lines.append(f"  recbole-evcf recommend {file} --output=recommendations.csv")
    if is_vae(config):
        lines.append(f"  recbole-evcf inspect {file} --output=inspection")
    return lines


def _how_to_resume(config: Config, options: argparse.Namespace, elsewhere: bool) -> str:
    """What follows the word ``interrupted``."""
    if elsewhere:
        return ": the first machine has what the run can resume from."
    resume = config["resume"]
    runs: list[str] = []
    if can_resume(config):
        named = isinstance(resume, str)
        runs = [resume] if named else unfinished_runs(config, since=options.started)
    state = state_of(runs[0]) if runs else None
    if state is None:
        return " before there was anything to resume from: the same command starts from scratch."
    # The last of several --resume counts.
    more = "" if resume else " --resume"
    return f" after epoch {state.epoch}: resume with {options.command_line}{more}"


def result_table(result: Mapping[str, Any]) -> str:
    """The validation and test metrics of ``run_recbole``, with their standard errors."""
    parts = [result["best_valid_result"] or {}, result["test_result"] or {}]
    if not any(parts):
        return "Nothing was evaluated: the split leaves nothing to validate or test on."
    return validation_and_test(*parts).text()
