"""What tells two results apart: settings with an effect, seeds, data, versions and device."""

from __future__ import annotations

import copy
import json
import os

import recbole
from recbole.config import Config
from recbole.data import create_dataset

from recbole_evcf import __version__
from recbole_evcf.data.digest import digest_of_files, file_digest
from recbole_evcf.trainer.checkpoint import plain_config
from recbole_evcf.trainer.effective_settings import effective_settings
from recbole_evcf.utils.text import one_line

__all__ = ["VERSIONS", "digest_of_data", "identity"]

VERSIONS = {"recbole_evcf": __version__, "recbole": recbole.__version__}
# What LDiffRec reads beside the atomic files, under a name without the data set's.
EMBEDDINGS = "item_emb.npy"


def identity(config: Config, data: str, **seeds: int) -> dict:
    """All that the result of a run depends on, as JSON's types.

    Args:
        config: of the run, before anything is loaded: RecBole writes into it.
        data: see :func:`digest_of_data`.
        seeds: ``seed`` and ``split_seed``, where the run has others than the config.
    """
    settings = effective_settings(plain_config(config))
    settings.update(device=config["device"].type, data=data, versions=VERSIONS, **seeds)
    # As it comes back from a file: a tuple is a list there.
    return json.loads(json.dumps(settings, default=str))


def digest_of_data(config: Config) -> str:
    """Of the bytes of a data set's files: new data under an old name are other data.

    Data sets that RecBole knows are downloaded.

    Raises:
        ValueError: there are no data, nor can they be downloaded.
    """
    if not os.path.isdir(config["data_path"]):
        _download(config)
    digest, embeddings = digest_of_files(config), os.path.join(config["data_path"], EMBEDDINGS)
    return f"{digest} {file_digest(embeddings)}" if os.path.isfile(embeddings) else digest


def _download(config: Config) -> None:
    """RecBole downloads the data sets that it knows when it meets them first."""
    try:
        # Of a copy: loading writes into the config, and the next plan would not do it.
        create_dataset(copy.deepcopy(config))
    except Exception as error:
        raise ValueError(one_line(error)) from error
