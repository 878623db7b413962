"""The files that come with the package."""

import pytest

from recbole_evcf.config import files
from recbole_evcf.config.files import properties_path, shipped_file, shipped_yaml


def test_by_name_with_or_without_the_ending():
    expected = properties_path() / "model" / "Vamp.yaml"
    assert expected.is_file()
    for name in ("model/Vamp", "model/Vamp.yaml", "model/../model/Vamp"):
        assert shipped_yaml(name).resolve() == expected


@pytest.mark.parametrize(
    "kind", ["model/../../{}", "../{}", "{folder}/{}", "linked/{}", "model/\0{}"]
)
def test_names_stay_in_the_folder(tmp_path, monkeypatch, kind):
    (tmp_path / "properties" / "model").mkdir(parents=True)
    (tmp_path / "outside.yaml").write_text("a: 1\n", encoding="utf-8")
    (tmp_path / "properties" / "linked").symlink_to(tmp_path)
    monkeypatch.setattr(files, "properties_path", lambda: tmp_path / "properties")
    name = kind.format("outside", folder=tmp_path)
    assert shipped_file(name, ".yaml") is None
