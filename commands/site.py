"""The leaderboard as a site: what `export --html` and `tour` share."""

from __future__ import annotations

from pathlib import Path

from commands.output import announced, warn
from commands.registry import table_rows


def write_leaderboard(out: Path, registry: Path, data_root: Path) -> Path:
    """Write the site of a registry into a folder; its first page. Of data that are prepared, pages show images.

    Raises RegistryFileError if the folder holds anything else, or cannot be written to.
    """
    from benchmarks.leaderboard import leaderboard
    from results.registry import read_all
    from results.views.csv import to_csv
    from results.views.html import site, write_site

    with announced("reading the records and drawing the pages"):
        found = read_all(registry, lambda line: warn(str(line)))
        rows = table_rows([record for _, record in found], registry, all_benchmarks=True)
        board = leaderboard(found, registry, warn, data_root)
        write_site(site(board, to_csv(rows)), out)
    return out / "index.html"
