"""Export a model to ONNX: from a multi-hot history to the scores of all items."""

from __future__ import annotations

import copy
import json
import logging
import warnings
from typing import Any

import torch
import torch.nn.functional as F
from recbole.model.abstract_recommender import GeneralRecommender
from torch import Tensor, nn

from recbole_evcf import __version__
from recbole_evcf.model.recommender import VAERecommender
from recbole_evcf.serving.recommender import Recommender
from recbole_evcf.utils.files import atomic_write

__all__ = ["INPUT", "OUTPUT", "export_onnx"]

INPUT, OUTPUT = "history", "scores"
# The first opset that covers RecBole's linear layers and ours.
OPSET = 18
# An ONNX file is one Protocol Buffers message, which has this size limit.
MAX_BYTES = 2**31 - 1
# RecBole's autoencoders that score a user from the history row alone.
AUTOENCODERS = ("MultiVAE", "MultiDAE", "RecVAE")


def export_onnx(recommender: Recommender, path: str) -> None:
    """Write a model as one ONNX file, for ONNX Runtime and others.

    The graph has the input ``history``, (batch, items) in single precision, where anything above 0
    is an interaction, and the output ``scores``, (batch, items): those of
    :meth:`recbole_evcf.Recommender.recommend`, the items of the history included. A row
    without an interaction gets the prior's. The number of rows is free. The metadata property
    ``item_tokens`` holds the items' original names in the order of the columns, as a JSON list.

    Args:
        recommender: of one of the paper's models, or of RecBole's MultiVAE, MultiDAE or RecVAE.
        path: the file, written atomically.

    Raises:
        ValueError: the model is another one, a package is missing or the file would be too large.
    """
    try:
        import onnx
        import onnxscript  # noqa: F401  (PyTorch's exporter needs it)
    except ImportError as error:
        raise ValueError(
            f"the export needs the package {error.name}, which is missing: "
            "pip install onnx onnxscript"
        ) from None
    model = recommender.model
    # A copy, since the recommender may stay on a GPU.
    network = copy.deepcopy(_Network(model, recommender.scores_without_history())).cpu().eval()
    # Scoring does not use the prior, so it is not written.
    written = [each for name, each in network.named_parameters() if ".prior" not in name]
    size = sum(each.numel() * each.element_size() for each in written)
    if size > MAX_BYTES:
        raise ValueError(f"{path} would hold {size / 2**30:.1f} GiB; an ONNX file holds 2 at most.")
    program = _exported(network, len(recommender.item_tokens))
    properties = {
        "item_tokens": json.dumps(recommender.item_tokens.tolist(), ensure_ascii=False),
        "model": type(model).__name__,
        "recbole_evcf": __version__,
    }
    onnx.helper.set_model_props(program, properties)
    onnx.checker.check_model(program)
    with atomic_write(path) as temporary:
        onnx.save_model(program, temporary)


class _Network(nn.Module):
    """Map histories, (batch, items), to scores; the prior's scores for an empty history."""

    prior: Tensor

    def __init__(self, model: GeneralRecommender, prior: Tensor) -> None:
        super().__init__()
        ours = isinstance(model, VAERecommender)
        self._name = type(model).__name__
        if not ours and self._name not in AUTOENCODERS:
            raise ValueError(
                f"{self._name} cannot be exported: only the paper's models and RecBole's "
                f"{', '.join(AUTOENCODERS)} are a network from a history to scores."
            )
        self.network = model.network if ours else model
        self.register_buffer("prior", prior)

    def forward(self, history: Tensor) -> Tensor:
        binary = (history > 0).to(history.dtype)
        known = binary.amax(1, keepdim=True) > 0
        return torch.where(known, self._scores(binary), self.prior)

    def _scores(self, binary: Tensor) -> Tensor:
        network: Any = self.network
        if self._name not in AUTOENCODERS:
            return network.output(network.last_hidden(_DenseHistory(binary)))
        # RecBole's networks have a padding column, and RecVAE takes its dropout as an argument.
        scores = network(F.pad(binary, (1, 0)), *((0.0,) if self._name == "RecVAE" else ()))
        return (scores[0] if isinstance(scores, tuple) else scores)[:, 1:]


class _DenseHistory:
    """A dense batch of histories, which the encoders also accept."""

    def __init__(self, binary: Tensor) -> None:
        self._binary = binary

    def normalized(self) -> Tensor:
        return self._binary * self._binary.sum(1, keepdim=True).clamp(min=1).rsqrt()


def _exported(network: nn.Module, n_items: int) -> Any:
    example = torch.zeros(2, n_items)
    example[:, 0] = 1
    quiet = logging.getLogger("torch.onnx")
    level = quiet.level
    quiet.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), torch.no_grad():
            # PyTorch's own warnings, none of which a user could act on.
            warnings.simplefilter("ignore")
            program: Any = torch.onnx.export(
                network,
                (example,),
                dynamo=True,
                input_names=[INPUT],
                output_names=[OUTPUT],
                dynamic_shapes=({0: torch.export.Dim("batch")},),
                opset_version=OPSET,
                verbose=False,
            )
    finally:
        quiet.setLevel(level)
    return program.model_proto
