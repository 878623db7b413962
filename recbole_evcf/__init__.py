"""Kim & Suh's VAEs for collaborative filtering (RecSys 2019) as a RecBole plugin.

Importing the package is enough: RecBole then knows the models, and runs on today's packages. The
names below are imported when they are first used.

>>> import recbole_evcf
>>> recbole_evcf.run("EASE", "ml-100k")["test_result"]["ndcg@10"] > 0.2
True
"""

from __future__ import annotations

import functools
import importlib
import os
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from recbole_evcf.comparison.compare import compare as compare
    from recbole_evcf.data.prepare import prepare as prepare
    from recbole_evcf.hooks.models import register_fold_in as register_fold_in
    from recbole_evcf.hooks.models import register_model as register_model
    from recbole_evcf.hooks.speedups import speed_up_recbole as speed_up_recbole
    from recbole_evcf.inspection.inspection import inspect_model as inspect_model
    from recbole_evcf.model.edlae import EDLAE as EDLAE
    from recbole_evcf.model.linear_path import GatedHVampLinear as GatedHVampLinear
    from recbole_evcf.model.models import GatedHVamp as GatedHVamp
    from recbole_evcf.model.models import GatedMultiVAE as GatedMultiVAE
    from recbole_evcf.model.models import GatedVamp as GatedVamp
    from recbole_evcf.model.models import HVamp as HVamp
    from recbole_evcf.model.models import Vamp as Vamp
    from recbole_evcf.model.wmf import WMF as WMF
    from recbole_evcf.serving.recommender import Recommender as Recommender
    from recbole_evcf.tuning.tuning import tune as tune

# The module of each lazily imported name.
_LAZY = {
    **dict.fromkeys(("GatedHVamp", "GatedMultiVAE", "GatedVamp", "HVamp", "Vamp"), "model.models"),
    "EDLAE": "model.edlae",
    "GatedHVampLinear": "model.linear_path",
    "WMF": "model.wmf",
    "Recommender": "serving.recommender",
    "compare": "comparison.compare",
    "prepare": "data.prepare",
    "inspect_model": "inspection.inspection",
    "register_fold_in": "hooks.models",
    "register_model": "hooks.models",
    "speed_up_recbole": "hooks.speedups",
    "tune": "tuning.tuning",
}

__all__ = ["__version__", "activate", "run", *_LAZY]


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    activate()
    value = getattr(importlib.import_module(f"recbole_evcf.{_LAZY[name]}"), name)
    # Later look-ups bypass this function.
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_LAZY})


@functools.cache
def activate() -> None:
    """Repair RecBole for today's packages and register the models, as importing the package does.

    Only the command ``recbole-evcf`` calls it later, once it has read its arguments.

    >>> import recbole_evcf
    >>> recbole_evcf.activate()
    """
    from recbole_evcf.hooks import fixes

    # Before any RecBole import: some faults are in its imports.
    fixes.repair()

    # Their imports change RecBole.
    from recbole_evcf.hooks import config, data, models, speedups, training  # noqa: F401

    # Set by the parent process.
    if os.environ.get(speedups.SPEED_UP):
        speedups.speed_up_recbole()


def run(
    model: str | None = None,
    dataset: str | None = None,
    config_files: str | Sequence[str] = (),
    **settings: Any,
) -> dict[str, Any] | None:
    """Train a model and evaluate it, as ``recbole-evcf run`` does.

    Args:
        model: name of a model of ours or of RecBole's; by default what the config files say, or
            GatedHVampLinear.
        dataset: name of a data set; by default what the config files say, or ml-100k.
        config_files: paths of YAML files, or names of shipped ones such as
            ``"protocol/strong_generalization"``.
        **settings: keys of RecBole's config and of the model, which override those of the files;
            and the command's options for several processes, such as ``nproc``.

    Returns:
        RecBole's ``best_valid_score``, ``valid_score_bigger``, ``best_valid_result`` and
        ``test_result``, and ``model_file``, the path of the trained model. None on all machines
        but the first.

    Raises:
        ValueError: a setting, a file or the data set is wrong.

    >>> import recbole_evcf
    >>> small = {"latent_dimension": 20, "mlp_hidden_size": [30]}
    >>> result = recbole_evcf.run("GatedHVamp", "ml-100k", epochs=1, **small)
    >>> sorted(result["test_result"])[:2]
    ['hit@10', 'mrr@10']
    """
    activate()
    from recbole_evcf import quick_start
    from recbole_evcf.config.keys import Role, with_role

    files = [config_files] if isinstance(config_files, str) else list(config_files)
    of_run = settings.keys() & with_role(Role.ARGUMENT_OF_RUN)
    processes = {key: settings.pop(key) for key in of_run}
    config, files, settings = quick_start.planned_run(model, dataset, files, settings)
    return quick_start.run(config["model"], config["dataset"], files, settings, **processes)


# Not in the command itself, as whose child a process inherits sys.argv, but not this.
_words = sys.orig_argv[1:3]
_names = ("recbole-evcf", "recbole-evcf.exe", "run_recbole_evcf.py")
if _words != ["-m", "recbole_evcf"] and os.path.basename([*_words, ""][0]) not in _names:
    activate()
