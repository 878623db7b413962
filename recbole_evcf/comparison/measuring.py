"""What a run brought and cost: a record of each epoch, and the most memory that was taken."""

from __future__ import annotations

import sys
from pathlib import Path
from time import perf_counter

__all__ = ["peak_memory", "recording"]


def recording(trainer_class: type) -> type:
    """A subclass of a trainer of RecBole's or ours, which trains as it does and keeps a record.

    Its trainers have ``record``, a list with a dict for each epoch: ``epoch``; ``seconds`` of
    training, without validation; for our models ``reconstruction``, ``kl`` and ``kl_weight``; and
    where the epoch was validated ``valid_score``. A run that goes on keeps its record.
    """

    class Recording(trainer_class):
        PROGRESS = (*getattr(trainer_class, "PROGRESS", ()), "record")

        def __init__(self, *args, **kwargs):
            self.record: list[dict] = []
            super().__init__(*args, **kwargs)

        def _train_epoch(self, train_data, epoch_idx, *args, **kwargs):
            start = perf_counter()
            losses = super()._train_epoch(train_data, epoch_idx, *args, **kwargs)
            row = {"epoch": epoch_idx, "seconds": perf_counter() - start}
            if isinstance(losses, dict):
                row.update(losses)
            self.record.append(row)
            return losses

        def _valid_epoch(self, *args, **kwargs):
            score, result = super()._valid_epoch(*args, **kwargs)
            if self.record:
                self.record[-1]["valid_score"] = float(score)
            return score, result

    Recording.__name__ = trainer_class.__name__
    return Recording


def peak_memory() -> int | None:
    """The greatest resident memory of this process so far, in bytes; None where it is unknown."""
    # Not getrusage where there is this: on Linux a new program inherits the peak of its parent.
    status = Path("/proc/self/status")
    if status.exists():
        for line in status.read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    try:
        import resource
    except ImportError:
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
