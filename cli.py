#!/usr/bin/env python
"""The command line: do binary-neural-network papers reproduce?

A command is a module of commands/, which is loaded when it is asked for. What is the same for all of them is here:
errors that a user can mend are one line, and each has its exit code.
"""

# Old Pythons must understand this file, to be told which one it needs: no syntax in it is of a later one than 3.8.
from __future__ import annotations

import os
import sys

if __name__ == "__main__":
    # This checkout's packages and no others of their names, also with `python -P` or PYTHONSAFEPATH.
    sys.path.insert(0, os.path.dirname(os.path.realpath(__file__)))

try:
    from benchmarks import start

    start.check_python()
    if __name__ == "__main__":
        start.end_at_once_on_ctrl_c()

    import contextlib
    import errno
    import importlib
    from collections.abc import Iterator
    from typing import Any, NoReturn

    import click

    from benchmarks import hints
    from benchmarks.errors import EngineError, RecipeError, RunError
    from benchmarks.machine import environment
    from benchmarks.start import INTERRUPTED
    from commands.output import fail
    from data_prep.errors import DataError
    from results.errors import RegistryError
except ImportError as error:
    start.refuse_import(error)
except KeyboardInterrupt:
    sys.exit(130)

ROOMS = ("benchmarks", "bnn_gluon", "bnn_torch", "commands", "data_prep", "results")
# Command -> its module in commands/.
COMMANDS = {
    "bench": "bench",
    "check": "check",
    "compare": "compare",
    "doctor": "doctor",
    "evaluate": "evaluate",
    "export": "export",
    "gpu-session": "gpu_session",
    "list": "list_benchmarks",
    "merge": "merge",
    "new": "new",
    "plan": "plan",
    "prepare": "prepare",
    "queue": "queue",
    "regress": "regress",
    "reproduce": "reproduce",
    "resume": "resume",
    "runs": "runs",
    "show": "show",
    "submit": "submit",
    "table": "table",
    "throughput": "throughput",
    "tour": "tour",
    "validate": "validate",
    "verify": "verify",
}


class Commands(click.Group):
    """The group of all commands: an error that a user can mend is one line and a fixed exit code, never a traceback."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        try:
            command: click.Command = importlib.import_module(f"commands.{COMMANDS[cmd_name]}").command
        except ImportError as error:
            start.refuse_import(error)
        return command

    def resolve_command(self, ctx: click.Context, args: list[str]) -> Any:
        try:
            return super().resolve_command(ctx, args)
        except click.NoSuchCommand as error:  # click looks for near names among the commands that are loaded
            raise click.NoSuchCommand(error.command_name, possibilities=COMMANDS, ctx=ctx) from None

    def make_context(self, *args: Any, **extra: Any) -> click.Context:
        with _one_line_errors():
            return super().make_context(*args, **extra)

    def invoke(self, ctx: click.Context) -> Any:
        with _one_line_errors():
            result = super().invoke(ctx)
            sys.stdout.flush()  # a full disk is found here, not when Python has ended
            return result


@contextlib.contextmanager
def _one_line_errors() -> Iterator[None]:
    try:
        yield
    except (RecipeError, DataError, EngineError, RunError, RegistryError) as error:
        fail(str(error), error.exit_code)
    except click.UsageError as error:
        if type(error) is not click.UsageError:  # click's own, which name no command
            raise
        raise click.UsageError(hints.as_typed(error.message), error.ctx) from None
    except KeyboardInterrupt:
        click.echo("interrupted", err=True)
        sys.exit(INTERRUPTED)
    except BrokenPipeError:
        raise  # click ends quietly when nobody reads on
    except OSError as error:
        if error.errno == errno.ENOMEM:
            _fail_without_memory(str(error.strerror))
        fail(f"{error.filename or 'input/output'}: {error.strerror or error}", 1)
    except MemoryError as error:
        _fail_without_memory(str(error))
    except ModuleNotFoundError as error:
        if str(error.name).partition(".")[0] in ROOMS:
            raise
        start.refuse_import(error)
    except (ImportError, SystemError) as error:
        # Libraries that were refused memory end with it; without a limit it is a fault to be reported whole.
        if start.memory_limit() is None:
            raise
        _fail_without_memory(f"probably, as there is a limit: {error}")


def _fail_without_memory(reason: str) -> NoReturn:
    fail(f"not enough memory{f': {reason}' if reason else ''}: {start.more_memory()}", 1)


def _print_version(ctx: click.Context, _: click.Parameter, wanted: bool) -> None:
    if wanted:
        from benchmarks.version import harness_version

        click.echo(f"bnn-reproducibility {harness_version()}")
        ctx.exit()


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.option("--version", is_flag=True, is_eager=True, expose_value=False, callback=_print_version,
              help="Print the version and exit.")  # fmt: skip
@click.pass_context
def cli(ctx: click.Context) -> None:
    """Do binary-neural-network papers reproduce?

    Exit codes: 0 done, 1 failed, 2 wrong usage, 3 not reproduced and 4 inconclusive (check, or with
    --fail-on), 5 regression, 6 nothing was measured (check, regress), 7 registry invalid, 130 interrupted.
    """
    if os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb":
        ctx.color = False
    environment.clear()  # before any command loads a library that computes


if __name__ == "__main__":
    start.check_memory_limit()
    start.settle_streams()
    start.interrupt_on_ctrl_c()
    cli(prog_name=hints.program())
