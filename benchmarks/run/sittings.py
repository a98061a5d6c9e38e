"""The sittings of a run: what computes one, and what is other than in the one before."""

from __future__ import annotations

from typing import Any

import msgspec

from benchmarks.machine.facts import cpu_model, memory_mib, usable_cores
from benchmarks.run.provenance import Code
from benchmarks.run.state import SittingLog
from results.record.canonical import leaves
from results.record.utc import now


def new_sitting(first_epoch: int, engine: dict[str, object], code: Code) -> SittingLog:
    """A sitting that begins now, with this epoch, on this machine; `engine` as the engine describes itself."""
    return SittingLog(
        commit=code.commit,
        dirty=code.dirty,
        diff_sha256=code.diff_sha256,
        first_epoch=first_epoch,
        last_epoch=first_epoch - 1,
        seconds=0.0,
        started=now(),
        engine=engine_as_json(engine),
        code_sha256=code.computing_sha256,
        machine={"processor": cpu_model(), "cores": usable_cores(), "memory_mib": memory_mib()},
    )


def engine_as_json(engine: dict[str, object]) -> dict[str, Any]:
    """An engine's description as it is read back."""
    as_json: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(engine))
    return as_json


def changes_since(before: SittingLog, engine: dict[str, Any], code: Code) -> list[str]:
    """What would compute a run otherwise than its last sitting did, in words; what that did not say is not compared."""
    changed = []
    if before.code_sha256 is None:
        if (before.commit, before.diff_sha256) != (code.commit, code.diff_sha256):
            changed.append(f"code (commit {(before.commit or 'unknown')[:12]}, here {(code.commit or 'unknown')[:12]})")
    elif before.code_sha256 != code.computing_sha256:
        changed.append(f"code (SHA-256 {before.code_sha256[:12]}, here {code.computing_sha256[:12]})")
    if before.engine is None:
        return changed
    here, there = (dict(leaves(description)) for description in (engine, before.engine))
    return changed + [
        f"{field} ({there.get(field, 'absent')}, here {here.get(field, 'absent')})"
        for field in sorted(here.keys() | there.keys())
        if here.get(field) != there.get(field)
    ]
