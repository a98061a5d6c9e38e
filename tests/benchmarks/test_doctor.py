"""The doctor, on real files, folders and processes."""

from __future__ import annotations

import importlib.metadata
import shutil
import sys
from pathlib import Path

import pytest

from benchmarks import doctor
from benchmarks.engine import ENGINES
from benchmarks.machine import environment
from benchmarks.machine.facts import usable_cores
from data_prep import DATASETS

BUILT_FOR = ["5.0", "6.0", "7.0", "8.0", "8.6"]


@pytest.mark.parametrize("capability", ["5.0", "5.2", "6.1", "7.0", "7.5", "8.0", "8.6", "8.7", "8.9"])
def test_code_runs_on_the_same_major_version(capability):
    assert doctor.has_code(capability, BUILT_FOR)


@pytest.mark.parametrize("capability", ["3.7", "9.0", "10.0", "10.3", "12.0"])
def test_code_runs_on_no_other_major_version(capability):
    assert not doctor.has_code(capability, BUILT_FOR)


def test_code_does_not_run_on_an_earlier_minor_version():
    assert not doctor.has_code("8.0", ["8.6"])


# -- GPUs, by a program that answers as nvidia-smi does ----------------------------------------------------------------


@pytest.fixture
def nvidia_smi(tmp_path, monkeypatch):
    """Put an nvidia-smi on PATH that prints these lines and ends with this exit code; torch is not installed."""
    monkeypatch.setattr(doctor, "installed_engines", lambda: ["gluon"])

    def install(*lines: str, exit_code: int = 0) -> None:
        folder = tmp_path / "bin"
        folder.mkdir()
        (folder / "answer").write_text("".join(f"{line}\n" for line in lines))
        program = folder / "nvidia-smi"
        program.write_text(f'#!/bin/sh\n/bin/cat "{folder / "answer"}"\nexit {exit_code}\n')
        program.chmod(0o755)
        monkeypatch.setenv("PATH", str(folder))

    return install


def test_no_gpu_is_normal(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    (finding,) = doctor.examine_gpus()
    assert (finding.status, finding.detail) == ("ok", "no NVIDIA GPU: runs use the CPU")


def test_driver_without_a_gpu(nvidia_smi):
    nvidia_smi()
    assert doctor.examine_gpus() == [doctor.NO_GPU]


def test_gpu_too_new(nvidia_smi):
    nvidia_smi("NVIDIA H100 80GB HBM3, 9.0, 550.54.15")
    (finding,) = doctor.examine_gpus()
    assert (finding.status, finding.mend) == ("warn", "use --engine torch")
    assert finding.detail == (
        "NVIDIA H100 80GB HBM3, compute capability 9.0, driver 550.54.15: engine gluon has no code for it,"
        " only for 5.0, 6.0, 7.0, 8.0, 8.6 and later minor versions"
    )


@pytest.mark.slow
def test_gpu_that_is_asked_for_in_vain(nvidia_smi):
    """It has the right capability, but is not there (or the installed mxnet has no GPU code): the engine says so."""
    nvidia_smi("NVIDIA GeForce RTX 4090, 8.9, 550.54.15")
    (finding,) = doctor.examine_gpus()
    assert finding.status == "warn"
    assert finding.detail.startswith("NVIDIA GeForce RTX 4090, compute capability 8.9, driver 550.54.15: engine gluon")
    assert "EngineError: device 'gpu':" in finding.detail


def test_one_finding_for_each_gpu(nvidia_smi):
    nvidia_smi("NVIDIA H100 PCIe, 9.0, 550.54.15", "NVIDIA B200, 10.0, 570.1")
    assert [finding.detail.partition(",")[0] for finding in doctor.examine_gpus()] == [
        "NVIDIA H100 PCIe",
        "NVIDIA B200",
    ]


@pytest.mark.parametrize(
    ("line", "exit_code"),
    [
        ("NVIDIA-SMI has failed because it couldn't communicate with the NVIDIA driver.", 9),
        ('Field "compute_cap" is not a valid field to query.', 2),
        ("NVIDIA A100, [N/A], 550.54.15", 0),
    ],
)
def test_nvidia_smi_without_an_answer(nvidia_smi, line, exit_code):
    nvidia_smi(line, exit_code=exit_code)
    (finding,) = doctor.examine_gpus()
    assert (finding.status, finding.mend) == ("warn", "update the NVIDIA driver")
    assert line[:20] in finding.detail


# -- engines -----------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_engine_that_works():
    finding = doctor.examine_engine("gluon")
    assert finding.status == "ok"
    assert f"mxnet {importlib.metadata.version('mxnet')}" in finding.detail
    assert "one training step done" in finding.detail


@pytest.mark.parametrize(
    ("version", "features", "build"),
    [
        ("2.13.0+cu130", ["CPU AVX512", "eager"], "GPU build with CPU AVX512;"),
        ("2.13.0+cpu", ["CPU AVX2", "eager"], "CPU build with CPU AVX2;"),
        ("2.13.0", ["CUDA", "torch.compile"], "GPU build with CUDA, torch.compile;"),
    ],
)
def test_a_build_for_gpus_is_called_one_where_it_computes_on_the_cpu(monkeypatch, version, features, build):
    monkeypatch.setattr(doctor, "installed_engines", lambda: ["torch"])
    monkeypatch.setattr(doctor, "_tried", lambda *_: ({"versions": {"torch": version}, "features": features}, ""))
    assert build in doctor.examine_engine("torch").detail


@pytest.mark.parametrize(
    ("program", "complaint", "mend"),
    [
        (
            "raise OSError('libgomp.so.1: cannot open shared object file: No such file or directory')",
            "libgomp.so.1: cannot open shared object file",
            "apt-get install libgomp1",
        ),
        (
            "raise OSError('libcuda.so.1: cannot open shared object file: No such file or directory')",
            "libcuda.so.1: cannot open shared object file",
            "install the NVIDIA driver, which brings it, or mxnet in place of its build for GPUs",
        ),
        (
            "raise ValueError('No threading layer could be loaded.')",
            "ValueError: No threading layer could be loaded.",
            "apt-get install libgomp1",
        ),
        (
            "import numpy\nraise AttributeError('module numpy has no attribute bool.\\nAn alias was removed.')",
            "AttributeError: module numpy has no attribute bool.",
            doctor.INSTALL,
        ),
        (
            "import atexit, sys\natexit.register(sys.stderr.write, '[1] MXNet starts\\n')\nraise OSError('this')",
            "OSError: this",
            doctor.INSTALL,
        ),
        ("raise OSError('`ulimit -v unlimited` does')", "`ulimit -v unlimited` does", "ulimit -v unlimited"),
        ("import os\nos.kill(os.getpid(), 9)", "crashed (SIGKILL)", doctor.INSTALL),
        ("import sys\nsys.exit(3)", "exit code 3", doctor.INSTALL),
    ],
)
def test_engine_that_cannot_be_loaded(tmp_path, monkeypatch, program, complaint, mend):
    (tmp_path / "mxnet.py").write_text(program)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    finding = doctor.examine_engine("gluon")
    assert finding.status == "fail"
    assert complaint in finding.detail
    assert "\n" not in finding.detail
    assert finding.mend == mend


# -- packages and threads ----------------------------------------------------------------------------------------------


def lock(path: Path, *lines: str) -> Path:
    path = path / "requirements.txt"
    path.write_text("\n".join(["# a comment", "", *lines]))
    return path


def test_lock_is_read_without_its_comments():
    assert doctor.read_lock(doctor.LOCKS["gluon"])["mxnet"] == "1.9.1"


def test_packages_as_locked(tmp_path):
    version = importlib.metadata.version("pytest")
    finding = doctor.examine_packages(lock(tmp_path, f"pytest=={version}  # the suite"))
    assert (finding.status, finding.detail) == ("ok", "1 as locked in requirements.txt")


def test_package_of_another_version(tmp_path):
    version = importlib.metadata.version("pytest")
    finding = doctor.examine_packages(lock(tmp_path, "pytest==0.0.1"))
    assert finding == doctor.Finding("packages", "warn", f"pytest is {version}, expected 0.0.1", doctor.INSTALL)


def test_package_that_is_missing(tmp_path):
    finding = doctor.examine_packages(lock(tmp_path, "no-such-package-anywhere==1.0"))
    assert finding == doctor.Finding("packages", "fail", "no-such-package-anywhere is missing", doctor.INSTALL)


def test_a_build_for_gpus_is_the_package(monkeypatch, tmp_path):
    monkeypatch.setitem(doctor.GPU_BUILDS, "no-such-package-anywhere", ("nor-this-one", "pytest"))
    version = importlib.metadata.version("pytest")
    assert doctor.examine_packages(lock(tmp_path, f"no-such-package-anywhere=={version}")).status == "ok"


@pytest.mark.parametrize(("load", "status"), [(0.9, "ok"), (1.0, "warn")])
def test_a_machine_that_is_busy_is_told(monkeypatch, load, status):
    monkeypatch.setattr(doctor.os, "getloadavg", lambda: (load * usable_cores(), 0.0, 0.0))
    assert doctor.examine_threads().status == status


def test_variables_that_could_change_numbers_are_told(monkeypatch):
    monkeypatch.setattr(environment, "_taken", {"OMP_THREAD_LIMIT": "1"})
    monkeypatch.setattr(environment, "_at_start", {"GLIBC_TUNABLES": "glibc.cpu.hwcaps=-AVX2", "LD_LIBRARY_PATH": "/"})
    finding = doctor.examine_environment()
    assert (finding.status, finding.mend) == ("warn", "unset OMP_THREAD_LIMIT GLIBC_TUNABLES")
    assert "not used by runs: OMP_THREAD_LIMIT=1; may change the last bits" in finding.detail


# -- folders, data, everything -----------------------------------------------------------------------------------------


def test_folder_that_is_not_there_yet_is_not_made(tmp_path):
    folder = tmp_path / "a" / "b"
    assert doctor.examine_folder("runs folder", folder, "--runs", needed=True).status in ("ok", "warn")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("needed", "status"), [(True, "fail"), (False, "warn")])
@pytest.mark.parametrize("below", ["", "deeper"])
def test_folder_that_is_a_file(tmp_path, needed, status, below):
    (tmp_path / "file").write_text("")
    finding = doctor.examine_folder("runs folder", tmp_path / "file" / below, "--runs", needed=needed)
    assert (finding.status, finding.mend) == (status, "name another with --runs DIR")
    assert finding.detail.endswith("cannot be written: Not a directory")


def test_data_folder_that_is_not_there_is_no_good_one(tmp_path):
    finding = doctor.examine_folder("data folder", tmp_path / "typo", "--data", needed=False)
    assert (finding.status, finding.mend) == ("warn", "python cli.py prepare mnist")
    assert finding.detail == f"{tmp_path / 'typo'} is not there: nothing is prepared"


def test_folder_that_nobody_can_write():
    """The kernel's own: no file can be made there, whoever asks."""
    finding = doctor.examine_folder("runs folder", Path("/proc/runs"), "--runs", needed=True)
    assert finding.status == "fail"
    assert "cannot be written" in finding.detail


def test_data_not_prepared(tmp_path):
    finding = doctor.examine_data("mnist", tmp_path, verify=True)
    assert finding == doctor.Finding("data mnist", "warn", "not prepared", "python cli.py prepare mnist")


def test_data_prepared(small_data_root):
    there = doctor.examine_data("mnist-small", small_data_root, verify=False)
    proved = doctor.examine_data("mnist-small", small_data_root, verify=True)
    assert (there.status, proved.status) == ("ok", "ok")
    assert "not proved" in there.detail
    assert proved.detail == "2,000 train, 200 valid, 200 test images; proved against its digest"


@pytest.mark.parametrize("verify", [False, True])
def test_data_damaged(tmp_path, small_data_root, verify):
    """Cut short it is never right; with one bit turned somewhere in the arrays only `verify` can know."""
    stored = small_data_root / "mnist-small.h5"
    content = bytearray(stored.read_bytes())
    if verify:
        content[len(content) // 2] ^= 1
    else:
        del content[len(content) // 2 :]
    (tmp_path / stored.name).write_bytes(content)
    finding = doctor.examine_data("mnist-small", tmp_path, verify)
    assert (finding.status, finding.mend) == ("fail", "python cli.py prepare mnist-small")
    assert "python cli.py" not in finding.detail


@pytest.mark.slow
def test_examine_names_everything_once(tmp_path, small_data_root, monkeypatch):
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}:/usr/bin:/bin")
    data_root = tmp_path / "data"
    shutil.copytree(small_data_root, data_root)
    (data_root / "cifar10-gcn_zca.h5").write_bytes(b"not HDF5")
    findings = {finding.name: finding for finding in doctor.examine(data_root, tmp_path / "runs")}
    engines, data = [f"engine {name}" for name in ENGINES], [f"data {name}" for name in DATASETS]
    data.insert(data.index("data cifar10") + 1, "data cifar10 gcn_zca")
    expected = [
        "python",
        "packages",
        *engines,
        "threads",
        "environment",
        "gpu",
        "data folder",
        *data,
        "runs folder",
        "provenance",
    ]
    assert list(findings) == expected
    assert findings["python"].status == "ok"
    assert findings["engine gluon"].status == "ok"
    assert findings["data mnist-small"].status == "ok"
    assert findings["data mnist"].mend == "python cli.py prepare mnist"
    stored = findings["data cifar10 gcn_zca"]
    assert (stored.status, stored.mend) == ("fail", "python cli.py prepare cifar10 --variant gcn_zca")
    assert list(tmp_path.iterdir()) == [data_root]
