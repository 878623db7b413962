"""Write the user guide's tables of config keys from the table of keys: python docs/key_tables.py"""

from __future__ import annotations

import re
from importlib import resources
from pathlib import Path

import yaml

from recbole_evcf.config.files import shipped_file
from recbole_evcf.config.keys import KEYS, Role, with_role
from recbole_evcf.model.models import NETWORKS

GUIDE = Path(__file__).parent / "user-guide.md"
FULL = ("key", "type", "default", "range", "meaning")


def shipped(name: str) -> dict:
    """The settings of a shipped file."""
    return yaml.safe_load(shipped_file(name).read_text(encoding="utf-8"))


def defaults(model: str) -> dict[str, str]:
    return {key: shown(value) for key, value in shipped(f"model/{model}").items()}


def shown(value: object) -> str:
    return "none" if value is None else f"`{value}`"


def defaults_of_our_models() -> dict[str, str]:
    """Each default; where the models differ, which have the second."""
    gated = ", ".join(f"`{m.__name__}`" for m in NETWORKS if m.__name__.startswith("Gated"))
    first, second = defaults("Vamp"), defaults("GatedVamp")
    return {
        key: value if second[key] == value else f"{value}; {second[key]} in {gated}"
        for key, value in first.items()
    }


def defaults_of_recbole() -> dict[str, str]:
    text = resources.files("recbole").joinpath("properties/overall.yaml").read_text("utf-8")
    values = yaml.safe_load(text)
    return {key: shown(int(v) if key == "gpu_id" else v) for key, v in values.items()}


def table(names: tuple[str, ...], values: dict[str, str], columns: tuple[str, ...] = FULL) -> str:
    """A Markdown table with a row for each key."""
    lines = [columns, ["---"] * len(columns)]
    for name in names:
        key = KEYS[name]
        cells = {
            "key": f"`{name}`",
            "type": key.values.type if key.values else "dict",
            "default": values.get(name, "none"),
            "range": key.values.range if key.values else "none",
            "meaning": key.help,
        }
        lines.append([cells[column] for column in columns])
    return "\n".join(re.sub(" +", " ", f"| {' | '.join(line)} |") for line in lines)


def tables() -> dict[str, str]:
    """The guide's tables by the names in its markers."""
    ours = Role.OF_OUR_MODELS | Role.OF_WMF | Role.OF_PLUGIN | Role.RECBOLES_WITH_OUR_DEFAULT
    recboles = defaults_of_recbole()
    others = (
        name for name, key in KEYS.items() if name in recboles and key.help and not key.roles & ours
    )
    edlae, wmf = (
        (*with_role(role), "train_neg_sample_args") for role in (Role.OF_EDLAE, Role.OF_WMF)
    )
    no_range = ("key", "type", "default", "meaning")
    return {
        "of the models": table(with_role(Role.OF_OUR_MODELS), defaults_of_our_models()),
        "with other defaults": table(
            with_role(Role.RECBOLES_WITH_OUR_DEFAULT), defaults_of_our_models()
        ),
        "of GatedHVampLinear": table(with_role(Role.OF_LINEAR_PATH), defaults("GatedHVampLinear")),
        "of EDLAE": table(edlae, defaults("EDLAE")),
        "of WMF": table(wmf, defaults("WMF")),
        "of the plugin": table(with_role(Role.OF_PLUGIN), {}, no_range),
        "of RecBole": table(tuple(others), recboles, ("key", "default", "meaning")),
    }


def with_tables(text: str) -> str:
    """The guide with each table between its markers written from the table of keys."""
    for name, rows in tables().items():
        start, end = f"<!-- keys {name} -->", f"<!-- end of keys {name} -->"
        before, _, rest = text.partition(start)
        _, marker, after = rest.partition(end)
        assert marker, f"{GUIDE.name} has no markers {start} ... {end}"
        text = f"{before}{start}\n\n{rows}\n\n{end}{after}"
    return text


if __name__ == "__main__":
    GUIDE.write_text(with_tables(GUIDE.read_text(encoding="utf-8")), encoding="utf-8")
