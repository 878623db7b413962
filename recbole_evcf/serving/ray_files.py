"""Recommendations from many files of histories as Ray tasks; the machines share a file system."""

import os
from collections.abc import Generator, Mapping, Sequence

from recbole_evcf.serving.many_files import Pair, attempt_apart
from recbole_evcf.serving.recommendation_files import Done, Wanted
from recbole_evcf.utils.ray import connected, gpus, results


def by_ray(
    model_file: str,
    pairs: Sequence[Pair],
    wanted: Wanted,
    share: Mapping[str, float],
    address: str | None,
) -> Generator[Done | str, None, None]:
    """Yield what came of each pair as it is done, as
    :func:`~recbole_evcf.serving.many_files.in_processes`.

    ``share`` and ``address`` are those of :func:`~recbole_evcf.utils.ray.connected`. A file whose
    worker dies is tried again, see :func:`~recbole_evcf.utils.ray.results`.
    """
    # Workers may run in another folder.
    model_file = os.path.abspath(model_file)
    calls = {pair[0]: (model_file, tuple(map(os.path.abspath, pair)), wanted) for pair in pairs}
    with connected(address, share):
        for histories, done, failure in results(_attempt, calls, share):
            yield done or f"{histories}: {failure.splitlines()[0]}."


def _attempt(model_file: str, pair: Pair, wanted: Wanted) -> Done | str:
    """On the GPU that Ray has given, not on that of the file's settings."""
    return attempt_apart(model_file, pair, wanted, "cuda" if gpus() else "cpu")
