"""``recbole-evcf run``: train a model and evaluate it."""

from __future__ import annotations

import contextlib
import shlex
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from recbole.config import Config

from recbole_evcf import distributed, quick_start
from recbole_evcf.commands.common import (
    EXPECTED,
    exit_code,
    fail_somewhere,
    put_words_aside,
    read_settings,
)
from recbole_evcf.commands.options import parse, split_files
from recbole_evcf.config.checks import can_resume
from recbole_evcf.config.finished import remark_on_settings
from recbole_evcf.report.table import validation_and_test
from recbole_evcf.trainer.state_files import (
    State,
    find_states,
    model_file_of,
    state_of,
    states_kept,
)
from recbole_evcf.utils.files import check_target, write_json

__all__ = ["main", "result_table"]


@dataclass
class _Run:
    """What is known of a run: its start time, and its config once that is complete."""

    # Whether another process or machine is the first, which alone writes files.
    elsewhere: bool
    # Whether the first process is another one, which prints.
    silent: bool = False
    config: Config | None = None
    started: float = field(default_factory=time.time)


def main(arguments: list[str]) -> int:
    """Train and evaluate a model; arguments as :func:`recbole_evcf.cli.main`.

    Returns:
        0; 1 if a process or machine failed; 2 for a mistake in what the user gave; 130 if it was
        interrupted, 143 by SIGTERM.
    """
    parsed, words = parse("run", arguments)
    options = vars(parsed)
    resume = options.pop("resume")
    words += [] if resume is None else [f"--resume={resume}"]
    run = _Run(elsewhere=options["group_offset"] > 0)
    try:
        return _exit_code(run, options, words)
    except KeyboardInterrupt as error:
        if not run.silent:
            print(f"recbole-evcf: interrupted{_how_to_resume(run, arguments)}", file=sys.stderr)
        return exit_code(error)


def _exit_code(run: _Run, options: dict[str, Any], words: list[str]) -> int:
    try:
        with states_kept():
            _train(run, options, read_settings(words))
    except Exception as error:
        reason = distributed.explain(error)
        if isinstance(reason, distributed.FailedElsewhere):
            return 1
        if isinstance(reason, EXPECTED):
            raise
        # RecBole fails on a value of the wrong type only when it computes with it.
        return fail_somewhere(reason, remark_on_settings(run.config) if run.config else "")
    return 0


def _train(run: _Run, options: dict[str, Any], settings: Mapping[str, str]) -> None:
    put_words_aside()
    outside = distributed.from_environment()
    run.silent = bool(outside) and outside["local_rank"] + outside["offset"] > 0
    run.elsewhere = run.elsewhere or run.silent
    files = split_files(options.pop("config_files"))
    result_file = options.pop("result_file")
    if result_file and not run.elsewhere:
        check_target(result_file)
    model, dataset = options.pop("model"), options.pop("dataset")
    config, files, settings = quick_start.planned_run(model, dataset, files, settings)
    run.config, model, dataset = config, config["model"], config["dataset"]
    result = quick_start.run(model, dataset, files, settings, **options)
    if result is None:
        if not run.silent:
            print("Done; the results are on the first machine.", file=sys.stderr)
        return
    # First, so that they are printed even if a file cannot be written.
    print(result_table(result), flush=True)
    if result_file:
        write_json(result_file, {"model": model, "dataset": dataset, **result})


def _how_to_resume(run: _Run, arguments: list[str]) -> str:
    """Explain how to resume an interrupted run, after the word ``interrupted``."""
    if run.config is None:
        return " before training started."
    if run.elsewhere:
        return ": the first machine has what the run can resume from."
    state = _state_to_resume(run.config, run.started) if can_resume(run.config) else None
    if state is None:
        return " before there was anything to resume from: the same command starts from scratch."
    # The last of several --resume counts.
    resume = [] if run.config["resume"] else ["--resume"]
    words = shlex.join(["recbole-evcf", "run", *arguments, *resume])
    return f" after epoch {state.epoch}: resume with {words}"


def _state_to_resume(config: Config, started: float) -> State | None:
    resume = config["resume"]
    if isinstance(resume, str):
        # The model file was replaced.
        with contextlib.suppress(ValueError):
            return state_of(model_file_of(resume))
        return None
    newest = next(find_states(config), None)
    return newest if newest and (resume or newest.changed >= started) else None


def result_table(result: Mapping[str, Any]) -> str:
    """Return ``run_recbole``'s validation and test metrics, with their standard errors."""
    parts = [result["best_valid_result"] or {}, result["test_result"] or {}]
    if not any(parts):
        return "Nothing was evaluated: the split leaves nothing to validate or test on."
    return validation_and_test(*parts).text()
