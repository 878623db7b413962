"""``recbole-evcf tune``: search for the settings of a model that are best on validation users."""

import argparse
from typing import Any

from recbole_evcf.commands.options import read_settings, split_files, tell
from recbole_evcf.report.table import setting, validation_and_test
from recbole_evcf.tuning.tuning import tune

# What options have for the command line alone.
OF_COMMANDS = ("command", "command_line", "remark")


def main(options: argparse.Namespace, words: list[str]) -> None:
    """Search for the best settings of a model."""
    options.remark = f". Finished trials are in {options.output}: repeat the command to resume."
    given = {name: value for name, value in vars(options).items() if name not in OF_COMMANDS}
    given |= {"config_files": split_files(options.config_files), "log": tell}
    settings: dict[str, Any] = dict(read_settings(words))
    if "log" in settings:
        raise ValueError("There is no setting 'log'.")
    found = tune(**given, **settings)
    page, best = found.report(), found.best
    width = max(map(len, best["params"]))
    print(f"Best is trial {best['number']}:")
    for name, value in best["params"].items():
        print(f"{name:<{width}}  {setting(value)}")
    print(f"\n{validation_and_test(best['valid'], best['test']).text()}\n")
    command = f"recbole-evcf run --config_files={found.folder}/best.yaml"
    print(f"{command} trains it again; all trials are in {page}")
