"""A child of measure.py: builds a case once, then repeats and times it for each line on stdin.

Spoken are JSON objects, one a line. The first question names the function and its argument; every
following one asks for a repetition. Each answer has ``error`` (None if all is well), ``peak`` and
``gpu_peak`` (bytes so far), and those to repetitions have ``seconds`` and ``result``. A repetition
may be a generator: each dict that it yields is told at once as ``partial``, the last is the result.
"""

from __future__ import annotations

import contextlib
import importlib
import inspect
import json
import os
import sys
import time
import traceback


def main() -> int:
    """Answer until stdin ends, or the case fails."""
    # What a library prints must not mix with the answers.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    repeat = None
    for line in sys.stdin:
        answer = {"error": None}
        try:
            if repeat is None:
                repeat = _build(**json.loads(line))
            else:
                start = time.perf_counter()
                result = repeat()
                if inspect.isgenerator(result):
                    result = _last(result, answers)
                answer["result"] = result
                _wait_for_gpu()
                answer["seconds"] = time.perf_counter() - start
        except Exception as error:
            traceback.print_exc()
            answer["error"] = _describe(error)
        answer.update(peak=_peak(), gpu_peak=_gpu_peak())
        _tell(answers, answer)
        if answer["error"]:
            return 1
    return 0


def _tell(answers, answer: dict) -> None:
    answers.write(json.dumps(answer) + "\n")
    answers.flush()


def _last(parts, answers) -> dict:
    part = {}
    for part in parts:
        _tell(answers, {"partial": part})
    return part


def _build(function: str, spec: dict):
    module, name = function.split(":")
    return getattr(importlib.import_module(module), name)(spec)


def _describe(error: Exception) -> str:
    text = str(error).strip().splitlines()
    text = f"{type(error).__name__}: {text[0] if text else ''}"
    short = isinstance(error, MemoryError) or "memory" in text.lower()
    return f"out of memory: {text}" if short else text


def _peak() -> int:
    """Bytes resident in memory at most."""
    with contextlib.suppress(OSError), open("/proc/self/status") as status:
        for line in status:
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    # On Linux this one starts at what the parent had, so it is only the second choice.
    import resource

    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def _cuda():
    torch = sys.modules.get("torch")
    return torch.cuda if torch is not None and torch.cuda.is_available() else None


def _gpu_peak() -> int:
    cuda = _cuda()
    return cuda.max_memory_allocated() if cuda else 0


def _wait_for_gpu() -> None:
    cuda = _cuda()
    if cuda:
        cuda.synchronize()


if __name__ == "__main__":
    raise SystemExit(main())
