"""What the tests of recbole_evcf.inspection look into: small networks with random weights."""

import torch

from build import build
from recbole_evcf.data.histories import Histories
from recbole_evcf.inspection.measures import LatentModel


def untrained(model: str, settings: dict, **more):
    """A recommender whose weights are large enough that everything differs, and its data.

    Returns:
        config, loaders, recommender, trainer, latent model, input histories, training user ids.
    """
    config, loaders, recommender, trainer = build(model, "tiny", {**settings, **more})
    for parameter in recommender.network.requires_grad_(False).parameters():
        parameter.add_(0.2 * torch.randn_like(parameter))
    histories = Histories.input_of(loaders[0]._dataset)
    users = Histories.from_dataset(loaders[0]._dataset).lengths.nonzero().squeeze(1)
    return config, loaders, recommender, trainer, LatentModel(recommender.network), histories, users
