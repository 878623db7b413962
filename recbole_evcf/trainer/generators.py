"""The states of the random generators that training draws from, and draws apart from them."""

import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import torch

from recbole_evcf.trainer.checkpoint import from_plain, to_plain


@contextmanager
def drawing_apart(seed: int, device: str | torch.device = "cpu") -> Iterator[None]:
    """Make torch draw from a seed in the block, on the CPU and a device, and then as before."""
    device = torch.device(device)
    gpus: list[int] = []
    if device.type == "cuda":
        gpus = [torch.cuda.current_device() if device.index is None else device.index]
    with torch.random.fork_rng(gpus):
        # torch.manual_seed would seed every GPU, and with it whoever is training on one meanwhile.
        for generator in [
            torch.default_generator,
            *(torch.cuda.default_generators[i] for i in gpus),
        ]:
            generator.manual_seed(seed)
        yield


def generator_states(loaders: Sequence) -> dict:
    """Return the states of all generators, those of RecBole's dataloaders (or None) too, as what a
    checkpoint can hold."""
    return {
        "python": to_plain(random.getstate()),
        "numpy": to_plain(np.random.get_state()),
        "torch": torch.get_rng_state(),
        # Of several processes each draws the same numbers from a GPU of its own.
        "cuda": [torch.cuda.get_rng_state()] if torch.cuda.is_available() else [],
        "loaders": [loader.generator.get_state() if loader else None for loader in loaders],
    }


def set_generator_states(states: dict, loaders: Sequence) -> None:
    """Restore :func:`generator_states`, on the current GPU."""
    random.setstate(from_plain(states["python"]))
    np.random.set_state(from_plain(states["numpy"]))
    torch.set_rng_state(states["torch"].cpu())
    if states["cuda"] and torch.cuda.is_available():
        # Earlier files have those of all GPUs, the one that was drawn from first.
        torch.cuda.set_rng_state(states["cuda"][0].cpu())
    for loader, state in zip(loaders, states["loaders"]):
        if loader and state is not None:
            loader.generator.set_state(state.cpu())
