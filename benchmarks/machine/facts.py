"""Facts of the machine that a run's record and `doctor` state."""

from __future__ import annotations

import math
import os
import platform
import re
import resource
import shutil
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

CPUINFO = Path("/proc/cpuinfo")
CGROUPS, OWN_CGROUPS = Path("/sys/fs/cgroup"), Path("/proc/self/cgroup")
_INSTRUCTION_SETS = {
    *("sse4_1", "sse4_2", "avx", "f16c", "fma", "avx2", "avx_vnni", "avx512f", "avx512dq", "avx512bw", "avx512vl"),
    *("avx512_vnni", "avx512_bf16", "avx512_fp16", "amx_tile", "amx_bf16", "amx_int8"),
    *("asimd", "asimdhp", "asimddp", "bf16", "sve", "sve2"),
}


class Gpu(NamedTuple):
    """One NVIDIA GPU, as nvidia-smi names it. `capability` is its compute capability, for example "8.6"."""

    name: str
    capability: str
    driver: str


class GpuError(Exception):
    """nvidia-smi is there but does not answer; the message says what it does instead."""


def list_gpus() -> list[Gpu]:
    """The NVIDIA GPUs that nvidia-smi shows; none where there is no nvidia-smi.

    Raises:
        GpuError: it does not work, or its answer is not understood.
    """
    program = shutil.which("nvidia-smi")
    if program is None:
        return []
    query = [program, "--query-gpu=name,compute_cap,driver_version", "--format=csv,noheader"]
    try:
        result = subprocess.run(query, check=False, capture_output=True, text=True, timeout=60)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise GpuError(f"nvidia-smi does not work ({error})") from error
    rows = [re.split(r"\s*,\s*", line.strip()) for line in result.stdout.splitlines() if line.strip()]
    if result.returncode != 0 or not all(len(row) == 3 and re.fullmatch(r"\d+\.\d+", row[1]) for row in rows):
        answer = (result.stdout + result.stderr).strip().partition("\n")[0]
        raise GpuError(f"nvidia-smi answers {answer!r}")
    return [Gpu(*row) for row in rows]


def nvidia_gpus() -> list[Gpu]:
    """The GPUs that `list_gpus` finds; none where nvidia-smi does not answer."""
    try:
        return list_gpus()
    except GpuError:
        return []


def has_code(capability: str, built_for: Iterable[str]) -> bool:
    """Whether machine code built for these compute capabilities runs on a GPU of `capability`.

    Machine code runs on GPUs of the same major version and the same or a later minor one (CUDA C++ programming guide,
    binary compatibility). Later majors would need PTX, which is not counted on here.
    """
    major, minor = _version(capability)
    return any(major == built[0] and minor >= built[1] for built in map(_version, built_for))


def _version(capability: str) -> tuple[int, int]:
    major, _, minor = capability.partition(".")
    return int(major), int(minor)


def usable_cores() -> int:
    """Cores that this process may use: those that it may run on, or fewer where its share of time is limited."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota = cpu_quota()
    return cores if quota is None else max(1, min(cores, math.ceil(quota)))


def cpu_quota(groups: Path = CGROUPS, own: Path = OWN_CGROUPS) -> float | None:
    """Cores' worth of time that Linux's control groups leave this process, as containers are given it; None: all.

    Args:
        groups: where control groups are mounted.
        own: says which groups the process is in: lines of id:controllers:path, without controllers for version 2.

    Source: Linux, Documentation/admin-guide/cgroup-v2.rst, cpu.max; scheduler/sched-bwc.rst, cpu.cfs_quota_us.
    """
    try:
        lines = [line.split(":", 2) for line in own.read_text().splitlines()]
    except OSError:
        return None
    quotas = []
    for _, controllers, path in (line for line in lines if len(line) == 3):
        if controllers and "cpu" not in controllers.split(","):
            continue
        # Mounted by the controllers' names, which may be links to each other; a container may see its own as the root.
        for mounted in {groups / controllers, groups / "cpu"} if controllers else {groups, groups / "unified"}:
            folder = mounted / path.lstrip("/")
            while folder.is_relative_to(mounted):
                quotas += _quota(folder)
                folder = folder.parent
    return min(quotas, default=None)


def _quota(group: Path) -> list[float]:
    """The limit that is set on one group, if one is: microseconds of every period."""
    try:
        if (group / "cpu.max").exists():
            quota, period = (group / "cpu.max").read_text().split()
        else:
            quota, period = ((group / f"cpu.cfs_{part}_us").read_text() for part in ("quota", "period"))
        return [int(quota) / int(period)] if int(quota) > 0 and int(period) > 0 else []
    except (OSError, ValueError):  # there is none, or it is "max"
        return []


def cpu_model() -> str:
    """The processor's name, as the operating system gives it."""
    return _cpuinfo("model name") or platform.processor() or platform.machine()


def instruction_sets() -> str:
    """Of those that math libraries choose among, the ones that this processor has, with spaces between them.

    Which of them computes decides in which order a sum is taken, and so its last bits.
    """
    return " ".join(sorted(_INSTRUCTION_SETS.intersection(_features()))) or platform.machine()


def multiplies_bf16() -> bool:
    """Whether the processor has instructions for products of bfloat16; also where that is not known."""
    features = _features()
    return not features or not {"avx512_bf16", "amx_bf16", "bf16"}.isdisjoint(features)


def _features() -> list[str]:
    """What the processor can do, by Linux's names; none where it does not say."""
    return (_cpuinfo("flags") or _cpuinfo("Features")).split()  # x86, Arm


def _cpuinfo(key: str) -> str:
    """What Linux says of the first core; empty where it does not."""
    lines = CPUINFO.read_text().splitlines() if CPUINFO.exists() else []
    return next(
        (value.strip() for name, _, value in (line.partition(":") for line in lines) if name.strip() == key), ""
    )


def memory_mib() -> int:
    """Memory of the machine, in MiB; 0 where the system does not tell."""
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2**20
    except (AttributeError, ValueError, OSError):
        return 0


def peak_memory_mib() -> float:
    """Largest resident memory of this process so far, in MiB.

    Linux tells it of the process itself; getrusage would start from that of the process that it was forked from.
    """
    status = Path("/proc/self/status")
    if status.exists():
        for line in status.read_text().splitlines():
            if line.startswith("VmHWM"):
                return int(line.split()[1]) / 2**10
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**20 if sys.platform == "darwin" else 2**10)
