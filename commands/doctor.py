"""`doctor`: what works on this machine."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from benchmarks.hints import as_typed
from commands.options import data_option, json_option, runs_option
from commands.output import announced, print_json


@click.command("doctor")
@click.option("--verify", is_flag=True, help="Also prove the prepared data against their digests.")
@data_option
@runs_option
@json_option
def command(verify: bool, data_root: Path, runs_root: Path, as_json: bool) -> None:
    """Say what works on this machine, and which command mends what does not."""
    import msgspec

    from benchmarks.doctor import examine

    with announced("trying each engine in a process of its own" + ", and proving the data" * verify):
        found = examine(data_root, runs_root, verify=verify)
    findings = [
        msgspec.structs.replace(finding, mend=finding.mend and as_typed(finding.mend), detail=as_typed(finding.detail))
        for finding in found
    ]
    if as_json:
        print_json(findings)
    else:
        for finding in findings:
            click.secho(
                f"{finding.status:5}", fg={"ok": "green", "warn": "yellow"}.get(finding.status, "red"), nl=False
            )
            click.echo(f" {finding.name}: {finding.detail}" + (f"\n      mend: {finding.mend}" if finding.mend else ""))
    sys.exit(any(finding.status == "fail" for finding in findings))
