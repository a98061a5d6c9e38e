"""What others bring: `merge`, `submit`, `verify`, what git makes of two branches; real records, real git."""

from __future__ import annotations

import getpass
import json
import re
import shutil
import socket
import subprocess
from pathlib import Path

import msgspec
import numpy as np
import pytest
import yaml
from forgeries import of_today

from benchmarks.run.contribution import local
from results import registered, registry
from results.events import name_of
from results.record import Record, error_percent, from_bytes, pack_bits, seal, unpack_bits
from results.views.markdown import BEGIN, END
from results.weights import packed_at

REPOSITORY = Path(__file__).parents[1]
RESULTS = REPOSITORY / "results"
# Records stay for ever: three seeds of one group, and one with published weights.
FLOAT = [
    RESULTS / "runs" / "chawla-mlp-mnist-float" / f"{name}.json"
    for name in ("573cd6f024bf1322", "ad944925f69c3244", "dddfa8568b118ffb")
]
WITH_WEIGHTS = RESULTS / "runs" / "rwth-lenet5-mnist-binary" / "237fe4a5f6da1e2c.json"

KEY = next(
    group.key for group in registered.read(RESULTS / "runs", FLOAT[0].parent.name) if group.key.engine == "gluon"
)


def add(path: Path, results: Path) -> None:
    """Put a real record, and the weights published with it, into a folder of results."""
    for source in (path, RESULTS / "weights" / path.parent.name / f"{path.stem}.safetensors"):
        if source.exists():
            target = results / source.relative_to(RESULTS)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(source, target)


# -- merge -------------------------------------------------------------------------------------------------------------


def test_a_registry_is_brought_into_another(cli, tmp_path):
    there, here = tmp_path / "there", tmp_path / "registry"
    for path in (*FLOAT[:2], WITH_WEIGHTS):
        add(path, there)
    shutil.copytree(RESULTS / "registered", there / "registered")
    asked = cli("merge", str(there), "--dry-run")
    assert (asked.returncode, asked.stdout.count("would be added: ")) == (0, 3 + len(list(there.glob("registered/*"))))
    assert not here.exists()
    done = cli("merge", str(there))
    assert done.stdout == asked.stdout.replace("would be ", "")
    assert f"added: {WITH_WEIGHTS.parent.name}/{WITH_WEIGHTS.stem}: seed 1234, test error 0.830 %, with weights" in (
        done.stdout
    )
    assert "cli.py table --write` brings" in done.stderr
    again = cli("merge", str(there), "--json")
    found = json.loads(again.stdout)
    assert (again.returncode, found["added"], found["known"], found["refused"]) == (0, [], 3, [])
    assert cli("table", "--write").returncode == 0
    assert cli("verify", "--extends", str(there)).returncode == 0
    next(here.glob("registered/*")).unlink()
    lacking = cli("verify", "--extends", str(there))
    assert (lacking.returncode, lacking.stdout.count(f"that {there} has: lines are never removed")) == (7, 1)


def test_what_is_refused_is_one_line_each_and_the_rest_comes_in(cli, tmp_path):
    there = tmp_path / "there"
    for path in FLOAT[:2]:
        add(path, there)
    bad, good = (there / path.relative_to(RESULTS) for path in FLOAT[:2])
    bad.write_bytes(bad.read_bytes().replace(b'"paper":"', b'"paper":"x'))
    result = cli("merge", str(there))
    assert result.returncode == 7
    assert result.stdout.count("refused: ") == 1
    assert f"refused: {bad}: paper: was changed after the record was written" in result.stdout
    assert [path.name for path in tmp_path.glob("registry/runs/*/*")] == [good.name]
    for place in ("absent", str(tmp_path / "registry" / "runs" / "x.json")):
        refused = cli("merge", place)
        assert (refused.returncode, refused.stdout) == (1, "")
        assert refused.stderr.startswith(f"error: {place}: has no record and no registered group: expected a registry")


@pytest.fixture
def checkout(cli, tmp_path):
    """A registry of one record, with the README and the table that follow from it."""
    results = tmp_path / "results"
    add(FLOAT[0], results)
    (tmp_path / "README.md").write_text(f"{BEGIN}\n{END}\n")
    assert cli("table", "--write", "--registry", str(results / "runs")).returncode == 0
    return results


@pytest.mark.parametrize(
    ("file", "content", "found"),
    [
        ("reevaluated/x.jsonl", b"{}\n", "reevaluated/x.jsonl: line 1: "),
        ("accepted_changes.json", b'[{"record":"x","figure":"speed","reason":"y"}]', "accepted_changes.json: "),
        ("registered/x.jsonl", b"{}\n", "registered/x.jsonl: line 1: "),
        ("weights/chawla-mlp-mnist-float/x.safetensors", b"", "x.safetensors: content: belongs to no record"),
        ("runs/x", b"", "runs/x: content: is a file that does not belong here"),
        ("table.csv", b"", "table.csv: "),
        ("../README.md", f"{BEGIN}\n{END}\n".encode(), "README.md: "),
    ],
)
def test_verify_asks_for_all_that_belongs_to_records(checkout, cli, file, content, found):
    """Each check has tests of its own; here: the command carries it out, and its exit code tells."""
    root = checkout / "runs"
    result = cli("verify", "--registry", str(root))
    assert (result.returncode, result.stdout) == (0, "1 record, all valid\n")
    path = checkout / file
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    result = cli("verify", "--registry", str(root))
    assert (result.returncode, result.stdout.splitlines()[-1]) == (7, "1 record, 1 problem")
    assert found in result.stdout


def test_verify_and_merge_hold_a_record_to_the_catalog(checkout, cli, tmp_path):
    """Nothing in the record contradicts anything else in it: only the catalog has another published error."""
    record = from_bytes(of_today(FLOAT[1].read_bytes()), "record")
    other = msgspec.structs.replace(record, target=msgspec.structs.replace(record.target, test_error=9.9))
    path = registry.write(seal(other), tmp_path / "there" / "runs")
    merged = cli("merge", str(path), "--registry", str(checkout / "runs"))
    assert (merged.returncode, merged.stdout.count("refused: ")) == (7, 1)
    assert "target.test_error" in merged.stdout
    verified = cli("verify", "--registry", str(tmp_path / "there" / "runs"))
    assert (verified.returncode, verified.stdout.splitlines()[-1]) == (7, "1 record, 1 problem")
    assert f"{path}: target.test_error: " in verified.stdout


# -- two branches ------------------------------------------------------------------------------------------------------


def git(*arguments: str, cwd: Path) -> str:
    settings = ["-c", "user.name=somebody", "-c", "user.email=somebody@example.org", "-c", "merge.conflictStyle=merge"]
    result = subprocess.run(["git", *settings, *arguments], cwd=cwd, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


@pytest.fixture
def project(tmp_path, cli):
    """A repository of git's with a table of one record, one registered group and no word of a second one."""
    project = tmp_path / "project"
    add(FLOAT[0], project / "results")
    shutil.copy(REPOSITORY / ".gitattributes", project)
    (project / "README.md").write_text(f"# A project\n\n{BEGIN}\n{END}\n\nProse.\n")
    root = project / "results" / "runs"
    registered.register(root, KEY, 1, None, time="2024-05-01T12:00:00Z")
    assert cli("table", "--write", "--registry", str(root)).returncode == 0
    git("init", "--quiet", "--initial-branch=main", cwd=project)
    commit(project)
    return project


def commit(project: Path) -> None:
    git("add", "--all", cwd=project)
    git("commit", "--quiet", "--message", "results", cwd=project)


def test_two_branches_that_add_runs_of_the_same_benchmark_merge_without_conflict(project, cli):
    """By plain `git merge`; what is derived is then mended by `table --write`."""
    root = project / "results" / "runs"
    for number, name in enumerate(("one", "other"), 1):
        git("switch", "--quiet", "--create", name, "main", cwd=project)
        add(FLOAT[number], project / "results")
        group = registered.register(root, KEY._replace(engine=name), 1, None, time=f"2024-05-0{4 - number}T12:00:00Z")
        registered.launched(root, group, number)
        registered.launched(root, registered.read(root, KEY.benchmark)[0], number)
        assert cli("table", "--write", "--registry", str(root)).returncode == 0
        assert cli("verify", "--registry", str(root)).returncode == 0
        commit(project)
    git("switch", "--quiet", "main", cwd=project)
    git("merge", "--quiet", "one", cwd=project)
    git("merge", "--quiet", "--no-edit", "other", cwd=project)
    assert git("status", "--porcelain", cwd=project) == ""

    found = {group.key.engine: list(group.last_event) for group in registered.read(root, KEY.benchmark)}
    assert found == {"gluon": [1, 2], "other": [2], "one": [1]}
    result = cli("verify", "--registry", str(root))
    assert (result.returncode, len(re.findall(r"table --registry \S+ --write` mends it", result.stdout))) == (7, 2)
    assert cli("table", "--write", "--registry", str(root)).returncode == 0
    result = cli("verify", "--registry", str(root))
    assert (result.returncode, result.stdout) == (0, "3 records, all valid\n")
    assert (project / "README.md").read_text().count("Prose.") == 1


# -- submit ------------------------------------------------------------------------------------------------------------


def test_a_contribution_is_its_files_and_the_text_of_its_pull_request(cli, tmp_path):
    out = tmp_path / "new" / "contribution"
    ids = [path.stem for path in FLOAT]
    made = cli("submit", *ids, "--registry", str(RESULTS / "runs"), "--out", str(out))
    assert made.returncode == 0, made.stderr
    files = {str(path.relative_to(out)) for path in out.rglob("*.*")}
    assert files == {
        *(f"results/runs/{path.parent.name}/{path.name}" for path in FLOAT),
        f"results/registered/{KEY.benchmark}.jsonl",
        *("title.txt", "body.md"),
    }
    assert (out / "title.txt").read_text() == (
        "chawla-mlp-mnist-float: seeds 1, 2, 1234 on gluon cpu, 3.040 % against 3.13 %\n"
    )
    body = (out / "body.md").read_text()
    assert "akshaychawla: 3.13 % of 10,000 test images wrong (README at ff813d5" in body
    assert "| 1 | 3.130 | 192 | finished | `ad944925f69c3244` | not published |" in body
    assert "claim 3.13, margin 0.348" in body
    assert "Seeds of the registered group that are not in this contribution: 3 (finished), " in body
    assert (
        "\ngit checkout 851c97b4eeeda328fee470ff4289a9e709aa05cc\npython cli.py reproduce chawla-mlp-mnist-float"
        in body
    )
    assert "gluon on Intel\\(R\\) Xeon" in body or "gluon on Intel(R) Xeon" in body
    (group,) = {event.group for event in registered.events(out / f"results/registered/{KEY.benchmark}.jsonl")}
    assert group == name_of(KEY)

    merged = cli("merge", str(out))
    assert (merged.returncode, merged.stdout.count("added: ")) == (0, 4)
    again = cli("submit", ids[0], "--out", str(out))
    assert (again.returncode, "is not empty: expected a new or empty folder" in again.stderr) == (1, True)


def test_published_weights_are_a_part_of_it(cli, tmp_path):
    made = cli("submit", WITH_WEIGHTS.stem, "--registry", str(RESULTS / "runs"), "--out", str(tmp_path / "c"), "--json")
    found = json.loads(made.stdout)
    name = f"results/weights/{WITH_WEIGHTS.parent.name}/{WITH_WEIGHTS.stem}.safetensors"
    assert name in found["files"]
    assert (tmp_path / "c" / name).read_bytes() == (RESULTS.parent / name).read_bytes()
    assert "is no run of the registered group: it began before the group was registered." in found["body"]


@pytest.mark.parametrize("form", ["an earlier version's", "one that says otherwise of its network"])
def test_weights_that_come_in_are_stored_as_this_version_has_them(cli, tmp_path, form):
    add(WITH_WEIGHTS, tmp_path / "other" / "results")
    name = f"weights/{WITH_WEIGHTS.parent.name}/{WITH_WEIGHTS.stem}.safetensors"
    there, ours = tmp_path / "other" / "results" / name, RESULTS / name
    if form == "an earlier version's":
        packed = packed_at(there, there.stat().st_size)
        assert packed is not None
        there.unlink()
        there.with_suffix(".weights").write_bytes(packed)
    else:
        there.write_bytes(ours.read_bytes().replace(b"Pixels are scaled to [0, 1]", b"Pixels are scaled to [0, 9]"))
        found = cli("verify", "--registry", str(tmp_path / "other" / "results" / "runs"))
        assert (found.returncode, "say otherwise of the network than its record" in found.stdout) == (7, True)
    merged = cli("merge", str(tmp_path / "other"))
    assert (merged.returncode, merged.stdout.count("added: ")) == (0, 1)
    here = tmp_path / "registry" / name
    assert here.read_bytes() == ours.read_bytes()
    assert [path.name for path in here.parent.iterdir()] == [here.name]
    assert cli("export", "--safetensors").stdout == ""
    here.write_bytes(b"otherwise")
    refused = cli("export", "--safetensors")
    assert (refused.returncode, refused.stdout) == (7, "")
    assert refused.stderr.startswith(f"error: {here}: is no whole .safetensors file")
    assert refused.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--qonnx"], "--qonnx goes with --onnx ID"),
        (["--onnx", "x", "--format", "csv"], "--onnx goes with --qonnx, --out, --registry and --data alone"),
        (["--safetensors", "--out", "x"], "--safetensors goes with --registry alone"),
    ],
)
def test_what_does_not_go_together_is_refused(cli, options, message):
    result = cli("export", *options)
    assert (result.returncode, message in result.stderr) == (2, True)


def sealed(path: Path, **changes: object) -> Record:
    """A real record with other facts of its last sitting, named by them."""
    record = from_bytes(of_today(path.read_bytes()), "record")
    *before, last = record.sittings
    return seal(msgspec.structs.replace(record, sittings=[*before, msgspec.structs.replace(last, **changes)]))


def test_what_is_no_contribution_is_told_and_nothing_is_written(cli, tmp_path):
    root, out = tmp_path / "registry" / "runs", tmp_path / "c"
    engine = from_bytes(of_today(FLOAT[0].read_bytes()), "record").engine
    cases = {
        "its code was not that of a commit: files differed from 851c97b4": {"dirty": True, "diff_sha256": "0" * 64},
        "no commit is known of its code": {"commit": None},
        "has a path of a machine (/opt/cuda)": {"engine": msgspec.structs.replace(engine, features=["in /opt/cuda"])},
    }
    for said, changes in cases.items():
        refused = cli("submit", registry.write(sealed(FLOAT[0], **changes), root).stem, "--out", str(out))
        assert (refused.returncode, refused.stdout) == (1, "")
        assert refused.stderr.count("\n") == 1
        assert said in refused.stderr
    for runs, said in (
        ([str(FLOAT[0])], "is not in the registry"),
        ([str(FLOAT[0]), str(WITH_WEIGHTS)], "expected one benchmark, engine and precision"),
    ):
        refused = cli("submit", *runs, "--out", str(out))
        assert (refused.returncode, refused.stdout, said in refused.stderr) == (1, "", True)
    unknown = cli("submit", "nothing", "--out", str(out))
    assert (unknown.returncode, "no record 'nothing' under" in unknown.stderr) == (7, True)
    assert not out.exists()


@pytest.mark.parametrize(
    "text", ["CUDA 12.4 on H100", "https://example.org/a/b", "and/or", "train/valid", "AMD EPYC / 2"]
)
def test_what_names_no_machine_is_let_through(text):
    assert local(text) == ""


def test_host_and_user_are_found_as_words(monkeypatch):
    monkeypatch.setattr(socket, "gethostname", lambda: "kea-17")
    monkeypatch.setattr(getpass, "getuser", lambda: "ann")
    assert local("H100 at kea-17, CUDA") == "the name of this host (kea-17)"
    assert local("of ann") == "the name of this user (ann)"
    assert local("kea-170 and annual") == ""


# -- the workflow ------------------------------------------------------------------------------------------------------


def test_the_workflow_lets_contributions_through_and_none_that_removes_something(cli, tmp_path):
    """Its own commands, but for the measuring, on the results before and after a pull request."""
    (job,) = yaml.safe_load((REPOSITORY / ".github" / "workflows" / "submission.yml").read_text())["jobs"].values()
    lines = [step["run"].split() for step in job["steps"] if "run" in step]
    assert lines[0][:4] == ["python", "-m", "pip", "install"]
    assert [line[:2] for line in lines[1:]] == [["python", "cli.py"]] * (len(lines) - 1)
    assert "--recompute" in lines[-1]
    before, after = tmp_path / "before", tmp_path / "submission" / "results"
    places = {"results": str(before), "submission/results/runs": str(after / "runs")}

    def verified() -> list[int]:
        commands = [[places.get(word, word) for word in line[2:] if word != "--recompute"] for line in lines[1:]]
        return [cli(*command).returncode for command in commands]

    group = registered.register(before / "runs", KEY, 1, None, time="2024-05-01T12:00:00Z")
    add(FLOAT[0], before)
    shutil.copytree(before, after)
    registered.launched(after / "runs", group, 1)
    add(FLOAT[1], after)
    add(WITH_WEIGHTS, after)
    assert verified() == [0, 0]
    (after / FLOAT[0].relative_to(RESULTS)).unlink()
    assert verified() == [0, 7]


# -- what is measured again --------------------------------------------------------------------------------------------


def forged(path: Path) -> Record:
    """The record with so many more test images right that it is better by 0.3 %; else consistent, named and sealed."""
    record = from_bytes(of_today(path.read_bytes()), "record")
    epoch = record.results.declared.epoch
    correct = unpack_bits(record.test_correct, record.data.test.images)
    correct[np.flatnonzero(~correct)[:30]] = True
    wrong, errors = list(record.curve.test_wrong), list(record.curve.test_error)
    wrong[epoch - 1] -= 30
    errors[epoch - 1] = error_percent(wrong[epoch - 1], record.data.test.images)
    curve = msgspec.structs.replace(record.curve, test_wrong=wrong, test_error=errors)
    return seal(msgspec.structs.replace(record, curve=curve, test_correct=pack_bits(correct)))


@pytest.mark.slow
@pytest.mark.data
def test_a_forged_record_is_found_where_weights_are_published(cli, real_data, tmp_path):
    """Its hashes are right, and so is all that follows from something in it; only its network says otherwise."""
    root = tmp_path / "registry" / "runs"
    weights = RESULTS / "weights" / WITH_WEIGHTS.parent.name / f"{WITH_WEIGHTS.stem}.safetensors"
    record = forged(WITH_WEIGHTS)
    path = registry.write(record, root, packed_at(weights, weights.stat().st_size))
    add(FLOAT[0], root.parent)
    assert cli("table", "--write").returncode == 0
    valid = cli("verify")
    assert (valid.returncode, valid.stdout) == (0, "2 records, all valid\n")
    found = cli("verify", "--recompute", "--data", str(real_data))
    assert found.returncode == 7
    assert f"{path}: test_correct: has 83 of 10,000 test images wrong when re-evaluated: " in found.stdout
    assert f"{FLOAT[0].parent.name}/{FLOAT[0].stem}: not re-evaluated: no weights are published\n" in found.stdout
    assert found.stdout.endswith("2 records, 1 problem\n")
    true = cli("merge", str(WITH_WEIGHTS))  # of one network two records say otherwise: neither is taken for granted
    assert (true.returncode, true.stdout.count("which has other test images right")) == (7, 1)
