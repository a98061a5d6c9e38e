"""What the leaderboard shows, from this repository's own catalog and registry, and as a site."""

from __future__ import annotations

import base64
import hashlib
import html.parser
import json
import os.path
import re
import urllib.parse
from pathlib import Path
from xml.etree import ElementTree

import msgspec
import pytest
from record_factory import ENGINE, make_record

from benchmarks.leaderboard import collect, groups, leaderboard
from benchmarks.leaderboard.images import TestImages
from benchmarks.paths import REPOSITORY
from results import reevaluations, registry
from results.errors import RegistryFileError
from results.record import Record, seal, unpack_bits
from results.reevaluations import Reevaluation
from results.views.html import site, write_site
from results.views.html.charts import axis
from results.views.leaderboard import TIERS, Benchmark, Group, Leaderboard, Seed

REGISTRY = REPOSITORY / "results" / "runs"
HOSTILE = """<script>alert(1)</script><img src=x onerror=alert(2)>"'&{{ 7*7 }}</title>"""


def quiet(line: str) -> None:
    raise AssertionError(line)


@pytest.fixture(scope="module")
def board() -> Leaderboard:
    return leaderboard(registry.read_all(REGISTRY, quiet), REGISTRY, quiet)


@pytest.fixture(scope="module")
def files(board: Leaderboard) -> dict[str, bytes]:
    return site(board, "a,b\n")


class Page(html.parser.HTMLParser):
    """Addresses, ids, what is loaded, texts in <style> and <script>, and whether every element that began has ended."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.addresses: list[str] = []
        self.loaded: list[str] = []
        self.ids: list[str] = []
        self.policy = ""
        self.open: list[str] = []
        self.own: dict[str, str] = {}
        self.attributes: set[str] = set()
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        found = {name: value or "" for name, value in attributes}
        self.attributes |= found.keys()
        if tag not in ("meta", "link", "input", "img", "br"):
            self.open.append(tag)
        if "id" in found:
            self.ids.append(found["id"])
        if tag == "a":  # without an address where a catalog's story points into its repository
            self.addresses += [found["href"]] if "href" in found else []
        elif "href" in found or "src" in found:
            self.loaded.append(found.get("href", found.get("src", "")))
        if found.get("http-equiv") == "Content-Security-Policy":
            self.policy = found["content"]

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] in ("style", "script"):
            self.own[self.open[-1]] = self.own.get(self.open[-1], "") + data


def parsed(text: bytes) -> ElementTree.Element:
    return ElementTree.fromstring(text)  # noqa: S314  # what this program has made itself


def pages(files: dict[str, bytes]) -> dict[str, Page]:
    return {path: Page(data.decode()) for path, data in files.items() if path.endswith(".html")}


# -- what is shown -----------------------------------------------------------------------------------------------------


def test_every_benchmark_paper_and_record_is_there(board):
    assert [benchmark.id for benchmark in board.benchmarks] == sorted(collect.benchmark_ids())
    assert {run.id for run in board.runs} == {path.stem for path in REGISTRY.glob("*/*.json")}
    assert {name for paper in board.papers for name in paper.benchmarks} == {b.id for b in board.benchmarks}
    assert all(paper.story for paper in board.papers)
    assert {benchmark.tier for benchmark in board.benchmarks} <= TIERS.keys()
    assert [run.problems for run in board.runs if run.problems] == []


def test_a_judged_group_is_shown_with_its_verdict(board):
    benchmark = next(b for b in board.benchmarks if b.id == "binaryconnect-mnist")
    assert benchmark.tier == "judged"
    assert benchmark.word == "reproduced"
    group = benchmark.group
    assert group is not None
    assert (group.engine, group.runs, group.wanted) == ("torch", 5, 5)
    assert group.mean == pytest.approx(sum(seed.test_error for seed in group.seeds) / 5)
    assert benchmark.cost.is_measured
    assert "H100" in benchmark.cost.device


def test_what_all_runs_get_wrong_is_what_the_records_say(board):
    own = [record for _, record in registry.read_all(REGISTRY, quiet) if record.benchmark == "binaryconnect-mnist"]
    torch = [record for record in own if record.engine.name == "torch"]
    never_right = ~sum(unpack_bits(record.test_correct or "", 10_000) for record in torch).astype(bool)
    (group,) = [g for b in board.benchmarks if b.id == "binaryconnect-mnist" for g in b.groups if g.engine == "torch"]
    assert group.always_wrong == never_right.nonzero()[0].tolist()


def test_a_projected_time_is_marked_and_what_is_tested_in_real_values_has_32_bits(board):
    by_id = {benchmark.id: benchmark for benchmark in board.benchmarks}
    assert not by_id["binaryconnect-cifar10"].cost.is_measured
    assert by_id["binaryconnect-cifar10"].cost.hours > 24
    assert by_id["binaryconnect-cifar10"].network.weight_bits == [32]
    assert by_id["binaryconnect-cifar10-deterministic"].network.weight_bits == [1]
    assert by_id["binarynet-cifar10"].network.activation_bits == [1]
    assert by_id["rwth-lenet5-mnist-tern1"].network.weight_bits == [1, 2]


def test_errors_by_class_and_pictures():
    import numpy as np

    images = np.linspace(0, 1, 400 * 4).reshape(400, 1, 2, 2).astype(np.float32)
    labels = np.arange(400) % 2
    records = [make_record(seed) for seed in (1, 2)]
    found = TestImages(images, labels, ["even", "odd"])
    wrong = [~unpack_bits(record.test_correct or "", 400) for record in records]
    expected = [100 * np.mean([w[labels == label].mean() for w in wrong]) for label in (0, 1)]
    assert [name for name, _ in found.class_errors(records)] == ["even", "odd"]
    assert [error for _, error in found.class_errors(records)] == pytest.approx(expected)
    assert TestImages(images[:1], labels[:1], ["even", "odd"]).class_errors(records) == []
    (picture,) = found.pictures([3])
    assert (picture.index, picture.label) == (3, "odd")
    assert base64.b64decode(picture.address.removeprefix("data:image/png;base64,")).startswith(b"\x89PNG")


def a_group(**changes) -> Group:
    values = {
        "engine": "gluon", "device": "cpu", "precision": "float32", "registered": "2026-01-01T00:00:00Z",
        "is_current": True, "word": "reproduced", "meaning": "", "lines": [], "mean": 1.0, "deviation": None,
        "standard_error": None, "interval": None, "runs": 5, "wanted": 5, "seeds": [], "last_run": "",
        "always_wrong": None,
    }  # fmt: skip
    return Group(**(values | changes))


def test_the_row_shows_the_judged_group_then_the_larger_one():
    judged, running = a_group(), a_group(runs=4, word="interim, 4 of 5 seeds")
    first_look = a_group(registered=None, runs=1, wanted=1, word="provisional")
    superseded, empty = a_group(is_current=False), a_group(runs=0, word="not measured")
    order = [superseded, empty, first_look, running, judged]
    ranked = sorted(range(len(order)), key=lambda index: groups.rank(order[index], index))
    assert [order[index] for index in ranked] == [judged, running, first_look, empty, superseded]


@pytest.mark.parametrize(
    ("group", "tier"),
    [
        (None, "claimed"),
        (a_group(runs=0, word="not measured"), "claimed"),
        (a_group(registered=None, runs=1, wanted=1, word="provisional"), "ran"),
        (a_group(runs=4, word="interim, 4 of 5 seeds"), "ran"),
        (a_group(is_current=False), "ran"),
        (a_group(word="not reproduced"), "judged"),
        (a_group(word="inconclusive"), "judged"),
    ],
)
def test_tiers(group: Group | None, tier: str):
    assert groups.tier(group, ()) == tier


def test_weights_that_were_measured_again_on_another_machine_are_the_highest_tier(tmp_path):
    def measured(record: Record, device: str) -> Reevaluation:
        return Reevaluation(
            record=record.id, wrong=40, images=400, differing=0, engine="gluon", device=device,
            time="2026-01-01T00:00:00Z", commit=None,
        )  # fmt: skip

    one, other = seal(make_record(1)), seal(make_record(2))
    reevaluations.add(tmp_path / "runs", one.benchmark, measured(one, "some processor"))
    reevaluations.add(tmp_path / "runs", one.benchmark, measured(other, "another processor"))
    again = groups.measured_elsewhere([one, other], tmp_path / "runs")
    assert again == {other.id}
    seeds = [Seed(seed=number, state="finished", record=record.id) for number, record in enumerate((one, other))]
    assert groups.tier(a_group(seeds=seeds[:1]), again) == "judged"
    assert groups.tier(a_group(seeds=seeds), again) == "judged, weights"
    assert groups.tier(a_group(seeds=seeds, word="interim, 4 of 5 seeds"), again) == "ran"


def test_runs_older_than_their_registration_are_shown_until_one_of_its_own_is_there(board):
    by_id = {benchmark.id: benchmark for benchmark in board.benchmarks}
    for benchmark in by_id.values():
        recorded = [run for run in board.runs if run.benchmark == benchmark.id and run.scoring]
        assert bool(recorded) == (benchmark.tier != "claimed"), benchmark.id


# -- the picture of a row ----------------------------------------------------------------------------------------------


def placed(benchmark: Benchmark) -> list[float]:
    return [float(text) for text in re.findall(r'cx="([\d.]+)"', str(axis(benchmark)))]


def test_a_seed_lies_where_its_error_is_in_margins(board):
    (benchmark,) = [b for b in board.benchmarks if b.id == "binaryconnect-mnist"]
    assert benchmark.claim is not None
    claim, margin = benchmark.claim.test_error, benchmark.claim.margin
    seeds = [Seed(seed=n, state="finished", test_error=claim + n * margin) for n in (-1, 0, 1)]
    shown = msgspec.structs.replace(benchmark, groups=[a_group(seeds=seeds)], main=0)
    low, middle, high = placed(shown)
    assert middle - low == pytest.approx(high - middle, abs=0.11)
    band = re.search(r'class="band"[^>]* x="([\d.]+)" width="([\d.]+)"', str(axis(shown)))
    assert band is not None
    assert float(band[1]) == pytest.approx(low)
    assert float(band[1]) + float(band[2]) == pytest.approx(high, abs=0.11)


def test_what_lies_beyond_the_picture_is_an_arrow(board):
    (benchmark,) = [b for b in board.benchmarks if b.id == "binaryconnect-mnist"]
    seeds = [Seed(seed=1, state="finished", test_error=90.0)]
    drawn = str(axis(msgspec.structs.replace(benchmark, groups=[a_group(seeds=seeds)], main=0)))
    assert '<path class="seed"' in drawn
    assert "90.000" in drawn


# -- the site ----------------------------------------------------------------------------------------------------------


def test_built_twice_the_bytes_are_the_same(files):
    assert site(leaderboard(registry.read_all(REGISTRY, quiet), REGISTRY, quiet), "a,b\n") == files


def test_every_link_leads_somewhere_and_nothing_is_loaded_from_anywhere(files):
    found = pages(files)
    for path, page in found.items():
        for address in page.addresses:
            if address.startswith("https://"):
                continue
            target, _, fragment = address.partition("#")
            there = (
                os.path.normpath(os.path.join(os.path.dirname(path), urllib.parse.unquote(target))) if target else path
            )
            assert there in files, (path, address)
            assert not fragment or fragment in found[there].ids, (path, address)
        loaded = {address for address in page.loaded if not address.startswith("data:image/png;base64,")}
        assert {os.path.normpath(os.path.join(os.path.dirname(path), address)) for address in loaded} == {"feed.xml"}
        assert len(page.ids) == len(set(page.ids)), path


def test_the_policy_allows_the_pages_own_style_and_script_alone(files):
    for path, page in pages(files).items():
        assert page.policy.startswith("default-src 'none'; "), path
        assert "unsafe" not in page.policy
        assert not [name for name in page.attributes if name.startswith("on") or name == "style"], path
        for text in page.own.values():
            assert f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'" in page.policy, path


def test_the_script_is_small_and_the_index_is_complete_without_it(board, files):
    index = pages({"index.html": files["index.html"]})["index.html"]
    assert len(index.own["script"]) < 10_000
    text = files["index.html"].decode()
    assert all(f'benchmark/{benchmark.id}.html">{benchmark.id}</a>' in text for benchmark in board.benchmarks)


def test_results_json_has_the_figures_and_no_pages(board, files):
    content = json.loads(files["results.json"])
    assert content["schema"] == 1
    assert [benchmark["id"] for benchmark in content["benchmarks"]] == [b.id for b in board.benchmarks]
    assert "facts" not in content["runs"][0]
    assert "story" not in content["papers"][0]
    assert not {"curves", "files"} & content.keys()


def test_feed_and_badges_are_well_formed(files):
    feed = parsed(files["feed.xml"])
    entries = feed.findall("{http://www.w3.org/2005/Atom}entry")
    assert len(entries) == len(list(REGISTRY.glob("*/*.json")))
    for path, data in files.items():
        if path.endswith(".svg"):
            assert parsed(data).tag == "{http://www.w3.org/2000/svg}svg"


def hostile_registry(root: Path) -> list[Record]:
    """Two records with markup wherever a record has free text: of a benchmark that there is, and of an unknown one."""
    engine = msgspec.structs.replace(
        ENGINE, device_name=HOSTILE, features=[HOSTILE], versions={"mxnet": HOSTILE}, determinism={HOSTILE: HOSTILE}
    )
    records = []
    for benchmark in ("binaryconnect-mnist", "hostile-one"):
        made = make_record(benchmark=benchmark, paper=HOSTILE, sittings=1)
        target = msgspec.structs.replace(made.target, source=HOSTILE)
        sittings = [msgspec.structs.replace(sitting, engine=engine) for sitting in made.sittings]
        path = registry.write(msgspec.structs.replace(made, target=target, sittings=sittings), root)
        records.append(registry.read(path))
    return records


def test_text_of_a_record_is_text_on_every_page(tmp_path):
    records = hostile_registry(tmp_path / "runs")
    files = site(leaderboard(registry.read_all(tmp_path / "runs", quiet), tmp_path / "runs", quiet), "")
    shown = 0
    for path, page in pages(files).items():
        text = files[path].decode()
        assert "<script>alert" not in text, path
        assert "onerror" not in page.attributes, path
        assert "<img src=x" not in text, path
        assert ">49<" not in text, path
        shown += "&lt;script&gt;alert(1)" in text
    assert shown >= len(records)
    assert b"<script" not in files["feed.xml"]
    parsed(files["feed.xml"])


# -- writing it --------------------------------------------------------------------------------------------------------


def test_a_new_site_takes_the_place_of_an_earlier_one(tmp_path, files):
    out = tmp_path / "site"
    write_site({**files, "record/gone.html": b"old"}, out)
    written = (out / "index.html").stat()
    write_site(files, out)
    assert not (out / "record" / "gone.html").exists()
    assert (out / "index.html").stat().st_ino == written.st_ino
    assert {path.relative_to(out).as_posix(): path.read_bytes() for path in out.rglob("*") if path.is_file()} == files


def test_a_folder_with_something_else_in_it_is_left_alone(tmp_path, files):
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(RegistryFileError, match="is not empty, and no site"):
        write_site(files, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]
