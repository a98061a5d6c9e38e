"""`tour`: a small network on small data, under the real one's name in a catalog of its own; and the real one."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from command_server import REPOSITORY, CommandServer, folders
from killed import read_record
from small_network import catalog_file

from commands.tour import BENCHMARK, EPOCHS
from results.record import from_bytes, pack_bits, seal, unpack_bits
from results.registry import write
from results.weights import packed_at

pytestmark = pytest.mark.slow
AS_ANOTHER_CATALOG = (
    "import sys, pathlib; from benchmarks.recipe import loading; loading.CATALOG = pathlib.Path(sys.argv.pop(1));"
    "import cli; cli.cli()"
)


@pytest.fixture(scope="module")
def catalog(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of the one benchmark, whose authors publish that they got all images wrong, and later hardly any."""
    root = tmp_path_factory.mktemp("catalog")
    published = {"file": f"{BENCHMARK}-validation.csv", "source": "a test"}
    target = {"test_error": "20.0", "provenance": "read", "source": "a test", "validation_errors": published}
    (root / "tests").mkdir()
    (root / "tests" / f"{BENCHMARK}.yaml").write_text(
        catalog_file(BENCHMARK, {"train": {"epochs": 2 * EPOCHS}}, target)
    )
    errors = "".join(f"{epoch},{100 if epoch == 1 else 0.5}\n" for epoch in range(1, 2 * EPOCHS + 1))
    (root / "tests" / published["file"]).write_text(f"epoch,valid_error\n{errors}")
    (root / "versions.csv").write_text("id,version,digest,test_error\n")
    return root


@pytest.fixture(scope="module")
def server(catalog: Path) -> Iterator[CommandServer]:
    with CommandServer(catalog) as server:
        yield server


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory, server: CommandServer, small_data_root: Path) -> Path:
    """A folder whose registry has a record with published weights, and no run."""
    home = tmp_path_factory.mktemp("home")
    elsewhere = str(home / "elsewhere")
    result = server.run(("reproduce", BENCHMARK, "--runs", elsewhere), folders(small_data_root, home))
    assert result.returncode == 0, result.stderr
    return home


def files_of(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_the_tour_measures_again_trains_beside_the_authors_and_says_what_is_next(server, home, small_data_root):
    environment = folders(small_data_root, home)
    registry = files_of(home / "registry")
    result = server.run(("tour",), environment)
    assert result.returncode == 0, result.stderr
    assert re.findall(r"^(\d)/4 (\S+): ", result.stdout, re.MULTILINE) == [
        ("1", "mnist-small"),
        ("2", BENCHMARK),
        ("3", BENCHMARK),
    ]
    assert len(re.findall(r"^  took \d+ s$", result.stdout, re.MULTILINE)) == 4
    assert "the authors' claim: 20.0 % test error (a test)" in result.stdout
    assert "images wrong); as recorded, image by image" in result.stdout
    assert re.search(r"verdict on this run: .* \(provisional\): .* against 20\.0 %", result.stdout)
    assert f"of the authors' run in 0 of {EPOCHS} epochs" in result.stdout
    assert "below 100.00 to 100.00 % of the authors' run" in result.stderr
    assert re.search(rf"cli\.py reproduce {BENCHMARK}: \d+ s here, measured; \d+ s as recorded on gluon", result.stdout)
    record = read_record(home / "runs")
    assert (len(record.curve.epoch), record.recipe.scoring) == (EPOCHS, False)
    assert files_of(home / "registry") == registry
    assert BENCHMARK in (home / "runs" / "leaderboard" / "index.html").read_text()

    again = server.run(("tour",), environment)
    assert (again.returncode, "epoch 1/" in again.stderr) == (0, False)
    assert "an earlier tour began this run" in again.stdout
    assert read_record(home / "runs") == record


def test_without_published_weights_there_is_no_tour(server, home, small_data_root, tmp_path):
    result = server.run(("tour", "--registry", str(tmp_path)), folders(small_data_root, home))
    assert result.returncode == 1
    assert f"error: no record of {BENCHMARK} in {tmp_path} has published weights" in result.stderr


def test_a_published_network_that_measures_otherwise_is_a_failure(server, home, small_data_root, tmp_path):
    """Beside a record that has as many images right, but others."""
    (path,) = (home / "registry" / "runs").glob("*/*.json")
    (weights,) = (home / "registry" / "weights").glob("*/*.safetensors")
    record = from_bytes(path.read_bytes(), path.name)
    images = record.results.declared.test_images
    right = unpack_bits(record.test_correct, images)
    right[[right.argmin(), right.argmax()]] = [True, False]
    forged = seal(msgspec.structs.replace(record, test_correct=pack_bits(right)))
    registry = tmp_path / "runs"
    write(forged, registry, packed_at(weights, weights.stat().st_size))
    result = server.run(("tour", "--registry", str(registry)), folders(small_data_root, home))
    assert result.returncode == 1, result.stderr
    assert (
        f"differs: 2 of {images:,} images come out otherwise, on the recorded engine, where none may" in result.stdout
    )


def test_ctrl_c_says_how_to_go_on_and_the_same_run_is_gone_on_with(catalog, server, home, small_data_root, tmp_path):
    environment = folders(small_data_root, home) | {"BNN_RUNS": str(tmp_path / "runs")}
    process = subprocess.Popen(
        [sys.executable, "-c", AS_ANOTHER_CATALOG, str(catalog), "tour"],
        env=os.environ | environment, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True, cwd=REPOSITORY,
    )  # fmt: skip
    assert process.stderr is not None
    while not process.stderr.readline().startswith("epoch 1/"):
        assert process.poll() is None
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate(timeout=600)
    assert process.returncode == 130
    assert re.search(r"^interrupted; go on with: .*cli\.py tour$", stderr, re.MULTILINE)
    result = server.run(("tour",), environment)
    assert result.returncode == 0, result.stderr
    assert read_record(tmp_path / "runs").restarts == 1


@pytest.mark.data
@pytest.mark.nightly
def test_the_tour_of_the_real_network(tmp_path):
    environment = os.environ | {"BNN_DATA": str(tmp_path / "data"), "BNN_RUNS": str(tmp_path / "runs")}
    command = [sys.executable, str(REPOSITORY / "cli.py"), "tour"]
    result = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    assert "(83 of 10,000 images wrong)" in result.stdout
    assert f"on track: validation error within two standard errors of the authors' run in {EPOCHS} of" in result.stdout
