"""What the executors of clusters have in common: settings of the site, and the command that a job carries out."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import TypeVar

import msgspec
import yaml

from benchmarks.errors import RunError
from benchmarks.paths import DATA
from benchmarks.queue.executor import command_of
from benchmarks.queue.folder import QueueFolder
from benchmarks.queue.queued import QueuedRun


class Settings(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What a site wants for every run; the file `<executor>.yaml` in the queue's folder, which may be absent.

    Attributes:
        threads: of a run that was queued without `--threads`; as many cores are asked for.
        data: folder of the data sets, as jobs see it; by default that of the command that submits.
        work: more options of `queue work`.
    """

    threads: int = 1
    data: str = ""
    work: tuple[str, ...] = ()


Kind = TypeVar("Kind", bound=Settings)


def read_settings(queue: QueueFolder, executor: str, kind: type[Kind]) -> Kind:
    """The settings of an executor.

    Raises:
        RunError: the file is not as `kind` has it.
    """
    path = queue.path / f"{executor}.yaml"
    try:
        return msgspec.convert(yaml.safe_load(path.read_text(encoding="utf-8")) or {}, kind)
    except FileNotFoundError:
        return kind()
    except (OSError, ValueError, yaml.YAMLError, msgspec.ValidationError) as error:
        raise RunError(f"{path}: {' '.join(str(error).split())}; expected what docs/clusters.md says") from None


def tag_of(queue: QueueFolder) -> str:
    """What tells a queue from the others of a cluster, in names there."""
    return hashlib.sha256(str(queue.path).encode()).hexdigest()[:8]


def threads_of(run: QueuedRun, settings: Settings) -> int:
    """How many threads a run computes with."""
    if "--threads" in run.arguments:
        return int(run.arguments[run.arguments.index("--threads") + 1])
    return settings.threads


def options_of(settings: Settings, threads: int) -> tuple[str, ...]:
    """What a job adds to `command_of`; written down when it is submitted, for its node has another environment."""
    data = Path(settings.data or os.environ.get("BNN_DATA") or DATA).absolute()
    return "--threads", str(threads), "--data", str(data), *settings.work


def job_command(queue: QueueFolder, name: str, options: tuple[str, ...]) -> list[str]:
    """The command of a job, with the Python that it runs under."""
    return [*command_of(queue, queue.runs()[name]), *options]
