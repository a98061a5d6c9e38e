"""A run folder never gives a wrong number without a word: every byte of every file that is read back.

The folder here is of a run that has done two epochs, each with weights of its own; no network is trained for it. What a
whole run makes of it is in test_runner.py.
"""

from __future__ import annotations

import json
import os
import random
import re
import shutil
import types
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import numpy as np
import pytest

from benchmarks.errors import RunError
from benchmarks.run import folder as run_folder
from benchmarks.run.folder import RunFolder
from benchmarks.run.protocol import TrainingState
from benchmarks.run.seals import open_json, seal_json
from benchmarks.run.selection import find_run
from benchmarks.run.state import Checkpoint, Manifest, SittingLog
from results.record import Record, columns, from_bytes, seal, to_bytes

(OLD_RECORD,) = (Path(__file__).parents[3] / "results" / "runs" / "chawla-mlp-mnist-float").glob(
    "0b5029908e1a9efa.json"
)
NEWEST, PREVIOUS = "checkpoint.npz", "checkpoint-previous.npz"
STARTED = "2024-05-01T12:00:00Z"


@pytest.fixture(scope="module")
def record() -> Record:
    return seal(from_bytes(OLD_RECORD.read_bytes(), OLD_RECORD.name))


def manifest_of(record: Record, **changes: Any) -> Manifest:
    manifest = Manifest(
        benchmark=record.benchmark, settings=record.recipe.settings, overrides={}, seed=record.seed,
        engine="gluon", device="cpu", threads=1, data={"train": "a", "valid": "b", "test": "c"},
    )  # fmt: skip
    return msgspec.structs.replace(manifest, **changes)


def parameters(epoch: int) -> dict[str, np.ndarray]:
    return {"dense1.weight": np.arange(6, dtype=np.float32).reshape(2, 3) + epoch}


def sitting(first: int, last: int, seconds: float = 1.0) -> SittingLog:
    return SittingLog(
        commit=None, dirty=False, diff_sha256=None, first_epoch=first, last_epoch=last, seconds=seconds, started=STARTED
    )


def checkpoint(epoch: int, valid_wrong: Callable[[int], int] = lambda epoch: 100 - epoch) -> Checkpoint:
    """After an epoch; by default each epoch is better than the one before."""
    curve = {column: [float(n) for n in range(1, epoch + 1)] for column in columns({})}
    curve |= {"epoch": list(range(1, epoch + 1)), "valid_wrong": [valid_wrong(n) for n in range(1, epoch + 1)]}
    progress = TrainingState(np.arange(4) + epoch, curve, np.array([True, False]), float(epoch), 0.5)
    return Checkpoint(
        engine={"parameters/dense1.weight": parameters(epoch)["dense1.weight"], "step": np.array(epoch)},
        progress=progress,
        sittings=[sitting(1, epoch)],
        peak_memory_mib=7.0,
    )


def store(folder: RunFolder, epoch: int) -> None:
    folder.save_weights(epoch, parameters(epoch))
    folder.save_checkpoint(checkpoint(epoch))


def reopened(folder: RunFolder) -> tuple[RunFolder, list[str]]:
    """As another process sees it, and what it is told."""
    notes: list[str] = []
    return RunFolder(folder.path, notes.append), notes


@pytest.fixture
def folder(tmp_path: Path, record: Record) -> RunFolder:
    folder = RunFolder.create(tmp_path / "runs", manifest_of(record))
    folder.save_sittings([sitting(1, 0)])
    store(folder, 1)
    store(folder, 2)
    return folder


def without_seals(folder: RunFolder) -> None:
    """Make it one of format 1, as it was before there were seals."""
    path = folder.path / "run.json"
    path.write_bytes(open_json(path.read_bytes())[1].replace(b'"format": 2', b'"format": 1'))
    for path in folder.path.glob("*.npz"):
        strip(path)
    (folder.path / "sittings.json").unlink()


def strip(archive: Path) -> None:
    data = archive.read_bytes()
    end = data.rindex(b"PK\x05\x06")
    archive.write_bytes(data[: end + 20] + bytes(2))


class Content(NamedTuple):
    """All that can be had from a folder, comparable."""

    manifest: Manifest
    epoch: int
    arrays: dict[str, list[Any]]
    facts: tuple[Any, ...]
    weights: list[Any]


def content(folder: RunFolder) -> Content:
    found = folder.load_checkpoint()
    assert found is not None
    progress = found.progress
    arrays = found.engine | {"order": progress.order, "test_correct": progress.test_correct}
    facts = (progress.curve, progress.train_seconds, progress.evaluate_seconds, found.peak_memory_mib)
    sittings = [msgspec.to_builtins(one) for one in folder.sittings(found)]
    weights = folder.load_weights(progress.epoch)["dense1.weight"].tolist()
    listed = {name: np.asarray(value).tolist() for name, value in arrays.items()}
    return Content(folder.manifest(), progress.epoch, listed, (*facts, sittings), weights)


def changed(data: bytes, seed: int, count: int | None = None) -> Iterator[bytes]:
    """The bytes with one of them changed: each in turn, or `count` of them; then cut, and with one byte more."""
    randomness = random.Random(seed)
    places = range(len(data)) if count is None else randomness.sample(range(len(data)), min(count, len(data)))
    for place in places:
        yield data[:place] + bytes([data[place] ^ randomness.randrange(1, 256)]) + data[place + 1 :]
    yield from (b"", data[: len(data) // 2], data[:-1], data + b"\0")


# -- damage ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [NEWEST, "weights-epoch-0002.npz"])
def test_a_changed_byte_in_the_newest_state_means_the_previous_one(folder, name):
    previous = content_of_epoch_1(folder)
    path = folder.path / name
    for data in changed(path.read_bytes(), 1, 600):
        path.write_bytes(data)
        again, notes = reopened(folder)
        assert content(again) == previous
        (note,) = notes
        assert note.startswith(f"{path} is damaged (")
        assert note.endswith("): the previous checkpoint is taken, after epoch 1")


def content_of_epoch_1(folder: RunFolder) -> Content:
    """What the folder gives without its newest checkpoint."""
    aside = folder.path / "aside"
    (folder.path / NEWEST).rename(aside)
    again, notes = reopened(folder)
    found = content(again)
    aside.rename(folder.path / NEWEST)
    assert (found.epoch, notes) == (1, [])
    return found


@pytest.mark.parametrize("name", [PREVIOUS, "weights-epoch-0001.npz"])
def test_the_previous_state_matters_only_if_it_is_needed(folder, name):
    whole = content(folder)
    for data in changed((folder.path / name).read_bytes(), 2, 20):
        (folder.path / name).write_bytes(data)
        again, notes = reopened(folder)
        assert (content(again), notes) == (whole, [])
    (folder.path / NEWEST).write_bytes(b"damaged too")
    with pytest.raises(
        RunError, match=r"checkpoint.npz is damaged .*: start it again.*`python cli.py reproduce \S+ --s"
    ):
        reopened(folder)[0].load_checkpoint()


@pytest.mark.parametrize(
    ("name", "mend"),
    [
        (
            "run.json",
            r"restore it, or start it again, with its options: `python cli.py reproduce chawla-\S+ --seed \d+`",
        ),
        ("sittings.json", r"`rm \S+/sittings.json; python cli.py resume chawla-\S+`"),
    ],
)
def test_a_changed_byte_in_a_text_is_refused(folder, name, mend):
    for data in changed((folder.path / name).read_bytes(), 3, 600):
        (folder.path / name).write_bytes(data)
        with pytest.raises(
            RunError, match=rf"{name} (cannot be read|is damaged|is of format|: format).*{mend}"
        ) as error:
            content(reopened(folder)[0])
        assert "\n" not in str(error.value)


def test_a_changed_byte_in_the_record_is_refused(folder, record):
    folder.save_record(record)
    assert reopened(folder)[0].record() == record
    for data in changed(to_bytes(record), 4, 150):
        folder.record_path.write_bytes(data)
        with pytest.raises(
            RunError, match=r"record.json: .*`rm \S+record.json; python cli.py resume \S+` writes it again"
        ):
            reopened(folder)[0].record()


def test_a_missing_list_of_sittings_is_said(folder):
    (folder.path / "sittings.json").unlink()
    again, notes = reopened(folder)
    again.sittings(again.load_checkpoint())
    assert re.fullmatch(r"\S+sittings.json is missing: sittings that stored no epoch are not counted", notes[0])


def test_a_pickle_is_never_loaded(folder):
    np.savez(folder.path / NEWEST, facts=np.array([{"a": 1}], dtype=object))
    again, notes = reopened(folder)
    assert content(again).epoch == 1
    assert "checkpoint.npz is damaged" in notes[0]


# -- what is of another run --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [NEWEST, "weights-epoch-0002.npz", "sittings.json"])
def test_a_file_of_another_seed_is_refused(folder, record, tmp_path, name):
    other = RunFolder.create(tmp_path / "other", manifest_of(record, seed=99))
    other.save_sittings([sitting(1, 0)])
    store(other, 1)
    store(other, 2)
    shutil.copy(other.path / name, folder.path / name)
    again, notes = reopened(folder)
    if name == "sittings.json":
        with pytest.raises(RunError, match="it is of another run"):
            content(again)
    else:
        assert content(again).epoch == 1
        assert "it is of another run, or another file of this one" in notes[0]


def test_weights_of_another_epoch_are_refused(folder):
    shutil.copy(folder.path / "weights-epoch-0001.npz", folder.path / "weights-epoch-0002.npz")
    with pytest.raises(RunError, match="another file of this one"):
        reopened(folder)[0].load_weights(2)


def test_an_edited_seed_is_refused_even_where_the_seal_was_made_anew(folder):
    path = folder.path / "run.json"
    text = open_json(path.read_bytes())[1]
    edited = re.sub(rb'"seed": \d+', b'"seed": 99', text)
    path.write_bytes(path.read_bytes().replace(text[1:], edited[1:]))
    with pytest.raises(RunError, match="does not match its SHA-256"):
        content(reopened(folder)[0])
    path.write_bytes(seal_json(edited))
    with pytest.raises(RunError, match=r"checkpoint.npz is damaged \(it is of another run"):
        content(reopened(folder)[0])


def test_a_record_that_an_earlier_version_wrote_is_read(folder):
    folder.record_path.write_bytes(OLD_RECORD.read_bytes())
    found = folder.record()
    assert (found.id, found.harness) == (OLD_RECORD.stem, "0.1.0")


def test_the_record_of_another_run_is_refused(folder, record, tmp_path):
    other = RunFolder.create(tmp_path / "other", manifest_of(record, seed=99))
    other.save_record(record)
    with pytest.raises(RunError, match=r"record\.json is of another run"):
        other.record()


# -- formats -----------------------------------------------------------------------------------------------------------


def test_a_stripped_seal_is_refused(folder):
    strip(folder.path / NEWEST)
    again, notes = reopened(folder)
    assert content(again).epoch == 1
    assert "checkpoint.npz is damaged" in notes[0]
    path = folder.path / "run.json"
    text = open_json(path.read_bytes())[1]
    path.write_bytes(text)
    with pytest.raises(RunError, match=r"is of format 2 and has no seal \(sha256\)"):
        content(reopened(folder)[0])
    path.write_bytes(text.replace(b'"format": 2', b'"format": 3'))
    with pytest.raises(RunError, match="format 3, expected 2: continue it with the version that started it"):
        content(reopened(folder)[0])


def test_a_folder_from_before_seals_is_read_and_what_is_added_is_sealed(folder):
    whole = content(folder)
    without_seals(folder)
    again, notes = reopened(folder)
    found = content(again)
    assert found._replace(manifest=whole.manifest) == whole
    assert notes == [f"run {folder.name} is not sealed: made before seals existed"]
    store(again, 3)
    again.save_sittings(again.sittings(again.load_checkpoint()))
    sealed = folder.path / NEWEST
    data = sealed.read_bytes()
    assert content(reopened(folder)[0]).epoch == 3
    for damaged in changed(data, 5, 100):  # none of them makes it one without a seal
        sealed.write_bytes(damaged)
        assert content(reopened(folder)[0]).epoch == 2


@pytest.mark.parametrize("name", [NEWEST, "weights-epoch-0002.npz"])
def test_without_seals_the_archives_own_checksums_count(folder, name):
    """numpy alone stops reading where a header says that the array ends: before the checksum."""
    without_seals(folder)
    (folder.path / PREVIOUS).unlink()
    whole, refused = content(reopened(folder)[0]), 0
    original = (folder.path / name).read_bytes()
    for data in changed(original, 6, 600):
        (folder.path / name).write_bytes(data)
        try:
            found = content(reopened(folder)[0])
        except RunError:
            refused += 1
        else:
            assert found == whole
    assert refused > len(original) / 10


# -- what is kept ------------------------------------------------------------------------------------------------------


def names(folder: RunFolder, pattern: str) -> list[str]:
    return sorted(path.name for path in folder.path.glob(pattern))


def test_two_checkpoints_and_their_weights_are_kept(folder, record):
    for epoch in (3, 4):
        store(folder, epoch)
    assert names(folder, "*.npz") == [PREVIOUS, NEWEST, "weights-epoch-0003.npz", "weights-epoch-0004.npz"]
    assert content_of_epoch(folder, PREVIOUS) == 3
    folder.save_checkpoint(checkpoint(5, lambda epoch: abs(epoch - 4)))  # epoch 4 stays the best
    assert names(folder, "weights*") == ["weights-epoch-0004.npz"]
    folder.save_record(record)
    assert names(folder, "checkpoint*") == [NEWEST]


def content_of_epoch(folder: RunFolder, name: str) -> int:
    return int(reopened(folder)[0]._read_checkpoint(name).progress.epoch)


def test_what_was_damaged_does_not_take_the_place_of_the_previous_one(folder):
    (folder.path / NEWEST).write_bytes(b"damaged")
    again, _ = reopened(folder)
    assert again.load_checkpoint().progress.epoch == 1
    store(again, 2)
    assert (content_of_epoch(folder, PREVIOUS), content_of_epoch(folder, NEWEST)) == (1, 2)
    assert names(folder, "weights*") == ["weights-epoch-0001.npz", "weights-epoch-0002.npz"]


class Killed(BaseException):
    """Instead of a kill."""


def test_a_kill_between_any_two_steps_of_storing_leaves_an_epoch_with_its_weights(folder, monkeypatch):
    """Before the nth change in the folder, for every n; a temporary file that a kill leaves is swept."""
    epochs = set()
    for steps_before in range(100):
        copy = RunFolder(folder.path.with_name("copy"))
        shutil.copytree(folder.path, copy.path)
        copy.load_checkpoint()
        left = iter(range(steps_before))

        def stepping(operation: Callable[..., Any], left: Iterator[int] = left) -> Callable[..., Any]:
            def step(*arguments: Any, **options: Any) -> Any:
                if next(left, None) is None:
                    raise Killed
                return operation(*arguments, **options)

            return step

        with monkeypatch.context() as patched:
            patched.setattr(os, "replace", stepping(os.replace))
            patched.setattr(os, "fsync", stepping(os.fsync))
            patched.setattr(Path, "unlink", stepping(Path.unlink))
            try:
                store(copy, 3)
                ended = True
            except Killed:
                ended = False
        (copy.path / f".{NEWEST}.x.tmp").write_bytes(b"half of it")
        again, notes = reopened(copy)
        again.sweep()
        epochs.add(content(again).epoch)
        assert (notes, names(copy, ".*.tmp")) == ([], [])
        store(again, 3)
        assert content(reopened(copy)[0]).epoch == 3
        shutil.rmtree(copy.path)
        if ended:
            break
    assert ended
    assert epochs == {2, 3}


def test_sittings_that_stored_nothing_are_counted(folder):
    """Of three kills after the checkpoint; the first sitting trained 5 s more than it stored."""
    folder.save_sittings([sitting(1, 2, 6.0), sitting(3, 4, 2.0), sitting(3, 2, 3.0)])
    again, _ = reopened(folder)
    found = [(one.first_epoch, one.last_epoch, one.seconds) for one in again.sittings(again.load_checkpoint())]
    assert found == [(1, 2, 6.0), (3, 2, 2.0), (3, 2, 3.0)]
    (folder.path / NEWEST).unlink()  # epoch 2 is trained again, then
    again, _ = reopened(folder)
    found = [(one.first_epoch, one.last_epoch) for one in again.sittings(again.load_checkpoint())]
    assert found == [(1, 1), (2, 1), (2, 1)]
    assert [one.first_epoch for one in again.sittings(None)] == [1, 1, 1]


# -- names -------------------------------------------------------------------------------------------------------------


def test_the_hundredth_run_of_a_second_is_refused(tmp_path, record, monkeypatch):
    now = datetime(2024, 5, 1, 12, tzinfo=UTC)
    monkeypatch.setattr(run_folder, "datetime", types.SimpleNamespace(now=lambda _: now))
    manifest = manifest_of(record, seed=5)
    created = [RunFolder.create(tmp_path, manifest) for _ in range(99)]
    assert len({folder.path for folder in created}) == 99
    with pytest.raises(RunError, match="has 99 runs named 20240501T120000Z-s5 already: repeat the command"):
        RunFolder.create(tmp_path, manifest)


def test_an_exact_name_wins(tmp_path, record):
    first, second = (RunFolder.create(tmp_path, manifest_of(record)) for _ in range(2))
    if not second.path.name.startswith(first.path.name):
        second.path.rename(first.path.with_name(f"{first.path.name}-2"))
    assert find_run(tmp_path, first.path.name).path == first.path
    with pytest.raises(RunError, match="2 runs fit"):
        find_run(tmp_path, first.path.name[:10])


def test_run_json_is_json(folder):
    found = json.loads((folder.path / "run.json").read_text())
    assert (list(found)[:2], found["format"]) == (["sha256", "format"], 2)
