"""Texts that tell data apart."""

import hashlib
from pathlib import Path

from recbole_evcf.data.digest import file_digest


def test_the_digest_of_a_file():
    Path("x").write_bytes(b"\0" * 3_000_000)
    assert file_digest("x") == hashlib.sha256(b"\0" * 3_000_000).hexdigest()
