"""Recommendations from many files of histories, each to a file of its own, by several processes."""

import multiprocessing
import os
import signal
import sys
from collections.abc import Generator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from functools import cache
from pathlib import Path

import torch

from recbole_evcf.data.prepare.table import COMPRESSED
from recbole_evcf.distributed import end_with_parent
from recbole_evcf.results import held
from recbole_evcf.serving.recommendation_files import Done, Wanted, recommend_to_file
from recbole_evcf.serving.recommender import Recommender
from recbole_evcf.serving.user_histories import read_histories
from recbole_evcf.utils.files import remove_leftovers
from recbole_evcf.utils.packages import import_plugins
from recbole_evcf.utils.text import one_line

# A file of histories, and the one for recommendations.
Pair = tuple[str, str]


def output_of(histories: str, pattern: str) -> str:
    """The file of a pattern such as ``recs/*.csv``: the * is the other's name without endings."""
    name = Path(histories)
    while name.suffix.lower() in COMPRESSED:
        name = name.with_suffix("")
    folder, output = os.path.split(pattern)
    return os.path.join(folder, output.replace("*", name.stem))


def attempt(recommender: Recommender, pair: Pair, wanted: Wanted) -> Done | str:
    """Do one of many files; return what was done, or one sentence that names the bad file."""
    histories, output = pair
    try:
        with held(output) as free:
            if not free:
                raise ValueError(f"{output} is being written by another command.")
            remove_leftovers(output)
            items, fields = recommender.catalogue, recommender.field_names
            users = read_histories(histories, items, fields, wanted.separator)
            done = recommend_to_file(recommender, users, output, wanted, no_bar=True)
        return done._replace(remarks=[_naming(histories, remark) for remark in done.remarks])
    except Exception as error:
        return _naming(histories, one_line(error))


def in_processes(
    model_file: str, pairs: Sequence[Pair], wanted: Wanted, n_processes: int
) -> Generator[Done | str, None, None]:
    """Yield what :func:`attempt` returns of each pair as it is done, by a pool of processes.

    Raises:
        ChildProcessError: one of them ended before its time.
    """
    threads = max(1, torch.get_num_threads() // n_processes)
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(n_processes, context, _begin, (threads,)) as pool:
        try:
            futures = [pool.submit(attempt_apart, model_file, pair, wanted) for pair in pairs]
            for future in as_completed(futures):
                yield future.result()
        except BrokenProcessPool:
            raise ChildProcessError(
                "a process could not start or was killed (out of memory?): use a smaller --nproc; "
                "without --overwrite, the command does what is missing."
            ) from None
        except BaseException:
            # Also where the caller was interrupted.
            pool.shutdown(wait=False, cancel_futures=True)
            for process in multiprocessing.active_children():
                process.terminate()
            raise


def _begin(threads: int) -> None:
    """What a process does first: it ends with the command, and by it alone."""
    end_with_parent()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit())
    sys.argv = sys.argv[:1]
    torch.set_num_threads(threads)


def attempt_apart(
    model_file: str, pair: Pair, wanted: Wanted, device: str | None = None
) -> Done | str:
    """:func:`attempt` in a process of several, which loads the model once."""
    try:
        return attempt(_load(model_file, device), pair, wanted)
    except SystemExit:
        # The pool would go on with the next.
        os._exit(1)


@cache
def _load(model_file: str, device: str | None) -> Recommender:
    import_plugins()
    return Recommender.load(model_file, device)


def _naming(file: str, said: str) -> str:
    return said if file in said else f"{file}: {said}"
