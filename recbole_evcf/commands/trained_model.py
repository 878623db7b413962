"""What the commands do with a trained model: ``recommend``, ``export`` and ``inspect``."""

import argparse
import os
import sys
from collections import Counter
from collections.abc import Iterable
from contextlib import closing
from importlib.util import find_spec

from recbole_evcf import quick_start
from recbole_evcf.commands.options import tell
from recbole_evcf.config.files import matching
from recbole_evcf.data.prepare.table import form_of
from recbole_evcf.report.table import number
from recbole_evcf.serving.many_files import attempt, in_processes, output_of
from recbole_evcf.serving.recommendation_files import WRITERS, Done, Wanted, recommend_to_file
from recbole_evcf.serving.recommender import Recommender
from recbole_evcf.serving.user_histories import (
    FORMS,
    SEPARATORS,
    data_set_users,
    read_histories,
    read_tokens,
    unknown_items,
)
from recbole_evcf.utils.files import check_target
from recbole_evcf.utils.packages import with_ray
from recbole_evcf.utils.text import printable


def export(options: argparse.Namespace, words: list[str]) -> None:
    """Write a trained model as an ONNX file."""
    from recbole_evcf.serving.onnx_export import INPUT, OUTPUT, export_onnx

    check_target(options.output)
    recommender = Recommender.load(options.model_file, device="cpu")
    export_onnx(recommender, options.output)
    size = os.path.getsize(options.output)
    items = f"{len(recommender.item_tokens):,} items"
    print(f"{options.output}: float32 {INPUT} (users, {items}) -> {OUTPUT}, {size / 1e6:,.1f} MB")


def inspect(options: argparse.Namespace, words: list[str]) -> None:
    """Look inside a trained model."""
    from recbole_evcf.inspection.inspection import inspect_model
    from recbole_evcf.inspection.report import check_folder

    check_folder(options.output)
    inspection = inspect_model(options.model_file, options.dataset)
    files = inspection.report(options.output)
    width = max(map(len, inspection.facts))
    for name, value in inspection.facts.items():
        print(f"{name:<{width}}  {printable(number(value, '.1f'))}")
    page = os.path.join(options.output, files[0])
    print(f"\n{page} and {len(files) - 1} CSV files beside it")


def recommend(options: argparse.Namespace, words: list[str]) -> int:
    """Rank items for new users, or for those of the data set."""
    for name in ("topk", "nproc"):
        if (count := getattr(options, name)) < 1:
            raise ValueError(f"--{name} must be at least 1, not {count}.")
    named = [file for pattern in options.histories or () for file in matching(pattern)]
    # A file may be named twice.
    histories = list({os.path.abspath(file): file for file in named}.values())
    many = "*" in os.path.basename(options.output)
    if many != bool(histories) and len(histories) != 1:
        needs = "needs a * if --histories names several files, such as recs/*.parquet; it names"
        raise ValueError(f"--output={options.output} {needs} {len(histories) or 'none'}.")
    if options.separator and not any(form_of(file, FORMS) in SEPARATORS for file in histories):
        raise ValueError(f"--separator is for --histories in {', '.join(SEPARATORS)} files.")
    outputs = [output_of(file, options.output) for file in histories] or [options.output]
    lists = options.allow_items, options.block_items
    _check_outputs(outputs, [*histories, *filter(None, lists), options.model_file])
    allow, block = (path and tuple(read_tokens(path)) for path in lists)
    wanted = Wanted(options.topk, options.include_seen, allow, block or (), options.separator)
    if histories:
        # Ray gives the GPUs to others.
        recommender = Recommender.load(options.model_file, "cpu" if options.tool == "ray" else None)
        items, fields = recommender.catalogue, recommender.field_names
        if not many:
            users = read_histories(histories[0], items, fields, options.separator)
    else:
        _, model, _, *parts, _ = quick_start.load_data_and_model(options.model_file)
        recommender, users = Recommender(model), data_set_users(*parts)
    for path, tokens in zip(lists, (allow, block)):
        if unknown := set(tokens or ()) - set(recommender.item_tokens):
            tell(f"recbole-evcf: {path} names {unknown_items(unknown)}.")
    if not many:
        return _report([recommend_to_file(recommender, users, outputs[0], wanted)])
    pairs = [
        pair for pair in zip(histories, outputs) if options.overwrite or not os.path.exists(pair[1])
    ]
    if there := len(outputs) - len(pairs):
        kept = f"{there} of {len(outputs)} files are there already, and are kept as they are"
        tell(f"recbole-evcf: {kept}, whichever model wrote them; --overwrite replaces them.")
    work = options.model_file, pairs, wanted
    if options.tool == "ray" and pairs:
        given = options.cpus_per_trial, options.gpus_per_trial
        ray_files, share = with_ray("serving.ray_files", *given)
        outcomes = ray_files.by_ray(*work, share, options.ray_address)
    elif (n_processes := min(options.nproc, len(pairs))) > 1:
        outcomes = in_processes(*work, n_processes)
    else:
        outcomes = (attempt(recommender, pair, wanted) for pair in pairs)
    with closing(outcomes):
        return _report(outcomes)


def _check_outputs(outputs: list[str], read: list[str]) -> None:
    """Raise a ValueError if the files cannot be written, before work is spent."""
    sources = {os.path.realpath(path): path for path in read}
    # Other systems usually ignore the case of a file's name.
    same = str.casefold if sys.platform in ("darwin", "win32") else str
    times = Counter(map(same, outputs))
    for output in outputs:
        ending = os.path.splitext(output)[1].lower()
        if ending not in WRITERS:
            raise ValueError(
                f"{output}: recommendations are written to {', '.join(WRITERS)} files."
            )
        check_target(output)
        if ending == ".parquet" and find_spec("pyarrow") is None:
            raise ValueError("Parquet needs the package pyarrow: pip install pyarrow")
        if source := sources.get(os.path.realpath(output)):
            raise ValueError(f"--output would replace {source}, which is read: give another name.")
        if times[same(output)] > 1:
            raise ValueError(f"{output} would be written for several files: rename one of them.")


def _report(outcomes: Iterable[Done | str]) -> int:
    """Print what was done, or what was wrong, and return the exit code."""
    code = 0
    for outcome in outcomes:
        if isinstance(outcome, str):
            tell(f"recbole-evcf: error: {outcome}")
            code = 2
            continue
        print(outcome.line, flush=True)
        for remark in outcome.remarks:
            tell(f"recbole-evcf: {remark}")
    return code
