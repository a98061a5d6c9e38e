"""One run as a command of its own: what is to be done, and the command line that does it.

The command line is the interface: whatever starts commands can carry out a job.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, kw_only=True)
class Job:
    """What beginning a run and going on with one have in common.

    The fields are named like the parameters of the command. None leaves a choice to the command that is started: to its
    default, or to a variable of its environment.
    """

    fail_on: tuple[str, ...] = ()
    data_root: Path | None = None
    runs_root: Path | None = None
    registry: Path | None = None
    as_json: bool = False

    def to_arguments(self) -> list[str]:
        """The command line after `python cli.py`."""
        return [
            *_each("--fail-on", self.fail_on),
            *_option("--data", self.data_root),
            *_option("--runs", self.runs_root),
            *_option("--registry", self.registry),
            *(["--json"] if self.as_json else []),
        ]


@dataclass(frozen=True, kw_only=True)
class NewRun(Job):
    """Train a benchmark with one seed; see the options of `reproduce`."""

    benchmark: str
    seed: int
    overrides: tuple[str, ...] = ()
    epochs: str | None = None
    limit_train: str | None = None
    engine: str | None = None
    device: str | None = None
    threads: int | None = None
    precision: str | None = None
    compile: str | None = None

    def to_arguments(self) -> list[str]:
        """`reproduce ID --seed N ...`."""
        return [
            "reproduce",
            self.benchmark,
            *_option("--seed", self.seed),
            *_each("--set", self.overrides),
            *_option("--epochs", self.epochs),
            *_option("--limit-train", self.limit_train),
            *_option("--engine", self.engine),
            *_option("--device", self.device),
            *_option("--threads", self.threads),
            *_option("--precision", self.precision),
            *_option("--compile", self.compile),
            *super().to_arguments(),
        ]


@dataclass(frozen=True, kw_only=True)
class BegunRun(Job):
    """Go on with a run.

    Attributes:
        run: its folder.
        allow_change: see the option of `resume`.
    """

    run: Path
    allow_change: bool = False

    def to_arguments(self) -> list[str]:
        """`resume RUN ...`."""
        change = ["--allow-change"] if self.allow_change else []
        return ["resume", str(self.run), *change, *super().to_arguments()]


def _option(name: str, value: object) -> list[str]:
    return [] if value is None else [name, str(value)]


def _each(name: str, values: tuple[str, ...]) -> list[str]:
    return [word for value in values for word in (name, value)]
