"""``recbole-evcf run``: train a model and evaluate it."""

from __future__ import annotations

import contextlib
import shlex
import sys
import time
from dataclasses import dataclass

from recbole.config import Config
from texttable import Texttable

from recbole_evcf import distributed, quick_start
from recbole_evcf.commands.common import (
    exit_code,
    fail,
    fail_somewhere,
    put_words_aside,
    read_settings,
)
from recbole_evcf.commands.options import parse, split_files
from recbole_evcf.config.checks import (
    can_resume,
    remark_on_settings,
)
from recbole_evcf.evaluator.per_user import SE_SUFFIX, with_error
from recbole_evcf.trainer.state_files import (
    Place,
    fitting_places,
    kept_until_given,
    model_file_of,
    place_of,
)
from recbole_evcf.utils.files import check_target, write_json

__all__ = ["main", "result_table"]


def main(arguments: list[str]) -> int:
    """Train and evaluate a model; arguments as :func:`recbole_evcf.cli.main`.

    Returns:
        0; 1 if a process or machine failed; 2 for a mistake in what the user gave; 130 if it was
        interrupted, 143 by SIGTERM.
    """
    options, settings = _parse_run(arguments)
    run = _Run(time.time(), elsewhere=options["group_offset"] > 0)
    try:
        return _exit_code(run, options, settings)
    except KeyboardInterrupt as error:
        if not run.silent:
            print(f"recbole-evcf: interrupted{_way_on(run, arguments)}", file=sys.stderr)
        return exit_code(error)


def _exit_code(run: _Run, options: dict, settings: list[str]) -> int:
    try:
        with kept_until_given():
            _run(run, options, read_settings(settings))
    except Exception as error:
        return _failed(distributed.explain(error), run)
    return 0


def _failed(error: Exception, run: _Run) -> int:
    if isinstance(error, distributed.FailedElsewhere):
        return 1
    if isinstance(error, (ChildProcessError, ConnectionError)):
        fail(error)
        return 1
    # NotImplementedError: RecBole's word for a setting it does not know.
    if isinstance(error, (ValueError, NotImplementedError, OSError)):
        return fail(error)
    # RecBole meets a value of the wrong kind where it first computes with it.
    return fail_somewhere(error, remark_on_settings(run.config) if run.config else "")


@dataclass
class _Run:
    """What is known of a run: when it started, and its config as soon as that is finished."""

    started: float
    config: Config | None = None
    # Whether another process or machine is the first, which alone writes files.
    elsewhere: bool = False
    # Whether the first process, beside this one, is the one to print.
    silent: bool = False


def _run(run: _Run, options: dict, settings: dict) -> None:
    put_words_aside()
    outside = distributed.from_environment()
    run.silent = bool(outside) and outside["local_rank"] + outside["offset"] > 0
    run.elsewhere = run.elsewhere or run.silent
    files = split_files(options.pop("config_files"))
    result_file = options.pop("result_file")
    if result_file and not run.elsewhere:
        check_target(result_file)
    run.config, files, settings = quick_start.planned_run(
        options.pop("model"), options.pop("dataset"), files, settings
    )
    model, dataset = run.config["model"], run.config["dataset"]
    result = quick_start.run(model, dataset, files, settings, **options)
    if result is None:
        if not run.silent:
            print("Done; the results are on the first machine.", file=sys.stderr)
        return
    # First, so that a file that cannot be written does not take them along.
    print(result_table(result), flush=True)
    if result_file:
        write_json(result_file, {"model": model, "dataset": dataset, **result})


def _way_on(run: _Run, arguments: list[str]) -> str:
    """How an interrupted run goes on, in words behind ``interrupted``."""
    if run.config is None:
        return " before training started."
    if run.elsewhere:
        return ": the first machine has what the run can go on from."
    place = _place_to_go_on(run.config, run.started) if can_resume(run.config) else None
    if place is None:
        return " before there was anything to go on from: the same command starts anew."
    # Of several --resume the last one counts.
    resume = [] if run.config["resume"] else ["--resume"]
    words = shlex.join(["recbole-evcf", "run", *arguments, *resume])
    return f" after epoch {place.epoch}: go on with {words}"


def _place_to_go_on(config: Config, started: float) -> Place | None:
    resume = config["resume"]
    if isinstance(resume, str):
        # A model file that was exchanged.
        with contextlib.suppress(ValueError):
            return place_of(model_file_of(resume))
        return None
    newest = next(fitting_places(config), None)
    return newest if newest and (resume or newest.changed >= started) else None


def result_table(result: dict) -> str:
    """The validation and test metrics of ``run_recbole``'s result as a table.

    Where there are standard errors, they stand behind their metric.
    """
    valid, test = result["best_valid_result"] or {}, result["test_result"] or {}
    if not valid and not test:
        return "Nothing was evaluated: the split leaves nothing to validate or test on."
    table = Texttable()
    table.set_deco(Texttable.HEADER)
    table.set_cols_align(["l", "r", "r"])
    table.set_header_align(["l", "r", "r"])
    table.set_cols_dtype(["t", "t", "t"])
    table.header(["metric", "validation", "test"])
    for metric in test or valid:
        if not metric.endswith(SE_SUFFIX):
            table.add_row([metric, _with_error(valid, metric), _with_error(test, metric)])
    return table.draw()


def _with_error(result: dict, metric: str) -> str:
    # None: it is no number, as read from a JSON file.
    if result.get(metric) is None:
        return ""
    return with_error(result[metric], result.get(metric + SE_SUFFIX))


def _parse_run(arguments: list[str]) -> tuple[dict, list[str]]:
    options, settings = parse("run", arguments)
    resume = options.__dict__.pop("resume")
    if resume is not None:
        settings.append(f"--resume={resume}")
    return vars(options), settings
