"""doctor: what works on this machine, and which command mends what does not.

Nothing that is examined is imported here: packages are asked for their version only, and each engine is tried in a
process of its own, so that a crash while it loads is a finding like any other.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import json
import logging
import os
import platform
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, Literal

import msgspec

from benchmarks.engine import ENGINES, PACKAGES, installed_engines, open_engine
from benchmarks.errors import CodeError
from benchmarks.machine import environment
from benchmarks.machine.facts import Gpu, GpuError, has_code, list_gpus, usable_cores
from benchmarks.paths import REPOSITORY
from benchmarks.recipe import load_recipe
from benchmarks.run.provenance import code_version, name_files

# Engine -> the file with the versions that it is tested with.
LOCKS = {"gluon": REPOSITORY / "requirements.txt", "torch": REPOSITORY / "requirements-torch.txt"}
INSTALL = PACKAGES["gluon"][1]
# This code needs at least 3.11, and numpy 1.23.5, which mxnet 1.9.1 needs, has no wheels for 3.12.
PYTHON = (3, 11)
# A run of a large network (37 M weights, each with two moments, in a checkpoint that is written beside the one before;
# and the weights of the declared epoch, likewise) takes more than half of it.
LEAST_FREE_BYTES = 2 * 2**30
ENGINE_SECONDS = 300
# Packages that stand for a locked one: the same with code for GPUs (docs/gpu.md).
GPU_BUILDS = {"mxnet": ("mxnet-cu117", "mxnet-cu116", "mxnet-cu112")}


class Finding(msgspec.Struct, frozen=True):
    """One thing that was looked at. `mend` is the command or option that helps, if anything does."""

    name: str
    status: Literal["ok", "warn", "fail"]
    detail: str
    mend: str | None = None


NO_GPU = Finding("gpu", "ok", "no NVIDIA GPU: runs use the CPU")


def examine(data_root: Path, runs_root: Path, *, verify: bool = False) -> list[Finding]:
    """Look at everything that a run needs, in the order in which it needs it.

    Args:
        data_root, runs_root: the folders of data and runs; neither need exist.
        verify: also read all prepared data and prove them against their digests.
    """
    import data_prep

    return [
        examine_python(),
        examine_packages(LOCKS["torch" if installed_engines() == ["torch"] else "gluon"]),
        *(examine_engine(name) for name in ENGINES),
        examine_threads(),
        examine_environment(),
        *examine_gpus(),
        examine_folder("data folder", data_root, "--data", needed=False),
        *(examine_data(name, data_root, verify, variant) for name, variant in data_prep.with_variants(data_root)),
        examine_folder("runs folder", runs_root, "--runs", needed=True),
        examine_provenance(),
    ]


# -- Python and packages -----------------------------------------------------------------------------------------------


def examine_python() -> Finding:
    """Whether this Python is the one that the locked packages are for; with torch alone, it may be a later one."""
    detail = f"{platform.python_version()} on {platform.system()} {platform.machine()}"
    if sys.version_info[:2] == PYTHON or (sys.version_info[:2] > PYTHON and installed_engines() == ["torch"]):
        return Finding("python", "ok", detail)
    wanted = ".".join(map(str, PYTHON))
    return Finding(
        "python", "fail", f"{detail}: expected {wanted}", f"python{wanted} -m venv .venv && .venv/bin/{INSTALL}"
    )


def read_lock(path: Path) -> dict[str, str]:
    """The versions that a requirements file pins, by package name."""
    pins = (line.partition("#")[0].strip().partition("==") for line in path.read_text().splitlines())
    return {name: version for name, _, version in pins if version}


def examine_packages(lock: Path) -> Finding:
    """Whether every locked package is installed, in its locked version."""
    pins, missing, different = read_lock(lock), [], []
    for name, version in pins.items():
        installed = next(filter(None, map(_version_of, (name, *GPU_BUILDS.get(name, ())))), None)
        if installed is None:
            missing.append(f"{name} is missing")
        elif installed.partition("+")[0] != version:  # "2.13.0+cpu" is a build of 2.13.0
            different.append(f"{name} is {installed}, expected {version}")
    if not missing + different:
        return Finding("packages", "ok", f"{len(pins)} as locked in {lock.name}")
    mend = f"python -m pip install -r {lock.name}"
    return Finding("packages", "fail" if missing else "warn", ", ".join(missing + different), mend)


def _version_of(package: str) -> str | None:
    """The version of an installed package."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


# -- engines and what they compute on ----------------------------------------------------------------------------------


def try_engine(name: str, device: str, notices: int) -> None:
    """Train a small network for one step and print what the engine says of itself, as one line of JSON.

    This is what a process of its own does; on any error it ends with exit code 1, and the line says what it was. What
    the engine says before it takes long goes to the file descriptor `notices`.
    """
    try:
        import numpy as np

        logging.getLogger("bnn_gluon").addHandler(logging.StreamHandler(os.fdopen(notices, "w")))
        recipe = load_recipe("binaryconnect-mnist", ["model.architecture=8FC-10FC"])
        engine = open_engine(name, recipe.model, recipe.image_shape, seed=0, device=device, compile="off")
        engine.train_step(np.zeros((4, *recipe.image_shape), np.float32), np.zeros(4, np.int64), lr=0.001)
    except Exception as error:  # whatever it is, it is what to report
        cause = error.__cause__ or error  # what made the engine refuse says more here than "see doctor"
        # On standard error frameworks may still say something of their own when they end.
        print(json.dumps({"complaint": f"{type(cause).__name__}: {str(cause).partition(chr(10))[0]}"}))
        sys.exit(1)
    print(json.dumps(engine.describe()))


def _tried(name: str, device: str) -> tuple[dict[str, Any] | None, str]:
    """What an engine says of itself once it has trained for a step, or None and why it cannot."""
    with open(os.dup(2), "w") as notices:
        program = f"from benchmarks.doctor import try_engine; try_engine({name!r}, {device!r}, {notices.fileno()})"
        try:
            result = subprocess.run(
                [sys.executable, "-W", "ignore", "-c", program],
                check=False,
                cwd=REPOSITORY,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=ENGINE_SECONDS,
                pass_fds=[notices.fileno()],
            )
        except subprocess.TimeoutExpired:
            return None, f"did not finish one training step in {ENGINE_SECONDS} s"
    if result.returncode < 0:
        return None, f"crashed ({signal.Signals(-result.returncode).name})"
    if result.returncode > 0:
        said = [json.loads(line)["complaint"] for line in result.stdout.splitlines() if line.startswith('{"complaint"')]
        return None, [f"exit code {result.returncode}", *result.stderr.strip().splitlines(), *said][-1]
    described: dict[str, Any] = json.loads(result.stdout.splitlines()[-1])
    return described, ""


def examine_engine(name: str) -> Finding:
    """Whether an engine computes on the CPU, and how it was built. One of the two is enough."""
    installed = installed_engines()
    if name not in installed:
        mend = PACKAGES[name][1]
        return Finding(f"engine {name}", "ok" if installed else "fail", "not installed", None if installed else mend)
    described, complaint = _tried(name, "cpu")
    if described is None:
        return Finding(f"engine {name}", "fail", complaint, _mend_engine(complaint, name))
    versions = ", ".join(f"{package} {version}" for package, version in described["versions"].items())
    # Whether runs compile their steps is not what this one step shows, which is not compiled.
    features = [feature for feature in described["features"] if feature != "eager"]
    has_cuda = "CUDA" in features or re.search(r"\+cu\d", described["versions"].get("torch", ""))
    build = f"{'GPU' if has_cuda else 'CPU'} build with {', '.join(features)}"
    return Finding(f"engine {name}", "ok", f"{versions}; {build}; one training step done")


def _mend_engine(complaint: str, name: str) -> str:
    """A shared library that the system lacks is, by Debian's rules, in the package of its name and version."""
    library = re.search(r"(lib[\w+]+)\.so\.(\d+): cannot open", complaint)
    if library and library[1] == "libcuda":
        return "install the NVIDIA driver, which brings it, or mxnet in place of its build for GPUs"
    if library:
        return f"apt-get install {library[1]}{library[2]}"
    if "ulimit -v" in complaint:
        return "ulimit -v unlimited"
    if "No threading layer" in complaint:  # what numba says where libgomp.so.1 is absent
        return "apt-get install libgomp1"
    return PACKAGES[name][1]


def examine_threads() -> Finding:
    """How many threads runs use, and whether something else uses the cores already."""
    cores = usable_cores()
    detail = f"runs use {cores} threads, one for each usable core"
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0  # Windows has none
    if load < cores:
        return Finding("threads", "ok", detail)
    return Finding(
        "threads", "warn", f"{detail}, but the load is {load:.1f}: they would share them", "pass --threads N to a run"
    )


def examine_environment() -> Finding:
    """Whether variables are set that would change numbers, were they not taken out."""
    ignored, factors = environment.taken_out(), environment.bit_factors()
    factors.pop("environment LD_LIBRARY_PATH", None)  # CUDA's libraries may be found through it: docs/gpu.md
    still_there = [f"{name.partition(' ')[2]}={value}" for name, value in factors.items() if " " in name]
    if not ignored + still_there:
        return Finding("environment", "ok", "no variable is set that could change a number")
    parts = {"not used by runs": ignored, "may change the last bits, and is recorded": still_there}
    detail = "; ".join(f"{what}: {', '.join(variables)}" for what, variables in parts.items() if variables)
    return Finding(
        "environment", "warn", detail, f"unset {' '.join(v.partition('=')[0] for v in ignored + still_there)}"
    )


def examine_gpus() -> list[Finding]:
    """Which GPUs there are, as nvidia-smi tells, and which engine can use them. To have none is normal."""
    try:
        gpus = list_gpus()
    except GpuError as error:
        return [Finding("gpu", "warn", f"{error}: runs use the CPU", "update the NVIDIA driver")]
    return [_gpu(gpu, engine) for gpu in gpus for engine in installed_engines()] or [NO_GPU]


def _gpu(gpu: Gpu, engine: str) -> Finding:
    detail = f"{gpu.name}, compute capability {gpu.capability}, driver {gpu.driver}"
    try:
        # Torch knows by itself.
        built_for = getattr(importlib.import_module(ENGINES[engine]), "GPU_CAPABILITIES", (gpu.capability,))
    except ImportError as error:
        return Finding("gpu", "warn", f"{detail}: engine {engine} cannot be loaded: {error}", INSTALL)
    if not has_code(gpu.capability, built_for):
        detail = (
            f"{detail}: engine {engine} has no code for it, only for {', '.join(built_for)} and later minor versions"
        )
        return Finding("gpu", "warn", detail, "use --device cpu" if engine == "torch" else "use --engine torch")
    described, complaint = _tried(engine, "gpu")
    if described is None:
        return Finding("gpu", "warn", f"{detail}: engine {engine} cannot use it: {complaint}", "use --device cpu")
    return Finding("gpu", "ok", f"{detail}; engine {engine} has done one training step on it")


# -- folders, data, provenance -----------------------------------------------------------------------------------------


def examine_folder(name: str, folder: Path, option: str, *, needed: bool) -> Finding:
    """Whether files can be written into a folder, which is tried where it is or would be made, and how many.

    A folder that is not `needed`, the data folder, is only of use if it is there.
    """
    existing = next(path for path in (folder, *folder.absolute().parents) if os.path.exists(path))
    try:
        with tempfile.TemporaryFile(dir=existing):
            free = shutil.disk_usage(existing).free
    except OSError as error:
        detail = f"{folder} cannot be written: {error.strerror}"
        return Finding(name, "fail" if needed else "warn", detail, f"name another with {option} DIR")
    if not needed and not folder.exists():
        return Finding(name, "warn", f"{folder} is not there: nothing is prepared", "python cli.py prepare mnist")
    detail = f"{folder}, {free / 2**30:.1f} GiB free"
    if free < LEAST_FREE_BYTES:
        mend = f"free some space, or name another with {option} DIR"
        return Finding(name, "warn", f"{detail}: expected {LEAST_FREE_BYTES / 2**30:.0f} GiB", mend)
    return Finding(name, "ok", detail)


def examine_data(dataset: str, root: Path, verify: bool, variant: str | None = None) -> Finding:
    """Whether a data set, or a variant of it, is prepared and, with `verify`, whether what is stored is intact."""
    import data_prep

    name, mend = f"data {dataset}", f"python cli.py prepare {dataset}"
    if variant is not None:
        name, mend = f"{name} {variant}", f"{mend} --variant {variant}"
    try:
        prepared = data_prep.status(dataset, root, variant)
        if prepared is None:
            return Finding(name, "warn", "not prepared", mend)
        if verify:
            data_prep.check(dataset, root, variant)
    except data_prep.DamagedDataError as error:
        return Finding(name, "fail", error.reason, mend)
    except (data_prep.DataError, OSError) as error:
        return Finding(name, "fail", str(error), mend)
    except ImportError as error:
        return Finding(name, "fail", f"cannot be read: {error}", INSTALL)
    images = ", ".join(f"{count:,} {split}" for split, count in prepared.counts.items())
    proof = "proved against its digest" if verify else "there, not proved (--verify does)"
    return Finding(name, "ok", f"{images} images; {proof}")


def examine_provenance(repository: Path = REPOSITORY) -> Finding:
    """Whether a record can name the code that made it."""
    name = "provenance"
    try:
        code = code_version(repository)
    except CodeError as error:
        return Finding(name, "fail", str(error))
    if code.commit is None:
        return Finding(name, "warn", f"{code.note}: records cannot say which code made them", code.mend)
    changed = f", changed since: {name_files(code.changed)}: records will say so" if code.dirty else ""
    return Finding(name, "ok", f"commit {code.commit[:12]}{changed}")
