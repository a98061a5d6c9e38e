"""The leaderboard as a site: what `export --html` and `tour` share."""

from __future__ import annotations

from pathlib import Path

from commands.output import warn
from commands.registry import records_of, table_rows


def write_leaderboard(out: Path, registry: Path, data_root: Path) -> Path:
    """Write the site of a registry into a folder; its first page. Of data that are prepared, pages show images.

    Raises RegistryFileError if the folder holds anything else, or cannot be written to.
    """
    from benchmarks.leaderboard import leaderboard
    from results.views.csv import to_csv
    from results.views.html import site, write_site

    board = leaderboard(registry, lambda line: warn(str(line)), data_root)
    rows = table_rows(records_of(registry), registry, all_benchmarks=True)
    write_site(site(board, to_csv(rows)), out)
    return out / "index.html"
