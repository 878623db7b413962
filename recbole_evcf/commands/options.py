"""Parse every command's options without importing RecBole and PyTorch, so that it is fast."""

from __future__ import annotations

import argparse
import os
import shlex
import textwrap

from recbole_evcf.config.files import (
    DEFAULT_DATASET,
    DEFAULT_MODEL,
    existing,
    named_file,
    read_config_file,
    shipped_yaml,
)
from recbole_evcf.config.keys import KEYS, Role, with_role
from recbole_evcf.utils.text import shortened

__all__ = ["COMMANDS", "check_files", "parse", "split_files"]

# What prepare and reproduce know.
KINDS = ("pro_sg", "ml-20m", "netflix")
TABLES = ("table1", "table2")
ALL_KEYS = "Every key of RecBole's config and of the model may follow as --key=value"


def parse(command: str, arguments: list[str]) -> tuple[argparse.Namespace, list[str]]:
    """Return a command's options, and its words ``--key=value`` that are settings.

    Args:
        command: one of :data:`COMMANDS`.
        arguments: the words after it.

    Raises:
        SystemExit: help was asked for, or argparse has reported a missing or wrong option.
    """
    describe, takes_settings = COMMANDS[command]
    parser = argparse.ArgumentParser(
        prog=f"recbole-evcf {command}",
        allow_abbrev=False,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    describe(parser)
    if takes_settings:
        return parser.parse_known_args(arguments)
    return parser.parse_args(arguments), []


def check_files(options: argparse.Namespace) -> None:
    """Check that the files named by options exist.

    Raises:
        ValueError: one does not.
    """
    for file in split_files(getattr(options, "config_files", "")):
        named_file(file, ".yaml", "There is no config file")
    if getattr(options, "params_file", None):
        named_file(options.params_file, ".hyper", "There is no params file")
    if getattr(options, "model_file", None):
        existing(options.model_file, "There is no model file")
    for name in ("histories", "allow_items", "block_items"):
        if getattr(options, name, None):
            existing(getattr(options, name), f"--{name}: there is no file")


def split_files(text: str) -> list[str]:
    """Split ``--config_files="a.yaml b.yaml"``; a name with blanks must be quoted.

    Raises:
        ValueError: a quotation mark is missing.
    """
    if os.path.isfile(text):
        return [text]
    words = shlex.shlex(text, posix=True)
    words.whitespace_split, words.commenters, words.escape = True, "", ""
    try:
        return list(words)
    except ValueError:
        raise ValueError(f"--config_files: a quotation mark is missing in {text}.") from None


def _add_config_files(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--config_files",
        default="",
        help='YAML files, "a.yaml b.yaml", or names of shipped ones such as '
        '"protocol/strong_generalization"',
    )


class _OneFile(argparse.Action):
    def __call__(self, parser, namespace, values, option_string=None):
        if len(values) > 1:
            parser.error(
                f"{option_string} takes one file and was given {len(values)}, which a pattern such "
                f"as *.pth may match: name one of {shortened(', '.join(values), 200)}."
            )
        setattr(namespace, self.dest, values[0])


def _add_model_file(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--model_file",
        required=True,
        nargs="+",
        action=_OneFile,
        help="of a trained model: saved/....pth",
    )


def _add_shared_by_several(parser: argparse.ArgumentParser, output: str) -> None:
    """Add the options of a command that trains several models."""
    _add_config_files(parser)
    parser.add_argument("--seeds", default="", help="of the models, 2020,2021; the split has one")
    parser.add_argument(
        "--output", default=output, help=f"folder of all results (default {output})"
    )


def _run(parser: argparse.ArgumentParser) -> None:
    parser.description = "Train a model and evaluate it, as RecBole's run_recbole does."
    parser.epilog = f"{ALL_KEYS}.\n\n{_settings_of_our_models()}"
    parser.add_argument("--model", help=f"model name (default {DEFAULT_MODEL})")
    parser.add_argument("--dataset", help=f"data set name (default {DEFAULT_DATASET})")
    _add_config_files(parser)
    parser.add_argument("--result_file", help="JSON file to write the metrics to")
    parser.add_argument(
        "--resume",
        nargs="?",
        const=True,
        metavar="FILE",
        help="resume the newest unfinished run of the same settings, or that of a model file; "
        "without one, start from scratch",
    )
    parser.add_argument("--nproc", type=int, default=1, help="processes on this machine")
    parser.add_argument("--world_size", type=int, default=-1, help="processes on all machines")
    parser.add_argument("--ip", default="localhost", help="address of the first machine")
    parser.add_argument("--port", default="5678", help="port of the first machine")
    parser.add_argument("--group_offset", type=int, default=0, help="rank of our first process")
    parser.add_argument(
        "--max_restarts", type=int, default=0, help="resume so often after a process has died"
    )


def _settings_of_our_models() -> str:
    """A line for each setting of the file that holds the final model's defaults."""
    shipped = shipped_yaml(f"model/{DEFAULT_MODEL}")
    defaults = read_config_file(str(shipped))
    lines = []
    for name in with_role(Role.OF_OUR_MODELS | Role.RECBOLES_WITH_OUR_DEFAULT):
        key, default = KEYS[name], defaults[name]
        what = f"  {f'--{name}={default}':<34}{key.values.type if key.values else 'dict'}"
        text = f"{what}: {key.help.replace('`', '')}" if key.help else what
        lines.append(textwrap.fill(text, 100, subsequent_indent=" " * 36))
    return "\n".join(
        [
            f"settings of our models, with the defaults of {DEFAULT_MODEL}:",
            *lines,
            "",
            "RecBole's settings are described in its documentation, https://recbole.io/docs, under",
            "Config Introduction; the protocol with unseen users in docs/user-guide.md.",
        ]
    )


def _compare(parser: argparse.ArgumentParser) -> None:
    parser.description = "Train and evaluate models on the very same split, and compare them."
    parser.epilog = (
        "Every key of RecBole's config may follow as --key=value and holds for all models."
    )
    parser.add_argument(
        "--models",
        required=True,
        help='"Pop,EASE,GatedHVamp[mlp_hidden_size=[600,600],anneal_cap=0.2]"',
    )
    parser.add_argument(
        "--dataset", default=DEFAULT_DATASET, help=f"data set name (default {DEFAULT_DATASET})"
    )
    parser.add_argument("--baseline", help="model to test the others against (default the first)")
    _add_shared_by_several(parser, output="comparison")


def _reproduce(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Train the rows of a table of the paper with the published settings, by strong\n"
        "generalization, and print ours beside the paper's values."
    )
    parser.epilog = (
        "Every key of RecBole's config may follow as --key=value and goes before the published\n"
        "settings."
    )
    parser.add_argument("table", choices=TABLES, help="which table")
    parser.add_argument("--dataset", help="ml-20m, netflix or any other")
    parser.add_argument(
        "--quick",
        action="store_true",
        help="a few epochs, on ml-100k if no data set is given, to see the command work",
    )
    _add_shared_by_several(parser, output="reproduction")


def _tune(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Search for the settings of a model that are best on validation users. The same command\n"
        "resumes a search that was interrupted."
    )
    parser.epilog = f"{ALL_KEYS}."
    parser.add_argument("--model", help="model name, unless a config file has it")
    parser.add_argument("--dataset", help="data set name, unless a config file has it")
    parser.add_argument(
        "--params_file",
        required=True,
        help='search space in RecBole\'s format, or a shipped one such as "hyper/GatedHVamp.hyper"',
    )
    _add_config_files(parser)
    parser.add_argument(
        "--algo", default="exhaustive", help="exhaustive (default), random or bayes (TPE)"
    )
    parser.add_argument("--max_evals", type=int, help="trials at most (exhaustive: the whole grid)")
    parser.add_argument(
        "--early_stop", type=int, help="end after so many trials without a better one"
    )
    parser.add_argument("--output", required=True, help="folder for the results")
    parser.add_argument("--tool", default="hyperopt", help="hyperopt (default) or ray")
    ray = parser.add_argument_group("with --tool=ray")
    ray.add_argument("--ray_address", help="of a Ray cluster, or auto (default: this machine)")
    ray.add_argument("--cpus_per_trial", type=float, default=1, help="default 1")
    ray.add_argument("--gpus_per_trial", type=float, default=0, help="default 0; may be 0.5")
    ray.add_argument(
        "--grace_period",
        type=int,
        help="epochs before ASHA may stop a trial (default: the warm-up, or a tenth of epochs)",
    )


def _prepare(parser: argparse.ArgumentParser) -> None:
    parser.description = "Turn raw data into RecBole's atomic files, whole or not at all."
    parser.add_argument("kind", choices=KINDS, help="what the raw data are")
    parser.add_argument("--raw", required=True, help="their folder, or for ml-20m its zip file")
    parser.add_argument("--name", help="name of the data set (default: the kind)")
    parser.add_argument("--output", default="dataset", help="folder of data sets (default dataset)")
    parser.add_argument(
        "--overwrite", action="store_true", help="replace the data set if it exists"
    )


def _recommend(parser: argparse.ArgumentParser) -> None:
    parser.description = "Recommend items to users by their histories, with a trained model."
    _add_model_file(parser)
    parser.add_argument(
        "--histories",
        help="the users' histories, a .inter, .csv, .tsv or .jsonl file by original tokens "
        "(default: recommend to the users of the model's data set)",
    )
    parser.add_argument("--output", required=True, help="a .csv, .jsonl or .parquet file to write")
    parser.add_argument(
        "--topk", type=int, default=20, help="items for each user (default 20, or all there are)"
    )
    parser.add_argument(
        "--include_seen", action="store_true", help="recommend items of a user's history too"
    )
    parser.add_argument("--allow_items", metavar="FILE", help="recommend these items only")
    parser.add_argument("--block_items", metavar="FILE", help="do not recommend these items")
    parser.add_argument("--separator", help="between columns of the histories (default , in .csv)")


def _export(parser: argparse.ArgumentParser) -> None:
    parser.description = "Write a trained model for use without RecBole and PyTorch."
    _add_model_file(parser)
    parser.add_argument("--format", choices=["onnx"], default="onnx", help="of the output")
    parser.add_argument("--output", required=True, help="the file to write, such as model.onnx")


def _inspect(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Write an HTML report, and its figures as CSV files, on what a trained model has learned:\n"
        "the prior's components, latent units and levels, gates, and where it recommends well."
    )
    _add_model_file(parser)
    parser.add_argument("--dataset", help="its data set; checked against the file")
    parser.add_argument("--output", required=True, help="folder to write to")


# Each command's options, and whether settings may follow them.
COMMANDS = {
    "compare": (_compare, True),
    "export": (_export, False),
    "inspect": (_inspect, False),
    "prepare": (_prepare, False),
    "recommend": (_recommend, False),
    "reproduce": (_reproduce, True),
    "run": (_run, True),
    "tune": (_tune, True),
}
