"""What a preparation did, as numbers and as text."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from recbole_evcf.data.prepare.counting import MIN_INTERACTIONS, MIN_RATING, Counts

__all__ = ["Report", "format_report"]


@dataclass(frozen=True)
class Report:
    """What a preparation did.

    Attributes:
        kind: Which preparation it was.
        folder: The folder of the data set.
        rows: How many interactions each file written holds.
        counts: What the published filter leaves; of a ready-made split, the whole.
        published: What the literature says the filter leaves; None for a ready-made split.
        warnings: Sentences about what looks odd and was passed on as it is.
    """

    kind: str
    folder: Path
    rows: dict[str, int]
    counts: Counts
    published: Counts | None = None
    warnings: tuple[str, ...] = ()


def format_report(report: Report) -> str:
    """Put a report into lines of text.

    Args:
        report: What a preparation returned.

    Returns:
        The text, without a newline at the end.
    """
    lines = [f"{report.folder}: prepared from {report.kind}"]
    lines += [f"  {file}: {count:,} interactions" for file, count in report.rows.items()]
    if report.published is None:
        lines.append("in all:")
    else:
        lines.append(
            f"after the published filter (rating >= {MIN_RATING:g}, "
            f"users with >= {MIN_INTERACTIONS} such ratings):"
        )
    for what in ("interactions", "users", "items"):
        line = f"  {what} {getattr(report.counts, what):,}"
        if report.published is not None:
            line += compare(getattr(report.counts, what), getattr(report.published, what))
        lines.append(line)
    lines += [f"warning: {warning}" for warning in report.warnings]
    return "\n".join(lines)


def compare(count: int, published: int) -> str:
    """How a count stands to the published one, in brackets."""
    verdict = "equal" if count == published else f"differs by {count - published:+,}"
    return f" (published {published:,}: {verdict})"
