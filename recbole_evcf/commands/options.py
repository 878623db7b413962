"""The options of every command, read without importing RecBole and PyTorch, so that it is fast."""

import argparse
import os
import shlex
import sys
import textwrap
from collections.abc import Iterable
from typing import Any, NamedTuple

from recbole_evcf import __version__
from recbole_evcf.config import files
from recbole_evcf.config.keys import KEYS, Role, with_role
from recbole_evcf.utils.packages import PLUGINS
from recbole_evcf.utils.text import printable

MODEL, DATASET = files.DEFAULTS["model"], files.DEFAULTS["dataset"]
# A name, and the keyword arguments of argparse's add_argument.
Option = tuple[str, dict[str, Any]]


class Command(NamedTuple):
    """What a command does and takes."""

    # Its module and function, which takes options and words, and returns an exit code or None.
    function: str
    summary: str
    options: tuple[Option, ...]
    # What --help says of words --key=value; None if it takes none.
    settings: str | None = None


def _option(name: str, text: str, **more: Any) -> Option:
    return name, {"help": text, **more}


def _switch(name: str, text: str) -> Option:
    return _option(name, text, action="store_true")


def _of_several(folder: str) -> tuple[Option, ...]:
    """The options of a command that trains several models."""
    return (
        _FILES,
        _option("--seeds", "of the models, 2020,2021; the split has one", default=""),
        _option("--output", f"folder of all results (default {folder})", default=folder),
        _option("--tool", "local (default), one run after another, or ray", default="local"),
        *_RAY,
    )


_SHIPPED = 'YAML files, "a.yaml b.yaml", or shipped ones such as protocol/strong_generalization'
_FILES = _option("--config_files", _SHIPPED, default="")
_MODEL_FILE = _option("--model_file", "of a trained model: saved/....pth", required=True)
_RAY = (
    _option("--ray_address", "of a Ray cluster, or auto (default: this machine)"),
    _option("--cpus_per_trial", "with ray, default 1", type=float, default=1),
    _option("--gpus_per_trial", "with ray, default 0; may be 0.5", type=float, default=0),
)
_EVERY_KEY = "Every key of RecBole's config and of the model may follow as --key=value."

COMMANDS = {
    "app": Command(
        "app.main",
        "Open a page on this machine, and an HTTP API, to look at what trained models recommend.",
        (
            _option("--model_file", "of one or more trained models", nargs="+", required=True),
            _option("--dataset", "data set of a model, whose users can be picked"),
            _option("--host", "address to listen on (default 127.0.0.1)", default="127.0.0.1"),
            _option("--port", "port (default 7860; 0: any)", type=int, default=7860),
        ),
    ),
    "compare": Command(
        "comparison.compare",
        "Train and evaluate models on the very same split, and compare them.",
        (
            _option("--models", '"Pop,EASE,GatedHVamp[anneal_cap=0.2,gated=False]"', required=True),
            _option("--dataset", "data set name (default ml-100k)", default=DATASET),
            _option("--baseline", "model to test the others against (default the first)"),
            *_of_several("comparison"),
        ),
        "Every key of RecBole's config may follow as --key=value and holds for all models.",
    ),
    "export": Command(
        "trained_model.export",
        "Write a trained model for use without RecBole and PyTorch.",
        (
            _MODEL_FILE,
            _option("--format", "of the output", choices=["onnx"], default="onnx"),
            _option("--output", "the file to write, such as model.onnx", required=True),
        ),
    ),
    "inspect": Command(
        "trained_model.inspect",
        "Write an HTML report, and its figures as CSV files, on what a trained model has learned: "
        "the prior's components, latent units and levels, gates, and where it recommends well.",
        (
            _MODEL_FILE,
            _option("--dataset", "its data set; checked against the file"),
            _option("--output", "folder to write to", required=True),
        ),
    ),
    "prepare": Command(
        "prepare.main",
        "Turn raw data into RecBole's atomic files, whole or not at all.",
        (
            _option(
                "kind", "what the raw data are", choices=["table", "pro_sg", "ml-20m", "netflix"]
            ),
            _option(
                "--raw",
                "of a table its .csv, .tsv, .parquet or .jsonl file, or more, 'orders-*.csv.gz'; "
                "otherwise their folder, or for ml-20m its zip file",
                required=True,
            ),
            _option("--name", "name of the data set (default: the kind; a table needs one)"),
            _option("--output", "folder of data sets (default dataset)", default="dataset"),
            _switch("--overwrite", "replace the data set if it exists"),
            *(
                _option(f"--{field}", f"of a table, its column (default: by its name, {names})")
                for field, names in (
                    ("user", "such as userId, customer"),
                    ("item", "such as product_id, sku"),
                    ("rating", "such as rating, stars"),
                    ("time", "such as timestamp, date"),
                )
            ),
            _option("--item_file", "of a table, one of its items, with the column --item"),
            _option("--title", "its column of titles (default: by its name, such as title, name)"),
            _option("--min_rating", "of a table, leave out lower ratings", type=float),
            _option("--min_user", "of a table, interactions a user must have", type=int),
            _option("--min_item", "of a table, interactions an item must have", type=int),
        ),
    ),
    "recommend": Command(
        "trained_model.recommend",
        "Recommend items to users by their histories, with a trained model.",
        (
            _MODEL_FILE,
            _option(
                "--histories",
                "a .inter, .csv, .tsv, .parquet or .jsonl file, or more, 'part-*.csv.gz' (default: "
                "its data set's)",
                nargs="+",
                metavar="FILE",
            ),
            _option(
                "--output",
                "a .csv, .jsonl or .parquet file to write; for more, 'recs/*.parquet', in which "
                "their names take the place of the *",
                required=True,
            ),
            _option("--topk", "items for each user, or all (default 20)", type=int, default=20),
            _switch("--include_seen", "recommend items of a user's history too"),
            _option("--allow_items", "recommend these items only", metavar="FILE"),
            _option("--block_items", "do not recommend these items", metavar="FILE"),
            _option("--separator", "between columns of the histories (default , in .csv)"),
            _option("--nproc", "processes for many files (default 1)", type=int, default=1),
            _switch("--overwrite", "of many files, write also those that are there already"),
            _option("--tool", "of many files, local (default) or ray", default="local"),
            *_RAY,
        ),
    ),
    "reproduce": Command(
        "comparison.reproduce",
        "Train the rows of a table of the paper with the published settings, by strong "
        "generalization, and print ours beside the paper's values.",
        (
            _option("table", "which table", choices=["table1", "table2"]),
            _option("--dataset", "ml-20m, netflix or any other"),
            _switch("--quick", "a few epochs, on ml-100k by default, to see the command work"),
            *_of_several("reproduction"),
        ),
        "Every key of RecBole's config may follow as --key=value and goes before the published "
        "settings.",
    ),
    "run": Command(
        "run.main",
        "Train a model and evaluate it, as RecBole's run_recbole does.",
        (
            _option("--model", f"model name (default {MODEL})"),
            _option("--dataset", f"data set name, or a table's file (default {DATASET})"),
            _FILES,
            _option("--result_file", "JSON file to write the metrics to"),
            _option("--resume", KEYS["resume"].help, nargs="?", const=True, metavar="FILE"),
            *(
                _option(f"--{key.name}", key.help, type=type(key.default), default=key.default)
                for key in map(KEYS.__getitem__, with_role(Role.ARGUMENT_OF_RUN))
            ),
        ),
        _EVERY_KEY,
    ),
    "tune": Command(
        "tune.main",
        "Search for the settings of a model that are best on validation users. The same command "
        "resumes a search that was interrupted.",
        (
            _option("--model", "model name, unless a config file has it"),
            _option("--dataset", "data set name, unless a config file has it"),
            _option("--params_file", "search space, such as hyper/GatedHVamp.hyper", required=True),
            _FILES,
            _option("--algo", "exhaustive (default), random or bayes (TPE)", default="exhaustive"),
            _option("--max_evals", "trials at most (exhaustive: the whole grid)", type=int),
            _option("--early_stop", "end after so many trials without a better one", type=int),
            _option("--output", "folder for the results", required=True),
            _option("--tool", "hyperopt (default) or ray", default="hyperopt"),
            *_RAY,
            _option("--grace_period", "with ray, epochs before ASHA may stop a trial", type=int),
        ),
        _EVERY_KEY,
    ),
}


def parse(arguments: list[str]) -> tuple[argparse.Namespace, list[str]]:
    """Read the words after ``recbole-evcf``.

    Returns:
        the options, with ``command`` and ``command_line``; and the words ``--key=value``, which are
        settings.

    Raises:
        SystemExit: help was asked for, or argparse has reported a missing or wrong option.
    """
    parser = argparse.ArgumentParser(
        prog="recbole-evcf",
        allow_abbrev=False,
        description="VampPrior, hierarchical and gated VAEs for RecBole.",
        epilog="recbole-evcf COMMAND --help describes a command. The environment variable "
        f"{PLUGINS} names modules with models of your own.",
    )
    parser.add_argument("--version", action="version", version=f"recbole-evcf {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    parsers = {name: _add(commands, name) for name in COMMANDS}
    if not arguments:
        parser.print_help(sys.stderr)
        parser.exit(2)
    options, words = parser.parse_known_args(arguments)
    if words and COMMANDS[options.command].settings is None:
        parsers[options.command].error(f"unrecognized arguments: {' '.join(words)}")
    options.command_line = shlex.join(["recbole-evcf", *arguments])
    return options, words


def _add(commands: Any, name: str) -> argparse.ArgumentParser:
    command = COMMANDS[name]
    epilog = textwrap.fill(command.settings or "", 100)
    parser: argparse.ArgumentParser = commands.add_parser(
        name,
        help=command.summary.partition(". ")[0].rstrip("."),
        description=textwrap.fill(command.summary, 100),
        epilog=f"{epilog}\n\n{_settings_of_our_models()}" if name == "run" else epilog,
        allow_abbrev=False,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    for option, more in command.options:
        parser.add_argument(option, **more)
    return parser


def _settings_of_our_models() -> str:
    """A line for each setting of the file that holds the final model's defaults."""
    defaults = files.read_config_file(str(files.shipped_file(f"model/{MODEL}")))
    lines = [f"settings of our models, with the defaults of {MODEL}:"]
    for name in with_role(Role.OF_OUR_MODELS | Role.RECBOLES_WITH_OUR_DEFAULT):
        key = KEYS[name]
        what = f"  {f'--{name}={defaults[name]}':<34}{key.values.type if key.values else 'dict'}"
        text = f"{what}: {key.help.replace('`', '')}" if key.help else what
        lines.append(textwrap.fill(text, 100, subsequent_indent=" " * 36))
    rest = "RecBole's are described at https://recbole.io/docs, under Config Introduction."
    return "\n".join([*lines, "", rest])


def check_files(options: argparse.Namespace) -> None:
    """Raise a ValueError if a file that is named by an option does not exist."""
    given = {name: value for name, value in vars(options).items() if value}
    for file in split_files(given.get("config_files", "")):
        files.named_file(file, ".yaml", "There is no config file")
    if "params_file" in given:
        files.named_file(given["params_file"], ".hyper", "There is no params file")
    model_files = given.get("model_file", [])
    for file in [model_files] if isinstance(model_files, str) else model_files:
        files.existing(file, "There is no model file")
    for pattern in given.get("histories", ()):
        files.matching(pattern)
    for name in {"allow_items", "block_items"} & given.keys():
        files.existing(given[name], f"--{name}: there is no file")


def split_files(text: str) -> list[str]:
    """Split ``--config_files="a.yaml b.yaml"``; a name with blanks must be quoted."""
    if os.path.isfile(text):
        return [text]
    words = shlex.shlex(text, posix=True)
    words.whitespace_split, words.commenters, words.escape = True, "", ""
    try:
        return list(words)
    except ValueError:
        raise ValueError(f"--config_files: a quotation mark is missing in {text}.") from None


def read_settings(words: Iterable[str]) -> dict[str, str]:
    """The settings in words ``--key=value``, as strings that RecBole's ``Config`` evaluates.

    Raises:
        ValueError: a word has another form, or a key is given twice.
    """
    settings: dict[str, str] = {}
    for word in words:
        key, equals, value = word[2:].partition("=")
        if not word.startswith("--") or not key or not equals:
            raise ValueError(f"cannot read {word!r}: settings are written --key=value.")
        if settings.setdefault(key, value) != value:
            raise ValueError(f"--{key} is given twice, as {settings[key]} and as {value}.")
    return settings


def read_seeds(text: str) -> list[int]:
    """Seeds separated by commas; raise a ValueError if one is not a whole number from 0 on."""
    words = [word.strip() for word in text.split(",")] if text.strip() else []
    if not all(word.isdecimal() for word in words):
        raise ValueError(f"--seeds must be whole numbers separated by commas, not {text!r}.")
    return [int(word) for word in words]


def tell(line: str) -> None:
    """Print a line to stderr at once, apart from the result."""
    print(printable(line), file=sys.stderr, flush=True)
