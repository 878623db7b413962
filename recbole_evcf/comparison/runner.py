"""Runs one after the other, each in a process of its own."""

from __future__ import annotations

import signal
from collections.abc import Callable, Sequence
from multiprocessing import get_context

from recbole_evcf.comparison.plan import Run
from recbole_evcf.comparison.store import RunStore
from recbole_evcf.comparison.worker import work

__all__ = ["run_all"]


def run_all(
    runs: Sequence[Run], store: RunStore, tell: Callable[[str], None]
) -> dict[str, str | None]:
    """Run what has not been run; one that fails does not keep the others from running.

    A process of its own for each: its memory can be measured, a crash ends nothing else, and no
    model leaves anything behind that another would meet.

    Args:
        runs: in their order.
        store: where finished ones are kept.
        tell: takes a line on each run.

    Returns:
        by digest, why a run failed; None for those that are finished.
    """
    reasons: dict[str, str | None] = {}
    for number, run in enumerate(runs, start=1):
        name = f"[{number}/{len(runs)}] {run.entry.label}, seed {run.seed}"
        if store.result(run) is not None:
            reasons[run.digest] = None
            tell(f"{name}: kept from before")
            continue
        tell(f"{name}: running")
        reason = _run(run, store)
        reasons[run.digest] = reason
        tell(f"{name}: {_outcome(run, store, reason)}")
    return reasons


def _outcome(run: Run, store: RunStore, reason: str | None) -> str:
    if reason is not None:
        return f"failed: {reason} (log: {store.paths(run)['log']})"
    result = store.result(run)
    epochs = len(result["curve"])
    seconds = result["costs"]["total_seconds"]
    return f"{epochs} {'epoch' if epochs == 1 else 'epochs'} in {seconds:.1f} s"


def _run(run: Run, store: RunStore) -> str | None:
    context = get_context("spawn")
    ours, theirs = context.Pipe(duplex=False)
    settings = {"checkpoint_dir": str(store.folder / "saved"), "show_progress": False}
    request = {**run.request, "settings": {**settings, **run.request["settings"]}}
    # Not a daemon, which could have no processes of its own, as dataloaders have with ``worker``.
    process = context.Process(
        target=work, args=(request, run.settings, store.paths(run), theirs), daemon=False
    )
    process.start()
    theirs.close()
    try:
        reason = ours.recv()
    except EOFError:
        process.join()
        return _end_of(process.exitcode)
    except BaseException:
        process.terminate()
        raise
    process.join()
    return reason


def _end_of(code: int) -> str:
    """What the exit code of a process that said nothing tells."""
    if code >= 0:
        return f"its process ended with exit code {code}"
    name = signal.Signals(-code).name
    hint = "; most often the memory was used up" if name == "SIGKILL" else ""
    return f"its process was killed by {name}{hint}"
