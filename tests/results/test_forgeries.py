"""Made-up records: none ends a command with a traceback, and what follows from something else is found."""

from __future__ import annotations

import re
import shutil
from itertools import islice
from pathlib import Path

import pytest
from forgeries import RUNS, forgeries, of_today
from published import FIRST, OF_A_GPU, first

from benchmarks.verdict import check_record, judge_run, target_of
from results import registry, verification
from results.record import checks, from_bytes
from results.views.csv import to_csv
from results.views.markdown import to_markdown
from results.views.rows import rows

# What only the run itself, or another evaluation of its network, could know: times, losses, code, names of machines.
# And what schema 1 stored and nobody reads any more: its verdict, and that a point of its results is there.
UNKNOWABLE = re.compile(
    r"results(\.\w+)*: deleted|("
    r"curve\.(\w+_loss|seconds|images_per_second)\[\d+\]|times\.\w+|peak_memory_mib|seed|seeds\.run|weights_sha256"
    r"|sittings\[\d+\]\.(commit|dirty|diff_sha256|code_sha256|seconds|started|machine\.\w+)"
    r"|(sittings\[\d+\]\.)?engine\.(device_name|threads|driver|(versions|determinism|features)(\..*|\[\d+\])?)"
    r"|(sittings\[\d+\]\.)?engine(\.device|\.precision)?|harness"
    r"|verdict(\..*)?|test_correct|outcome"
    r"): .*"
)


def accepted(record: bytes, source: Path, folder: Path, step: int, start: int = 0) -> list[str]:
    """The forged facts that `verify` does not find, every `step`-th of all that there are."""
    root, found = folder / "runs", []
    (root / source.parent.name).mkdir(parents=True)
    weights = RUNS.parent / "weights" / source.parent.name / f"{source.stem}.safetensors"
    for field, became, data, record_id in islice(forgeries(record), start, None, step):
        path = root / source.parent.name / f"{record_id}.json"
        path.write_bytes(data)
        published = folder / "weights" / source.parent.name / f"{record_id}.safetensors"
        if weights.exists():
            published.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(weights, published)
        if not registry.verify(root, [check_record]):
            found.append(f"{field}: {became}")
        table = rows((r for _, r in registry.read_all(root, str)), lambda r: judge_run(r, target_of(r)))
        assert to_markdown(table)
        assert to_csv(table)
        path.unlink()
        published.unlink(missing_ok=True)
    return found


@pytest.mark.parametrize(
    ("source", "schema"),
    [*((path, schema) for path in FIRST for schema in ("as written", "of today")), (OF_A_GPU, "as written")],
    ids=lambda value: value if isinstance(value, str) else value.parent.name,
)
@pytest.mark.nightly
def test_every_forged_fact_is_found_but_for_what_only_a_run_could_know(
    source: Path, schema: str, tmp_path: Path
) -> None:
    record = source.read_bytes() if schema == "as written" else of_today(source.read_bytes())
    found = accepted(record, source, tmp_path, 1)
    assert [fact for fact in found if not UNKNOWABLE.fullmatch(fact)] == []


@pytest.mark.slow
@pytest.mark.parametrize("schema", ["as written", "of today"])
def test_one_in_fifty_forged_facts(schema: str, tmp_path: Path) -> None:
    source = first("chawla-mlp-mnist-float")
    record = source.read_bytes() if schema == "as written" else of_today(source.read_bytes())
    found = accepted(record, source, tmp_path, 47)
    assert [fact for fact in found if not UNKNOWABLE.fullmatch(fact)] == []


@pytest.mark.parametrize("source", FIRST, ids=lambda path: path.parent.name)
def test_the_record_of_today_that_is_forged_is_valid_before(source: Path, tmp_path: Path) -> None:
    record = from_bytes(of_today(source.read_bytes()), "record")
    assert checks.problems(record) == []
    assert list(check_record(record)) == []
    assert verification.claim_of(record) is not None
