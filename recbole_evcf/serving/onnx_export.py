"""A model as an ONNX file: from a multi-hot history to the scores of all items."""

from __future__ import annotations

import copy
import json
import logging
import warnings

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from recbole_evcf import __version__
from recbole_evcf.model.recommender import VAERecommender
from recbole_evcf.serving.recommender import Recommender
from recbole_evcf.utils.files import atomic_write

__all__ = ["INPUT", "OUTPUT", "export_onnx"]

INPUT, OUTPUT = "history", "scores"
# The first that has what RecBole's linear layers and ours become.
OPSET = 18
# An ONNX file is one Protocol Buffers message, which cannot be larger.
MAX_BYTES = 2**31 - 1
# RecBole's autoencoders that score a user from the row of the history matrix alone.
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
        path: the file, whole or absent.

    Raises:
        ValueError: the model is another one, a package is missing or the file would be too large.
    """
    onnx = _onnx()
    model = recommender.model
    network = _network(model)
    network = _Scores(network, recommender.scores_without_history())
    # A copy, since the recommender may go on working on a GPU.
    wrapped = copy.deepcopy(network).cpu().eval()
    _check_size(path, wrapped)
    program = _exported(wrapped, len(recommender.item_tokens))
    properties = {
        "item_tokens": json.dumps(recommender.item_tokens.tolist(), ensure_ascii=False),
        "model": type(model).__name__,
        "recbole_evcf": __version__,
    }
    onnx.helper.set_model_props(program, properties)
    onnx.checker.check_model(program)
    with atomic_write(path) as temporary:
        onnx.save_model(program, temporary)


def _onnx():
    try:
        import onnx
        import onnxscript  # noqa: F401  (PyTorch's exporter needs it)
    except ImportError as error:
        raise ValueError(
            f"the export needs the package {error.name}, which is missing: "
            "pip install onnx onnxscript"
        ) from None
    return onnx


def _check_size(path: str, network: nn.Module) -> None:
    size = sum(
        each.numel() * each.element_size()
        for name, each in network.named_parameters()
        # The prior takes no part in scoring and does not come along.
        if ".prior" not in name
    )
    if size > MAX_BYTES:
        raise ValueError(f"{path} would hold {size / 2**30:.1f} GiB; an ONNX file holds 2 at most.")


def _network(model: nn.Module) -> nn.Module:
    """From binary histories, (batch, items), to scores."""
    if isinstance(model, VAERecommender):
        return _Ours(model.network)
    if type(model).__name__ in AUTOENCODERS:
        return _RecBoles(model)
    raise ValueError(
        f"{type(model).__name__} cannot be exported: only the paper's models and RecBole's "
        f"{', '.join(AUTOENCODERS)} are a network from a history to scores."
    )


class _Scores(nn.Module):
    def __init__(self, network: nn.Module, prior: Tensor):
        super().__init__()
        self.network = network
        self.register_buffer("prior", prior)

    def forward(self, history: Tensor) -> Tensor:
        binary = (history > 0).to(history.dtype)
        known = binary.amax(1, keepdim=True) > 0
        return torch.where(known, self.network(binary), self.prior)


class _Ours(nn.Module):
    def __init__(self, network: nn.Module):
        super().__init__()
        self.network = network

    def forward(self, binary: Tensor) -> Tensor:
        return self.network.output(self.network.last_hidden(_DenseHistory(binary)))


class _DenseHistory:
    """A batch of histories as a dense matrix, which the encoders take as well."""

    def __init__(self, binary: Tensor):
        self._binary = binary

    def normalized(self) -> Tensor:
        return self._binary * self._binary.sum(1, keepdim=True).clamp(min=1).rsqrt()


class _RecBoles(nn.Module):
    def __init__(self, model: nn.Module):
        super().__init__()
        self.model = model

    def forward(self, binary: Tensor) -> Tensor:
        # RecBole's networks have a column for the padding item, and RecVAE asks for its dropout.
        padded = F.pad(binary, (1, 0))
        arguments = (0.0,) if type(self.model).__name__ == "RecVAE" else ()
        scores = self.model(padded, *arguments)
        return (scores[0] if isinstance(scores, tuple) else scores)[:, 1:]


def _exported(network: nn.Module, n_items: int):
    example = torch.zeros(2, n_items)
    example[:, 0] = 1
    batch = torch.export.Dim("batch")
    quiet = logging.getLogger("torch.onnx")
    level = quiet.level
    quiet.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), torch.no_grad():
            # Of PyTorch's own making, and none that a user could heed.
            warnings.simplefilter("ignore")
            program = torch.onnx.export(
                network,
                (example,),
                dynamo=True,
                input_names=[INPUT],
                output_names=[OUTPUT],
                dynamic_shapes=({0: batch},),
                opset_version=OPSET,
                verbose=False,
            )
    finally:
        quiet.setLevel(level)
    return program.model_proto
