"""Export a model to ONNX: from a multi-hot history to the scores of all items."""

import copy
import json
import logging
import warnings
from types import SimpleNamespace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from recbole_evcf import __version__
from recbole_evcf.model.edlae import EDLAE
from recbole_evcf.model.linear_path import GatedHVampLinear
from recbole_evcf.model.recommender import VAERecommender
from recbole_evcf.serving.recommender import Recommender
from recbole_evcf.utils.files import atomic_write

INPUT, OUTPUT = "history", "scores"
# The first opset that covers RecBole's linear layers and ours.
OPSET = 18
# RecBole's autoencoders that score a user from the history row alone, and further arguments.
AUTOENCODERS: dict[str, tuple] = {"MultiVAE": (), "MultiDAE": (), "RecVAE": (0.0,)}


def export_onnx(recommender: Recommender, path: str) -> None:
    """Write a model as one ONNX file, for ONNX Runtime and others.

    The graph has the input ``history``, (batch, items) in single precision, where anything above 0
    is an interaction, and the output ``scores``, (batch, items): those of
    :meth:`recbole_evcf.Recommender.recommend`, the items of the history included. A row
    without an interaction gets the prior's. The number of rows is free. The metadata property
    ``item_tokens`` holds the items' original names in the order of the columns, as a JSON list.

    Args:
        recommender: of one of our VAEs, of EDLAE, or of RecBole's MultiVAE, MultiDAE or RecVAE.
        path: the file, written atomically.

    Raises:
        ValueError: the model is another one, a package is missing or the file would exceed 2 GB.
    """
    try:
        import onnx
        import onnxscript  # noqa: F401  (PyTorch's exporter needs it)
    except ImportError as error:
        raise ValueError(
            f"the export needs the package {error.name}, which is missing: "
            "pip install onnx onnxscript"
        ) from None
    name = type(recommender.model).__name__
    if not isinstance(recommender.model, (VAERecommender, EDLAE)) and name not in AUTOENCODERS:
        raise ValueError(
            f"{name} cannot be exported: only the VAEs and EDLAE of this package and RecBole's "
            f"{', '.join(AUTOENCODERS)} can."
        )
    # A copy, since the recommender may stay on a GPU.
    network = copy.deepcopy(_Network(recommender)).cpu().eval()
    with warnings.catch_warnings(), torch.no_grad():
        # PyTorch's own, none of which a user could act on.
        warnings.simplefilter("ignore")
        logging.getLogger("torch.onnx._internal.exporter").setLevel(logging.ERROR)
        exported: Any = torch.onnx.export(
            network,
            (torch.eye(2, len(recommender.item_tokens)),),
            dynamo=True,
            input_names=[INPUT],
            output_names=[OUTPUT],
            dynamic_shapes=({0: torch.export.Dim("batch")},),
            opset_version=OPSET,
            verbose=False,
        )
    tokens = json.dumps(recommender.item_tokens.tolist(), ensure_ascii=False)
    properties = {"item_tokens": tokens, "model": name, "recbole_evcf": __version__}
    program = exported.model_proto
    onnx.helper.set_model_props(program, properties)
    onnx.checker.check_model(program)
    with atomic_write(path) as temporary:
        onnx.save_model(program, temporary)


class _Network(nn.Module):
    """Maps histories, (batch, items), to scores; to the prior's for an empty history."""

    prior: Tensor

    def __init__(self, recommender: Recommender) -> None:
        super().__init__()
        self.model = recommender.model
        self.register_buffer("prior", recommender.scores_without_history)

    def forward(self, history: Tensor) -> Tensor:
        binary = (history > 0).to(history.dtype)
        total = binary.sum(1, keepdim=True)
        if isinstance(self.model, VAERecommender):
            # The encoders take dense rows too.
            normalized = binary * total.clamp(min=1).rsqrt()
            batch: Any = SimpleNamespace(normalized=lambda: normalized)
            network = self.model.network
            scores = network.output(network.last_hidden(batch))
            if isinstance(self.model, GatedHVampLinear):
                items = self.model.linear_items
                known = binary if items is None else binary[:, items]
                sums = self.model.spread(known @ self.model.item_weights)
                scores = scores + self.model.linear_weight * sums
        elif isinstance(self.model, EDLAE):
            scores = binary @ self.model.item_weights
        else:
            # RecBole's networks have a padding column.
            more = AUTOENCODERS[type(self.model).__name__]
            scores = self.model(F.pad(binary, (1, 0)), *more)
            scores = (scores[0] if isinstance(scores, tuple) else scores)[:, 1:]
        return torch.where(total > 0, scores, self.prior)
