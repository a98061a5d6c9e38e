"""NVIDIA's Multi-Process Service: it lets the kernels of several processes overlap on a GPU, which else take turns.

Source: NVIDIA, "Multi-Process Service", https://docs.nvidia.com/deploy/mps/: the control daemon, its commands and
environment variables.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from typing import NamedTuple

CONTROL = "nvidia-cuda-mps-control"
PIPES, LOGS = "CUDA_MPS_PIPE_DIRECTORY", "CUDA_MPS_LOG_DIRECTORY"
TIMEOUT_SECONDS = 60
# Whether a process can compute through the service, found out by one that needs no framework.
PROBE = """\
import ctypes, sys
cuda, context = ctypes.CDLL("libcuda.so.1"), ctypes.c_void_p()
sys.exit(bool(cuda.cuInit(0) or cuda.cuDevicePrimaryCtxRetain(ctypes.byref(context), 0)))
"""


class Sharing(NamedTuple):
    """How processes share a GPU.

    Attributes:
        environment: what they need in theirs.
        complaint: why their kernels cannot overlap; None if they can.
    """

    environment: Mapping[str, str]
    complaint: str | None


@contextlib.contextmanager
def overlapping(device: str) -> Iterator[Sharing]:
    """Have the service as long as the context lasts: the user's if it runs, else one of its own; not for the CPU."""
    program = shutil.which(CONTROL)
    if device == "cpu":
        yield Sharing({}, None)
    elif program is None:
        yield Sharing({}, f"there is no {CONTROL} here")
    elif _run([program], os.environ, "get_server_list\n"):
        yield Sharing({}, None)
    else:
        with tempfile.TemporaryDirectory(prefix="mps-") as folder:
            own = {PIPES: folder, LOGS: folder}
            environment = os.environ | own
            if not _run([program, "-d"], environment):
                yield Sharing({}, f"{CONTROL} does not start")
                return
            try:
                if _run([sys.executable, "-c", PROBE], environment):
                    yield Sharing(own, None)
                else:
                    yield Sharing({}, "the Multi-Process Service lets no process in")
            finally:
                _run([program], environment, "quit\n")


def _run(command: list[str], environment: Mapping[str, str], said: str = "") -> bool:
    """Whether a command succeeds."""
    try:
        result = subprocess.run(
            command,
            env=environment,
            input=said,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            text=True,
            timeout=TIMEOUT_SECONDS,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return False
    return result.returncode == 0
