"""docs/add-a-benchmark.md, followed step by step in a copy of the checkout: every block of it is used as it stands."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from command_server import folders
from docs_blocks import ROOT, blocks

# All of the page in order, by what is done with each; a new block needs a name here, and a use.
(
    LOOK, NEW, ENTRY, TARGET, CURVE, VALIDATE, REFUSED, WORD, GLUON, GLUON_FUNCTION, TORCH, TORCH_FUNCTION, EXPLAIN,
    SHOW, GLUON_TEST, TORCH_TEST, FORMULAS, TESTS, QUICK_LOOK, RUN, VERSIONS, PUBLISH,
) = blocks(ROOT / "docs" / "add-a-benchmark.md")  # fmt: skip
FILE = "benchmarks/catalog/dorefa/dorefa-lenet5-mnist.yaml"
# What a command that trains is given too, so that it takes seconds.
SMALL = (
    "--limit-train 200 --set data.dataset=mnist-small --set data.valid_images=100 "
    "--set model.architecture=4C5v-MP2-6C5v-MP2-12FC-10FC"
)


class Copy:
    """A copy of the checkout, in which blocks of the page are carried out or written where the page says."""

    def __init__(self, root: Path, data: Path, home: Path) -> None:
        skipped = shutil.ignore_patterns("__pycache__")
        for path in ROOT.iterdir():
            if path.is_dir() and not path.name.startswith(".") and path.name not in {"data", "runs", "build"}:
                shutil.copytree(path, root / path.name, ignore=skipped)
            elif path.suffix in {".ini", ".py", ".md", ".toml", ".txt"}:
                shutil.copy(path, root)
        (home / "python").write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
        (home / "pytest").write_text(f'#!/bin/sh\nexec "{sys.executable}" -m pytest "$@"\n')
        for program in ("python", "pytest"):
            (home / program).chmod(0o755)
        self.root = root
        registry = {"BNN_REGISTRY": str(root / "results" / "runs")}  # the copy's own
        self._environment = os.environ | folders(data, home) | registry | {"PATH": f"{home}:{os.environ['PATH']}"}
        for name in ("PYTEST_XDIST_WORKER", "PYTEST_ADDOPTS"):
            self._environment.pop(name, None)

    def run(self, script: str, exit_code: int = 0) -> str:
        """Standard output and error of a script, which must end with the exit code."""
        command = ["bash", "-e", "-c", script]
        result = subprocess.run(
            command, cwd=self.root, env=self._environment, capture_output=True, text=True, timeout=600, check=False
        )
        assert result.returncode == exit_code, f"{script}\n{result.stdout}\n{result.stderr}"
        return result.stdout + result.stderr

    def insert(self, file: str, pattern: str, text: str) -> None:
        """Put the text behind the one place that the pattern finds."""
        path = self.root / file
        content = path.read_text()
        (place,) = re.finditer(pattern, content, re.MULTILINE)
        path.write_text(content[: place.end()] + text + content[place.end() :])

    def append(self, file: str, text: str) -> None:
        with (self.root / file).open("a") as stream:
            stream.write(f"\n\n{text}")


@pytest.fixture(scope="module")
def copy(tmp_path_factory, small_data_root):
    """The page up to the commands that need an engine."""
    copy = Copy(tmp_path_factory.mktemp("checkout"), small_data_root, tmp_path_factory.mktemp("home"))
    file = copy.root / FILE
    copy.run(LOOK.text)
    copy.run(NEW.text)
    assert "TODO" in file.read_text()
    file.write_text(ENTRY.text)
    assert copy.run(VALIDATE.text, exit_code=2) == REFUSED.text

    shutil.copy(file.parents[1] / "rwth" / "rwth-lenet5-mnist-binary-validation.csv", file.parent)
    file.write_text(ENTRY.text.replace("target: null\n", TARGET.text + CURVE.text))
    assert copy.run(VALIDATE.text, exit_code=2) == REFUSED.text
    file.write_text(ENTRY.text)

    copy.insert("benchmarks/recipe/words.py", r'^    "model\.weights": \(\n', WORD.text)
    for engine, word, function in (("gluon", GLUON, GLUON_FUNCTION), ("torch", TORCH, TORCH_FUNCTION)):
        copy.insert(f"bnn_{engine}/quantize.py", r"^QUANTIZERS: .*\{\n", word.text)
        copy.append(f"bnn_{engine}/quantize.py", function.text)
    copy.append("tests/bnn_gluon/test_quantize.py", GLUON_TEST.text)
    copy.append("tests/bnn_torch/test_torch_quantize.py", TORCH_TEST.text)
    (copy.root / "tests" / "bnn_torch" / "test_dorefa.py").write_text(FORMULAS.text)
    return copy


@pytest.mark.slow
def test_a_benchmark_with_a_new_word_is_accepted(copy):
    assert "nothing is wrong" in copy.run(VALIDATE.text)
    copy.run(EXPLAIN.text)
    assert "**mean_scaled**" in (copy.root / "docs" / "settings.md").read_text()
    assert "real-2xmean_scaled-real" in copy.run(SHOW.text)
    versions = f"{VERSIONS.text.strip()} -n 0 -k as_it_is_published"
    (line,) = set(re.findall(r"add to versions\.csv the line (dorefa-\S+)", copy.run(versions, exit_code=1)))
    copy.append("benchmarks/catalog/versions.csv", line)
    copy.run(versions)
    copy.run(PUBLISH.text)


@pytest.mark.nightly
def test_the_new_word_trains(copy):
    """The numbers checked by hand, and each command that trains or measures, made small."""
    by_hand, catalog = TESTS.command_lines
    copy.run(f"{re.sub(r'tests/bnn_torch/[^ ]+', '', by_hand)} -k mean_scaled")
    copy.run(f"{catalog}/recipe/test_words.py -n 0")
    for command in QUICK_LOOK.command_lines + RUN.command_lines:
        few = "--repeats 1 --steps 2" if " bench " in command else "--epochs 1"
        assert "dorefa" in copy.run(f"{command} {SMALL} {few} --engine gluon")


@pytest.mark.torch
@pytest.mark.slow
def test_both_engines_follow_the_formulas(copy):
    found = copy.run(f"{TESTS.command_lines[0]} -k 'mean_scaled or formulas'")
    assert "skipped" not in found  # as they are, both files, where torch is not installed
