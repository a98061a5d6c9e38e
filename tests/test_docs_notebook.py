"""The notebook of docs/: it runs, agrees with the table, and is kept without outputs."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

NOTEBOOK = Path(__file__).parents[1] / "docs" / "registry.ipynb"
CELLS = [cell for cell in json.loads(NOTEBOOK.read_text())["cells"] if cell["cell_type"] == "code"]


def test_it_is_kept_without_outputs():
    assert CELLS
    assert [cell["id"] for cell in CELLS if cell["outputs"] or cell["execution_count"] is not None] == []


@pytest.mark.slow
def test_it_reads_what_the_table_says(monkeypatch, tmp_path):
    import matplotlib

    monkeypatch.chdir(NOTEBOOK.parent)
    monkeypatch.setattr(sys, "path", sys.path[:])
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))  # the index of the registry
    names = {}
    with matplotlib.rc_context({"backend": "Agg"}):
        for cell in CELLS:
            exec(compile("".join(cell["source"]), f"{NOTEBOOK}: {cell['id']}", "exec"), names)  # noqa: S102
    table, key, seeds = names["table"], names["group"].key, names["seeds"]
    is_group = table["engine"].str.startswith(key.engine) & (table["precision"] == key.precision)
    (row,) = table[is_group & (table["benchmark"] == key.benchmark)].to_dict("records")
    assert len(seeds) == row["runs"]
    assert seeds.mean() == pytest.approx(row["test_error"], abs=6e-4)
    assert seeds.std() == pytest.approx(row["seed_deviation"], abs=6e-4)
    assert len(names["runs"]) == len(names["records"]) == len(names["entries"])
    assert list(names["curves"].columns) == list(seeds.index)
    assert names["axes"].lines[-1].get_ydata()[0] == row["target"]
