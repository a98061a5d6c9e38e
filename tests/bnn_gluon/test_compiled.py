from __future__ import annotations

import os
from pathlib import Path

import bnn_gluon


def test_what_is_compiled_is_kept_by_the_content_of_all_files(tmp_path):
    (tmp_path / "a.py").write_text("x = 1")
    (tmp_path / "b.py").write_text("y = 1")
    before = bnn_gluon.compiled_folder(tmp_path)
    assert bnn_gluon.compiled_folder(tmp_path) == before
    (tmp_path / "b.py").write_text("y = 2")
    assert bnn_gluon.compiled_folder(tmp_path) != before


def test_and_of_constants_from_elsewhere(tmp_path):
    constants = tmp_path / "constants.py"
    constants.write_text("x = 1")
    before = bnn_gluon.compiled_folder(tmp_path / "package", constants)
    constants.write_text("x = 2")
    assert bnn_gluon.compiled_folder(tmp_path / "package", constants) != before


def test_numba_is_told_of_it():
    assert os.environ["NUMBA_CACHE_DIR"] == str(
        bnn_gluon.compiled_folder(Path(bnn_gluon.__file__).parent, bnn_gluon.CONSTANTS)
    )
