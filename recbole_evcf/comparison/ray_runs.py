"""Do the runs of a comparison as Ray tasks; this process alone writes what they send back."""

import os
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, as_completed
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import ray
from ray.exceptions import RayError, RayTaskError
from recbole.config import Config

from recbole_evcf.comparison.compare import request_of
from recbole_evcf.comparison.plan import Run
from recbole_evcf.comparison.worker import work
from recbole_evcf.results import Store
from recbole_evcf.utils.files import atomic_write
from recbole_evcf.utils.ray import connected, gpus, settings_on
from recbole_evcf.utils.text import one_line

# How often a run is tried again, in the midst of it where its state can be read, when its worker
# or its machine has died.
RETRIES = 3


def by_ray(
    runs: Iterable[Run],
    store: Store,
    tell: Callable[[Run, str], None],
    share: Mapping[str, float],
    address: str | None,
) -> Iterator[tuple[Run, str | None]]:
    """Do runs in parallel, as :data:`~recbole_evcf.comparison.compare.Runner` says; ``share`` and
    ``address`` are those of :func:`~recbole_evcf.utils.ray.connected`."""
    if not (left := list(runs)):
        return
    requests = {run.name: _request(run, store) for run in left}
    deaths: Counter[str] = Counter()
    with connected(address, share):
        # A worker ends with its run, and Ray would try again without a word.
        options = {"num_cpus": share["CPU"], "num_gpus": share["GPU"]}
        task = ray.remote(**options, max_calls=1, max_retries=0)(_work)

        def start(run: Run, what: str) -> Future:
            tell(run, what)
            return task.remote(requests[run.name], run.settings, run.name).future()

        waiting = {start(run, "waits for Ray"): run for run in left}
        while waiting:
            # Not ray.wait(), which takes every signal for Ctrl-C.
            ended = next(as_completed(waiting))
            run = waiting.pop(ended)
            try:
                failure, files = ended.result()
            except RayTaskError as error:
                failure, files = f"{type(error.cause).__name__}: {one_line(error.cause)}", {}
            except RayError as error:
                deaths[run.name] += 1
                why = type(error).__name__
                if deaths[run.name] <= RETRIES:
                    waiting[start(run, f"its process died ({why}); it is tried again")] = run
                    continue
                failure = f"its process died {deaths[run.name]} times ({why}: out of memory?)"
                files = {".log": f"{failure}\n".encode()}
            for ending, content in files.items():
                with atomic_write(str(store.path(run.name, ending))) as temporary:
                    Path(temporary).write_bytes(content)
            yield run, failure


def _request(run: Run, store: Store) -> dict[str, Any]:
    """Return a request that another machine can read: without config files."""
    request = request_of(run, store)
    config = Config(*(request[key] for key in ("model", "dataset", "config_files", "settings")))
    return {**request, "config_files": [], "settings": settings_on(config.external_config_dict)}


def _work(
    request: dict[str, Any], settings: dict[str, Any], name: str
) -> tuple[str | None, dict[str, bytes]]:
    """Do a run; return why it failed, None if it did not, and its files by their endings."""
    request = {**request, "settings": {**request["settings"], "gpu_id": gpus()}}
    said: list[str | None] = []
    with tempfile.TemporaryDirectory() as folder:
        with suppress(SystemExit):
            path = os.path.join(folder, name)
            work(request, settings, path, SimpleNamespace(send=said.append))
        files = {file.name.removeprefix(name): file.read_bytes() for file in Path(folder).iterdir()}
    return said[0], files
