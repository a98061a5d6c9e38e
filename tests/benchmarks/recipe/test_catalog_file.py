"""Catalog files as people write them: all that is wrong is said at once, and nothing that is wrong is read."""

from __future__ import annotations

import copy
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st
from published import first

import cli
from benchmarks.paths import CATALOG
from benchmarks.recipe import catalog_file, catalog_files, explain, load_recipe, read_catalog_file, summaries
from benchmarks.recipe import loading as recipe
from benchmarks.recipe.settings import flatten

SOURCE = CATALOG / "binaryconnect" / "binaryconnect-mnist.yaml"
CONTENT = yaml.safe_load(SOURCE.read_text())


def problems(path: Path) -> list[str]:
    with pytest.raises(catalog_file.CatalogError) as caught:
        catalog_file.read(path)
    return caught.value.problems


def write(folder: Path, content: dict[str, Any], name: str = SOURCE.name) -> Path:
    path = folder / name
    path.write_text(yaml.safe_dump(content))
    return path


def changed(**changes: Any) -> dict[str, Any]:
    """The content of a file that is right, with the values at these dotted places changed; None removes one."""
    content = copy.deepcopy(CONTENT)
    for place, value in changes.items():
        *groups, name = place.split("__")
        part = content
        for group in groups:
            part = part[group]
        if value is None:
            del part[name]
        else:
            part[name] = value
    return content


def test_everything_that_is_wrong_is_said_at_once(tmp_path):
    content = changed(
        title=None, paper__url=None, target__test_error="abc", train__epochs=None, train__lr_start__value="fast",
        model__optimizer__value="adm", model__loss="cross_entropy", data__valid_images__source="",
        model__epochs={"value": 1, "source": "x"}, protcol={},
    )  # fmt: skip
    assert problems(write(tmp_path, content)) == [
        "'protcol': unknown key: did you mean protocol?",
        "title is missing: expected text",
        "paper.url is missing: expected text",
        "target.test_error: expected percent in quotation marks, above 0 and below 100, with the decimals printed, as"
        " \"8.27\", not 'abc'",
        "model.epochs: unknown setting: did you mean train.epochs?",
        "model.loss: expected {value: ..., source: ...}, not 'cross_entropy'",
        "model.optimizer: expected adam or keras_adam or sgd or shift_adamax or torch_adam, not 'adm': did you mean"
        " adam?",
        "train.lr_start: expected a number, above 0, not 'fast'",
        "train.epochs is missing: expected a whole number, at least 1, at most 10000000",
        "data.valid_images: expected text, and it is empty",
    ]


def test_all_values_that_do_not_go_together_are_said_at_once(tmp_path):
    content = changed(
        train__batch_size__value=60000, train__lr_final__value=1.0, model__weights__value="binary", data__subset=
        {"value": "train_digits", "source": "x"},
    )  # fmt: skip
    found = problems(write(tmp_path, content))
    beginnings = ["data.train_images=50000", "train.lr_final=1.0", "model.weights=binary", "data.subset=train_digits"]
    assert [problem.partition(":")[0] for problem in found] == beginnings


@pytest.mark.parametrize("target", ["abc", "nan", "-5", "1e400", "inf", "0", "0.0", "100", "", 1.15, ["1"], "1,15"])
def test_a_target_is_a_percentage_as_it_is_printed(tmp_path, target):
    path = write(tmp_path, changed(target__test_error=target))
    (problem,) = problems(path)
    assert problem.startswith("target.test_error: expected percent in quotation marks")
    with pytest.raises(catalog_file.CatalogError, match=r"target\.test_error"):
        catalog_file.read_head(path)


@pytest.mark.parametrize(
    ("text", "value"), [("1e-4", 1e-4), ("1E3", 1e3), ("+.5e-1", 0.05), ("1.e-4", 1e-4), ("0.5", 0.5), ("2", 2.0)]
)
def test_numbers_are_read_as_yaml_1_2_has_them(tmp_path, text, value):
    path = tmp_path / SOURCE.name
    path.write_text(SOURCE.read_text().replace("{value: 1.0e-4, source", f"{{value: {text}, source"))
    if value < 1e3:
        assert read_catalog_file(path).model.batch_norm_epsilon == value
    assert yaml.load(f"a: {text}", Loader=catalog_file._Loader)["a"] == value  # noqa: S506 - a safe loader


@pytest.mark.parametrize("text", [".inf", "-.inf", ".nan", "1e400", "0100", "1_000", "1:30", "0x10", "9" * 5000, "2.5"])
def test_what_could_be_another_number_is_none(tmp_path, text):
    path = tmp_path / SOURCE.name
    path.write_text(SOURCE.read_text().replace("{value: 250,", f"{{value: {text},"))
    (problem,) = problems(path)
    assert problem.startswith("train.epochs: expected a whole number, at least 1, at most 10000000, not ")
    assert len(problem) < 200


@pytest.mark.parametrize("text", [".inf", "1e400", "-.inf", ".nan", "1e-400"])
def test_a_number_is_finite(tmp_path, text):
    path = tmp_path / SOURCE.name
    path.write_text(SOURCE.read_text().replace("{value: 1.0e-3, source", f"{{value: {text}, source"))
    assert problems(path)[0].startswith("train.lr_start: expected a number, above 0, not ")


def test_a_key_that_stands_twice_is_refused(tmp_path):
    path = tmp_path / SOURCE.name
    path.write_text(
        SOURCE.read_text().replace("  epochs: ", "  epochs: {value: 1, source: x}\n  epochs: ") + "\nid: x\n"
    )
    found = problems(path)
    assert [problem.split()[0] for problem in found[:2]] == ["'id'", "'epochs'"]
    assert all(problem.endswith("the key stands there twice") for problem in found[:2])


@pytest.mark.parametrize(
    ("variant_of", "complaint"),
    [
        ("binaryconnect-mnist", "is in the end a variant of itself"),
        ("other", "is in the end a variant of itself"),
        ("../x", "expected the id of a benchmark in the same folder, not '../x'"),
        (3, "expected the id of a benchmark in the same folder, not 3"),
        ("othr", "there is no othr in this folder: did you mean other?"),
    ],
)
def test_a_variant_is_of_another_benchmark_beside_it(tmp_path, variant_of, complaint):
    write(tmp_path, {"id": "other", "variant_of": "binaryconnect-mnist", "title": "x"}, "other.yaml")
    path = write(tmp_path, changed(variant_of=variant_of))
    for read in (catalog_file.read, catalog_file.read_head):
        with pytest.raises(catalog_file.CatalogError, match=complaint):
            read(path)


@pytest.mark.parametrize(
    "text",
    [
        b"\xff\xfe\x00", b"id: [", b"id: &a [*a]", b"id: " + b"[" * 3000, b"? [a]\n: b", b"id: !!python/name:os.x",
        b"- 1", b"", b"a: *b", b"id: 2020-01-01", b"variant_of: [x]\n", b"<<: 3\n", b"paper: &p {a: *p}\n",
    ],
)  # fmt: skip
def test_whatever_a_file_holds_it_is_one_line(tmp_path, text):
    path = tmp_path / "mine.yaml"
    path.write_bytes(text)
    with pytest.raises(catalog_file.CatalogError) as caught:
        catalog_file.read(path)
    assert str(caught.value).isprintable()
    with pytest.raises(catalog_file.CatalogError):
        catalog_file.read_head(path)


ANYTHING = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=8), st.just([]), st.just({}), st.just([[1]])
)


@given(st.sampled_from(sorted(flatten(load_recipe(SOURCE.stem).settings))), ANYTHING)
def test_any_value_is_read_as_it_stands_or_refused(tmp_path_factory, key, value):
    group, name = key.split(".")
    content = copy.deepcopy(CONTENT)
    content[group][name] = {"value": value, "source": "x"}
    path = write(tmp_path_factory.mktemp("any"), content)
    try:
        found = flatten(read_catalog_file(path).settings)[key]
    except catalog_file.CatalogError as error:
        assert any(problem.startswith((key, "data.", "model.", "train.", "protocol.")) for problem in error.problems)  # noqa: PT017 - refusing is one of two good answers
    else:
        assert found == value


def test_the_order_of_a_file_changes_nothing(tmp_path):
    """`list` reads what stands before the model, where it stands there."""
    ordered, whole = write(tmp_path, CONTENT), catalog_file.read_head(SOURCE)
    assert ordered.read_text().index("\nmodel:") < ordered.read_text().index("\ntitle:")
    assert catalog_file.read_head(ordered) == whole
    variant = tmp_path / "variant.yaml"
    variant.write_text(
        "id: variant\nvariant_of: binaryconnect-mnist\ntitle: x\ntarget: null\nmodel: {}\n"
        "data:\n  dataset: {value: mnist-small, source: x}\n"
    )
    assert catalog_file.read_head(variant).dataset == "mnist-small"


# -- the catalog as a whole ------------------------------------------------------------------------------------------


def test_a_folder_that_cannot_be_read_is_said(tmp_path):
    """A link that leads back to itself, which `glob` passes over without a word."""
    (tmp_path / "loop").symlink_to("loop")
    with pytest.raises(recipe.RecipeError, match="catalog folder loop: it cannot be read: Too many levels"):
        catalog_files(tmp_path)


def test_what_is_no_file_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe.yaml")
    assert problems(tmp_path / "pipe.yaml") == ["it is no file"]


@pytest.fixture
def own_catalog(tmp_path, monkeypatch):
    """A catalog of BinaryConnect's MNIST alone, and a way to carry out commands with it."""
    folder = tmp_path / "binaryconnect"
    folder.mkdir()
    (folder / SOURCE.name).write_text(SOURCE.read_text())
    monkeypatch.setattr(recipe, "CATALOG", tmp_path)
    monkeypatch.setenv("BNN_REGISTRY", str(tmp_path / "registry"))
    recipe._catalog_files.cache_clear()
    yield lambda *arguments: (recipe._catalog_files.cache_clear(), CliRunner().invoke(cli.cli, arguments))[1]
    recipe._catalog_files.cache_clear()


def test_a_malformed_draft_is_a_warning_of_list_and_an_error_of_what_needs_it(own_catalog, tmp_path):
    (tmp_path / "binaryconnect" / "draft.yaml").write_text("id: draft\ntitle: [\n")
    listed = own_catalog("list")
    assert listed.exit_code == 0
    assert "binaryconnect-mnist " in listed.stdout
    assert listed.stderr.startswith("warning: catalog file draft.yaml: ")
    assert own_catalog("show", "binaryconnect-mnist").exit_code == 0
    assert own_catalog("show", "draft").exit_code == 2
    with pytest.raises(recipe.RecipeError, match=r"draft\.yaml"):
        summaries()


def test_a_malformed_draft_stops_nothing_that_is_of_others(own_catalog, tmp_path):
    (tmp_path / "binaryconnect" / "draft.yaml").write_text("id: draft\ntitle: [\n")
    root = tmp_path / "results" / "runs"
    (root / "binaryconnect-mnist").mkdir(parents=True)
    shutil.copy(first("binaryconnect-mnist"), root / "binaryconnect-mnist")
    for *arguments, exit_code in (
        ("table", "--write", 0), ("verify", 0), ("check", "binaryconnect-mnist", 4), ("export", "--format", "csv", 0),
        ("export", "--html", str(tmp_path / "site"), 0),
    ):  # fmt: skip
        result = own_catalog(*arguments, "--registry", str(root))
        assert (result.exit_code, "warning: catalog file draft.yaml: " in result.stderr) == (exit_code, True), arguments
    explain.uses.cache_clear()
    assert own_catalog("show", "binaryconnect-mnist", "--explain", "model.weights").exit_code == 0
    explain.uses.cache_clear()
    catalog_file._parse_head.cache_clear()
    (tmp_path / "binaryconnect" / SOURCE.name).write_text("id: binaryconnect-mnist\ntitle: [\n")  # which has a record
    for arguments in (("table",), ("check",), ("export", "--format", "csv")):
        result = own_catalog(*arguments, "--registry", str(root))
        assert (result.exit_code, result.stderr.startswith("error: catalog file ")) == (2, True), arguments


def test_a_draft_is_what_it_was_made_from_once_its_sources_are_there(own_catalog, tmp_path):
    drafted = own_catalog("new", "mine", "--from", "binaryconnect-mnist", "--folder", "my-paper")
    assert drafted.exit_code == 0, drafted.output
    path = tmp_path / "my-paper" / "mine.yaml"
    refused = own_catalog("validate", str(path))
    assert refused.exit_code == 2
    assert refused.stdout.startswith("still TODO, to be looked up: title, paper.name, ")
    assert refused.stdout.endswith("mine.yaml: 1 problem\n")
    assert own_catalog("reproduce", "mine").exit_code == 2
    text = path.read_text().replace("test_error: TODO", 'test_error: "1.0"').replace("TODO", "x")
    path.write_text(text)
    accepted = own_catalog("validate", str(path))
    assert (accepted.exit_code, accepted.stdout) == (0, f"{path}: nothing is wrong with it\n")
    assert read_catalog_file(path).digest == load_recipe("binaryconnect-mnist").digest
    # Those at their defaults stand there too, as comments.
    named = {line.split(":")[0].strip(" #") for line in text.splitlines() if "{value:" in line}
    assert named == {key.partition(".")[2] for key in flatten(load_recipe("binaryconnect-mnist").settings)}


def test_a_draft_overwrites_nothing(own_catalog, tmp_path):
    for name, complaint in (
        ("binaryconnect-mnist", "in the catalog already"),
        ("../x", "expected lower-case letters"),
    ):
        refused = own_catalog("new", name, "--from", "binaryconnect-mnist")
        assert refused.exit_code == 2
        assert complaint in refused.stderr
    assert [path.name for path in tmp_path.rglob("*.yaml")] == [SOURCE.name]


def test_a_file_whose_id_another_has_is_not_valid(own_catalog, tmp_path):
    copied = tmp_path / SOURCE.name
    copied.write_text(SOURCE.read_text())
    result = own_catalog("validate", str(copied), "--json")
    assert result.exit_code == 2
    assert "binaryconnect/binaryconnect-mnist.yaml has it already" in result.stdout


def test_a_few_lines_that_stand_for_a_value_without_end_are_refused(tmp_path):
    """Ten lists of ten, each ten times in the next, twelve deep."""
    rows = ["id: bomb", f"a0: &a0 [{', '.join(10 * 'x')}]"]
    rows += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 12)]
    path = tmp_path / "bomb.yaml"
    path.write_text("\n".join([*rows, "title: *a11", "paper: {name: *a11}"]))
    assert problems(path) == ["it has an alias (*name): expected each value where it is meant"]
    with pytest.raises(catalog_file.CatalogError, match="alias"):
        catalog_file.read_head(path)


def test_a_huge_file_is_not_read(tmp_path):
    path = tmp_path / "huge.yaml"
    with path.open("wb") as file:
        file.truncate(2**40)
    assert problems(path) == ["it has 1,099,511,627,776 bytes, expected 1,000,000 at most"]
