"""Tiny raw files, written and read back without the code under test."""

import re
import zipfile
from datetime import datetime, timezone
from pathlib import Path

PRO_SG = {
    "train.csv": "uid,sid\n0,10\n0,2\n1,2\n1,33\n2,10\n2,7\n",
    "validation_tr.csv": "uid,sid\n3,33\n3,2\n4,7\n",
    "validation_te.csv": "uid,sid\n3,10\n",
    "test_tr.csv": "uid,sid\n5,10\n5,2\n6,7\n6,10\n",
    "test_te.csv": "uid,sid\n5,33\n6,2\n",
}
ATOMIC = ("train", "valid_fold_in", "valid_target", "test_fold_in", "test_target")
ATOMIC_NAMES = dict(zip(PRO_SG, ATOMIC))
RATINGS = (
    "userId,movieId,rating,timestamp\n"
    "1,2,3.5,1112486027\n"
    "1,29,4.0,1112484676\n"
    "138493,131262,0.5,0\n"
    "7,2,5,1255816373\n"
)
MOVIES = (
    "movieId,title,genres\n"
    "2,Jumanji (1995),Adventure|Children\n"
    '29,"City of Lost Children, The (Cité des enfants perdus, La) (1995)",Sci-Fi\n'
    '131262,"""Great Performances""\tCats\t (1998)",(no genres listed)\n'
)
NETFLIX = {
    "combined_data_1.txt": (
        "1:\n1488844,3,2005-09-06\n822109,5,2005-05-13\n2:\n885013,4,1999-11-11\n"
    ),
    "combined_data_10.txt": "30:\n7,1,2004-02-29\n",
    "combined_data_2.txt": "3:\n4:\n1488844,4,1970-01-01\n5:\n",
    "movie_titles.csv": "1,2003,Dinosaur Planet\n2,NULL,7 Seconds, or \u00e9t\u00e9\n",
}
FILES = {
    "pro_sg": {name: text.encode() for name, text in PRO_SG.items()},
    "ml-20m": {"ratings.csv": RATINGS.encode(), "movies.csv": MOVIES.encode()},
    "netflix": {name: text.encode("latin-1") for name, text in NETFLIX.items()},
}


def write_files(folder: Path, files: dict[str, str | bytes]) -> Path:
    """Write texts or bytes to a folder, which is made."""
    folder.mkdir(parents=True)
    for name, content in files.items():
        raw = content if isinstance(content, bytes) else content.encode()
        (folder / name).write_bytes(raw)
    return folder


def write_zip(path: Path, files: dict[str, str | bytes]) -> Path:
    """Write texts or bytes to a zip archive."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return path


def everything_under(folder: Path) -> list[str]:
    """All files and folders below a folder."""
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


def written_rows(path: Path) -> list[list[str]]:
    """Read the rows of an atomic file."""
    return [line.split("\t") for line in path.read_text(encoding="utf-8").splitlines()[1:]]


def expected_rows(kind: str, files: dict[str, bytes]) -> dict[str, list[list[str]]]:
    """Read raw files without the code under test, by the suffix of the file they become."""
    if kind == "pro_sg":
        parts = ATOMIC_NAMES.items()
        return {f"{part}.inter": columns_of(files[name], ["uid", "sid"]) for name, part in parts}
    if kind == "ml-20m":
        columns = ["userId", "movieId", "rating", "timestamp"]
        return {"inter": columns_of(files["ratings.csv"], columns)}
    names = [name for name in files if name.startswith("combined_data_")]
    names.sort(key=lambda name: int(re.sub("[^0-9]", "", name)))
    return {"inter": [row for name in names for row in netflix_rows(files[name])]}


def raw_lines(content: bytes) -> list[str]:
    lines = re.split("\r\n|\r|\n", content.decode("latin-1"))
    return lines if lines[-1] else lines[:-1]


def columns_of(content: bytes, columns: list[str]) -> list[list[str]]:
    header, *rows = (line.split(",") for line in raw_lines(content))
    return [[row[header.index(column)] for column in columns] for row in rows]


def netflix_rows(content: bytes) -> list[list[str]]:
    rows, movie = [], ""
    for line in raw_lines(content):
        if line.rstrip(",").endswith(":"):
            movie = line.rstrip(",")[:-1]
            continue
        customer, rating, day = line.split(",")
        moment = datetime.strptime(day, "%Y-%m-%d").replace(tzinfo=timezone.utc)
        rows.append([customer, movie, rating, f"{moment.timestamp():.0f}"])
    return rows
