"""Do the runs of a comparison as Ray tasks; this process alone writes what they send back."""

import os
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from recbole.config import Config

from recbole_evcf.comparison.compare import request_of
from recbole_evcf.comparison.plan import Run
from recbole_evcf.comparison.worker import work
from recbole_evcf.results import Store
from recbole_evcf.utils.files import atomic_write
from recbole_evcf.utils.ray import connected, gpus, results, settings_on


def by_ray(
    runs: Iterable[Run],
    store: Store,
    tell: Callable[[Run, str], None],
    share: Mapping[str, float],
    address: str | None,
) -> Iterator[tuple[Run, str | None]]:
    """Do runs in parallel, as :data:`~recbole_evcf.comparison.compare.Runner` says; ``share`` and
    ``address`` are those of :func:`~recbole_evcf.utils.ray.connected`. A run whose process died
    is resumed where its state can be read."""
    if not (left := {run.name: run for run in runs}):
        return
    calls = {name: (_request(run, store), run.settings, name) for name, run in left.items()}
    with connected(address, share):
        for run in left.values():
            tell(run, "waits for Ray")
        # A worker ends with its run.
        for name, done, why in results(
            _work, calls, share, lambda name, what: tell(left[name], what), max_calls=1
        ):
            failure, files = done or (why.splitlines()[0], {".log": f"{why}\n".encode()})
            for ending, content in files.items():
                with atomic_write(str(store.path(name, ending))) as temporary:
                    Path(temporary).write_bytes(content)
            yield left[name], failure


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
    # Windows does not remove the log, which this process's output still goes to.
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        with suppress(SystemExit):
            path = os.path.join(folder, name)
            work(request, settings, path, SimpleNamespace(send=said.append))
        files = {file.name.removeprefix(name): file.read_bytes() for file in Path(folder).iterdir()}
    return said[0], files
