"""``recbole-evcf tune``: search for the settings of a model that are best on validation users."""

from __future__ import annotations

from typing import Any

from recbole_evcf.commands.common import (
    EXPECTED,
    exit_code,
    fail,
    fail_somewhere,
    put_words_aside,
    read_settings,
    remark_on,
    tell,
)
from recbole_evcf.commands.options import parse, split_files
from recbole_evcf.report.table import validation_and_test
from recbole_evcf.report.values import setting
from recbole_evcf.tuning.tuning import tune

__all__ = ["main"]


def main(arguments: list[str]) -> int:
    """Search; see :func:`recbole_evcf.cli.main` for arguments and exit code."""
    options, words = parse("tune", arguments)
    put_words_aside()
    given = vars(options) | {"config_files": split_files(options.config_files), "log": tell}
    try:
        settings: dict[str, Any] = dict(read_settings(words))
        found = tune(**given, **settings)
        page, best = found.report(), found.best
    except EXPECTED as error:
        return fail(error)
    # RecBole fails on a value of the wrong type only when it computes with it.
    except Exception as error:
        remark = remark_on(options.model, options.dataset, options.config_files, words)
        return fail_somewhere(error, remark)
    except KeyboardInterrupt as error:
        tell(f"\nStopped. Finished trials are in {options.output}: repeat the command to resume.")
        return exit_code(error)
    width = max(map(len, best["params"]))
    print(f"Best is trial {best['number']}:")
    for name, value in best["params"].items():
        print(f"{name:<{width}}  {setting(value)}")
    print(f"\n{validation_and_test(best['valid'], best['test']).text()}\n")
    command = f"recbole-evcf run --config_files={found.folder}/best.yaml"
    print(f"{command} trains it again; all trials are in {page}")
    return 0
