"""Recommendations from many files of histories as Ray tasks; the machines share a file system."""

import os
from collections.abc import Generator, Mapping, Sequence
from concurrent.futures import as_completed

import ray
from ray.exceptions import RayError

from recbole_evcf.serving.many_files import Pair, attempt_apart
from recbole_evcf.serving.recommendation_files import Done, Wanted
from recbole_evcf.utils.ray import connected
from recbole_evcf.utils.text import one_line


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
    worker dies is tried again, three times as Ray does it.
    """
    with connected(address, share):
        task = ray.remote(num_cpus=share["CPU"], num_gpus=share["GPU"])(attempt_apart)
        # Workers may run in another folder.
        model_file = os.path.abspath(model_file)
        waiting = {}
        for histories, output in pairs:
            pair = os.path.abspath(histories), os.path.abspath(output)
            waiting[task.remote(model_file, pair, wanted).future()] = histories
        for ended in as_completed(waiting):
            try:
                yield ended.result()
            except RayError as error:
                yield f"{waiting[ended]}: its process failed ({one_line(error)})."
