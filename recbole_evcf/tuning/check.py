"""What is wrong with a search, said before anything is trained."""

from __future__ import annotations

from recbole_evcf.comparison.plan import SHARED
from recbole_evcf.config.finished import finished_config
from recbole_evcf.config.keys import Role, checked, with_role
from recbole_evcf.config.names import check_keys_of_model
from recbole_evcf.tuning.params_file import Parameter
from recbole_evcf.utils.text import shortened

__all__ = ["check_limits", "check_parameters"]

ALGORITHMS = ("exhaustive", "random", "bayes")

# With other values of these, trials could not be compared with each other, or not be kept.
COMMON_TO_ALL = {*SHARED, *with_role(Role.NOT_TUNED)}


def check_limits(
    parameters: list[Parameter], algo: str, max_evals: int | None, early_stop: int | None
) -> None:
    """Check the way of searching.

    Raises:
        ValueError: the algorithm is unknown or cannot search this space, or a number is wrong.
    """
    if algo not in ALGORITHMS:
        raise ValueError(f"--algo must be one of {', '.join(ALGORITHMS)}, not {algo!r}.")
    for name, value in (("max_evals", max_evals), ("early_stop", early_stop)):
        if value is not None and value < 1:
            raise ValueError(f"--{name} must be at least 1, not {value}.")
    if algo != "exhaustive":
        if max_evals is None:
            raise ValueError(f"--algo={algo} has no end of its own: say how many --max_evals.")
        return
    endless = [parameter.name for parameter in parameters if parameter.kind != "choice"]
    if endless:
        raise ValueError(
            f"--algo=exhaustive tries every choice, and {', '.join(endless)} is no choice: write "
            "choices into the params file, or search with --algo=random or --algo=bayes."
        )


def check_parameters(config, parameters: list[Parameter], params_file: str, fixed) -> None:
    """Check a search space against the config that all trials share.

    Args:
        config: RecBole's ``Config``.
        parameters: the search space.
        params_file: its name, for the error.
        fixed: keys that the command line sets.

    Raises:
        ValueError: a parameter is unknown, is set elsewhere, or has a value that the model does
            not take; the seed is none; or the trials would not be validated.
    """
    for key in ("epochs", "eval_step"):
        value = config[key]
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise ValueError(
                f"{key} must be a whole number of at least 1, not {shortened(repr(value))}: "
                "validation finds the best trial."
            )
    checked("seed", config["seed"])
    if config["resume"] or config["resumable"]:
        raise ValueError(
            "resume is no setting of a search: the same command goes on with it, and keeps the "
            "trials that are done."
        )
    for parameter in parameters:
        name = parameter.name
        try:
            check_keys_of_model(config, [name])
        except ValueError as error:
            raise ValueError(f"{params_file}: {error}") from None
        if name in COMMON_TO_ALL:
            raise ValueError(
                f"{params_file}: {name} cannot be tuned; it is the same in all trials."
            )
        if name in fixed:
            raise ValueError(f"{name} stands in {params_file} and on the command line.")
        _check_values(config, parameter, params_file)


def _check_values(config, parameter: Parameter, params_file: str) -> None:
    for value in parameter.extremes():
        settings = {**config.external_config_dict, parameter.name: value}
        try:
            finished_config(config["model"], config["dataset"], [], settings)
        except ValueError as error:
            raise ValueError(
                f"{params_file}, {parameter.name} = {shortened(str(value))}: {error}"
            ) from None
