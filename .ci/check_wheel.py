"""What a wheel must hold and what not: check_wheel.py FROM_SDIST.whl FROM_CHECKOUT.whl."""

import re
import sys
import zipfile
from email import message_from_bytes
from pathlib import Path


def contents(path: str) -> dict[str, bytes]:
    """Each file of a wheel but its list of files, whose order may differ."""
    with zipfile.ZipFile(path) as wheel:
        names = [name for name in wheel.namelist() if not name.endswith("/RECORD")]
        return {name: wheel.read(name) for name in names}


def expected() -> dict[str, bytes]:
    """The package and the folder properties of this checkout, by their places in the wheel."""
    here = Path(__file__).resolve().parents[1]
    endings = ("py", "html", "jinja", "yaml")
    code = [p for end in endings for p in (here / "recbole_evcf").rglob(f"*.{end}")]
    settings = [path for path in (here / "properties").rglob("*") if path.is_file()]
    return {
        **{path.relative_to(here).as_posix(): path.read_bytes() for path in code},
        **{
            f"recbole_evcf/{path.relative_to(here).as_posix()}": path.read_bytes()
            for path in settings
        },
    }


from_sdist, from_checkout = map(contents, sys.argv[1:])
assert from_sdist == from_checkout, "the source distribution builds another wheel"
about = {name: text for name, text in from_sdist.items() if ".dist-info/" in name}
inside = {name: text for name, text in from_sdist.items() if name not in about}
assert inside == expected(), sorted(inside.keys() ^ expected().keys())
assert any(name.endswith("/licenses/LICENSE") for name in about)
(text,) = (text for name, text in about.items() if name.endswith("/METADATA"))
metadata = message_from_bytes(text)
assert metadata["License-Expression"] == "MIT"
links = re.findall(r"\]\(([^)]*)\)", metadata.get_payload())
assert links, "the description has no links at all"
assert all(link.startswith("https://") for link in links), "links to files beside the README"
print(f"{len(inside)} files of the package, the same by way of the source distribution")
