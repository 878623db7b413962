"""What the command ``app`` does: a page, and an HTTP API, to look at recommendations."""

import argparse
import logging
from collections import Counter
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from recbole_evcf import quick_start
from recbole_evcf.app.viewer import DataSetUsers, Viewer
from recbole_evcf.commands.options import tell
from recbole_evcf.data.histories import Histories
from recbole_evcf.inspection.inspection import item_names
from recbole_evcf.serving.recommender import Recommender
from recbole_evcf.serving.user_histories import counted, data_set_users


def main(options: argparse.Namespace, words: list[str]) -> None:
    """Serve the page until Ctrl-C."""
    for package in ("fastapi", "uvicorn"):
        if find_spec(package) is None:
            raise ValueError(f'app needs the package {package}: pip install ".[app]"')
    from recbole_evcf.app.server import LOCAL, listen, serve

    only_local = options.host in LOCAL
    with listen(options.host, options.port) as server_socket:
        viewer = viewer_of(options.model_file, options.dataset)
        host, port = server_socket.getsockname()[:2]
        address = f"http://{f'[{host}]' if ':' in host else host}:{port}"
        about = viewer.about()
        print(
            f"{counted(len(about['models']), 'model')}, {counted(about['items'], 'item')}: ", end=""
        )
        print(f"{address} (Ctrl-C ends it)", flush=True)
        if not only_local:
            tell("recbole-evcf: whoever reaches this machine can open it: there is no password.")
        # The usual end of this command.
        options.remark = None
        serve(viewer, server_socket, only_local)


def viewer_of(model_files: Sequence[str], dataset: str | None = None) -> Viewer:
    """Load models for the page, with the titles in the ``.item`` files of their data sets.

    Args:
        model_files: paths of trained models that can score a user from a history.
        dataset: name of a data set that one of them was trained on, whose users can be picked, with
            that model's split of it.

    Raises:
        ValueError: a file is given twice, or cannot be used; or no model is of the data set.
    """
    paths = [str(Path(path).resolve()) for path in model_files]
    if len(set(paths)) < len(paths):
        raise ValueError("--model_file names a file twice.")
    loaded = {path: Recommender.load(path) for path in model_files}
    configs = {path: recommender.model.config for path, recommender in loaded.items()}
    of_data_set = [path for path in model_files if configs[path]["dataset"] == dataset]
    if dataset is not None and not of_data_set:
        known = ", ".join(sorted({config["dataset"] for config in configs.values()}))
        raise ValueError(f"--dataset={dataset}: none of the models was trained on it, but {known}.")
    times = Counter(config["model"] for config in configs.values())
    models: dict[str, Recommender] = {}
    titles: dict[str, str] = {}
    for path, config in configs.items():
        name = config["model"]
        name = name if times[name] == 1 else Path(path).stem
        # Files of one name in several folders.
        models[path if name in models else name] = loaded[path]
        found = item_names(config)
        titles |= {} if found is None else {**found.to_dict(), **titles}
    users = _users(of_data_set[0], loaded[of_data_set[0]]) if of_data_set else None
    return Viewer(models, titles, users)


def _users(model_file: str, recommender: Recommender) -> DataSetUsers:
    # RecBole logs the settings and the data set.
    logging.disable(logging.INFO)
    try:
        dataset, *loaders = quick_start.load_data_of(model_file, recommender.model)
    finally:
        logging.disable(logging.NOTSET)
    known: Any = data_set_users(*loaders[:2])
    parts = [Histories.from_dataset(each._dataset).matrix()[1:] for each in loaders[1:]]
    held_out = parts[0].maximum(parts[1])
    # What is shown to a model cannot be found by it.
    held_out = held_out - held_out.minimum(known.histories)
    held_out.eliminate_zeros()
    items = dataset.field2id_token[dataset.iid_field][1:]
    return DataSetUsers(known.users, items, known.histories, held_out)
