"""``recbole-evcf run``: train a model and evaluate it."""

from __future__ import annotations

import argparse
import sys

import yaml
from texttable import Texttable

from recbole_evcf import quick_start
from recbole_evcf.commands.common import INTERRUPTED, fail, read_settings
from recbole_evcf.configuration import finished_config, resolve_config_files
from recbole_evcf.evaluator.per_user import SE_SUFFIX
from recbole_evcf.whole_file import write_json

__all__ = ["main", "result_table"]

DEFAULT_MODEL, DEFAULT_DATASET = "GatedHVamp", "ml-100k"


def main(arguments: list[str]) -> int:
    """Train and evaluate a model; arguments as :func:`recbole_evcf.cli.main`.

    Returns:
        0; 1 if a process or machine failed; 2 for a mistake in what the user gave; 130 if it was
        interrupted.
    """
    options, settings = _parse_run(arguments)
    try:
        _check_settings(settings)
        # RecBole's Config reads --key=value from there itself, in this and in started processes.
        sys.argv = [sys.argv[0], *settings]
        config_files = resolve_config_files(options.pop("config_files").split())
        result_file = options.pop("result_file")
        model, dataset = _what_to_run(options, config_files)
        # Once before anything starts: what it raises is a mistake in a setting.
        finished_config(model, dataset, config_files)
        result = quick_start.run(model, dataset, config_file_list=config_files, **options)
        if result_file and result is not None:
            _write_result(result_file, model, dataset, result)
    except (ChildProcessError, ConnectionError) as error:
        fail(error)
        return 1
    except KeyboardInterrupt:
        print("recbole-evcf: interrupted.", file=sys.stderr)
        return INTERRUPTED
    # NotImplementedError: RecBole's word for a setting it does not know.
    except (ValueError, NotImplementedError, OSError) as error:
        return fail(error)
    if result is not None:
        print(result_table(result))
    return 0


def result_table(result: dict) -> str:
    """The validation and test metrics of ``run_recbole``'s result as a table.

    Where there are standard errors, they stand behind their metric.
    """
    valid, test = result["best_valid_result"] or {}, result["test_result"]
    table = Texttable()
    table.set_deco(Texttable.HEADER)
    table.set_cols_align(["l", "r", "r"])
    table.set_header_align(["l", "r", "r"])
    table.set_cols_dtype(["t", "t", "t"])
    table.header(["metric", "validation", "test"])
    for metric in test:
        if not metric.endswith(SE_SUFFIX):
            table.add_row([metric, _with_error(valid, metric), _with_error(test, metric)])
    return table.draw()


def _with_error(result: dict, metric: str) -> str:
    if metric not in result:
        return ""
    error = result.get(metric + SE_SUFFIX)
    return f"{result[metric]:.4f}" + ("" if error is None else f" ± {error:.4f}")


def _parse_run(arguments: list[str]) -> tuple[dict, list[str]]:
    parser = argparse.ArgumentParser(
        prog="recbole-evcf run",
        allow_abbrev=False,
        description="Train a model and evaluate it, as RecBole's run_recbole does.",
        epilog="Every key of RecBole's config and of the model may follow as --key=value.",
    )
    parser.add_argument("--model", help=f"model name (default {DEFAULT_MODEL})")
    parser.add_argument("--dataset", help=f"data set name (default {DEFAULT_DATASET})")
    parser.add_argument(
        "--config_files",
        default="",
        help='YAML files, "a.yaml b.yaml", or names of shipped ones such as "model/HVamp"',
    )
    parser.add_argument("--result_file", help="JSON file to write the metrics to")
    parser.add_argument("--nproc", type=int, default=1, help="processes on this machine")
    parser.add_argument("--world_size", type=int, default=-1, help="processes on all machines")
    parser.add_argument("--ip", default="localhost", help="address of the first machine")
    parser.add_argument("--port", default="5678", help="port of the first machine")
    parser.add_argument("--group_offset", type=int, default=0, help="rank of our first process")
    options, settings = parser.parse_known_args(arguments)
    return vars(options), settings


def _check_settings(settings: list[str]) -> None:
    for key, value in read_settings(settings).items():
        # RecBole reads the words by itself and would leave this one out.
        if "=" in value:
            raise ValueError(
                f"cannot read '--{key}={value}': a value with an = in it can only be set in a "
                "config file."
            )


def _what_to_run(options: dict, config_files: list[str]) -> tuple[str, str]:
    """Model and data set: from the command line, else the config files, else the defaults."""
    given = {}
    for path in config_files:
        with open(path, encoding="utf-8") as file:
            given.update(yaml.safe_load(file))
    model, dataset = options.pop("model"), options.pop("dataset")
    return (
        model or given.get("model", DEFAULT_MODEL),
        dataset or given.get("dataset", DEFAULT_DATASET),
    )


def _write_result(path: str, model: str, dataset: str, result: dict) -> None:
    write_json(path, {"model": model, "dataset": dataset, **result})
