"""``recbole-evcf tune``: search for the settings of a model that are best on validation users."""

from __future__ import annotations

from dataclasses import fields

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
from recbole_evcf.commands.run import result_table
from recbole_evcf.report.table import setting
from recbole_evcf.tuning.tuning import SearchOptions, Tuning, finish_search

__all__ = ["main"]


def main(arguments: list[str]) -> int:
    """Search; see :func:`recbole_evcf.cli.main` for arguments and exit code."""
    options, words = parse("tune", arguments)
    put_words_aside()
    names = [each.name for each in fields(SearchOptions)]
    try:
        found = finish_search(
            options.model,
            options.dataset,
            options.params_file,
            options.output,
            split_files(options.config_files),
            read_settings(words),
            SearchOptions(**{name: getattr(options, name) for name in names}),
            tell,
        )
        print(_best_text(found, found.report()))
    except EXPECTED as error:
        return fail(error)
    # RecBole fails on a value of the wrong type only when it computes with it.
    except Exception as error:
        remark = remark_on(options.model, options.dataset, options.config_files, words)
        return fail_somewhere(error, remark)
    except KeyboardInterrupt as error:
        tell(f"\nStopped. Finished trials are in {options.output}: repeat the command to resume.")
        return exit_code(error)
    return 0


def _best_text(found: Tuning, page: str) -> str:
    best = found.best
    width = max(map(len, best["params"]))
    lines = [f"{name:<{width}}  {setting(value)}" for name, value in best["params"].items()]
    table = result_table({"best_valid_result": best["valid"], "test_result": best["test"]})
    return (
        f"Best is trial {best['number']}:\n"
        + "\n".join(lines)
        + f"\n\n{table}\n\nrecbole-evcf run --config_files={found.folder}/best.yaml trains it "
        + f"again; all trials are in {page}"
    )
