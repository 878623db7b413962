"""Which settings decide what a run finds, and by which two runs are told apart."""

from __future__ import annotations

from collections.abc import Mapping

__all__ = ["WITHOUT_EFFECT", "differences", "effective_settings"]

# They say where and how a run tells of itself, not what it finds.
WITHOUT_EFFECT = {
    "checkpoint_dir",
    "config_file",
    "data_path",
    "dataloaders_save_path",
    "dataset_save_path",
    "gpu_id",
    "ip",
    "log_wandb",
    "nproc",
    "offset",
    "per_user_file",
    "port",
    "save_dataloaders",
    "save_dataset",
    "show_progress",
    "standard_error",
    "state",
    "wandb_project",
    "world_size",
}


def effective_settings(settings: Mapping) -> dict:
    """Those of a ``plain_config`` that have an effect on the result."""
    return {key: value for key, value in settings.items() if key not in WITHOUT_EFFECT}


def differences(first: Mapping, second: Mapping) -> list[str]:
    """The keys that have not the same value in both, sorted."""
    absent = object()
    keys = first.keys() | second.keys()
    return sorted(key for key in keys if first.get(key, absent) != second.get(key, absent))
