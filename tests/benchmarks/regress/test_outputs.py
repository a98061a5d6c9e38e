"""A regression run's report in every format, with the texts that errors and attackers write."""

from __future__ import annotations

import json
import re
from xml.etree import ElementTree

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from benchmarks.regress import outputs
from benchmarks.regress.figures import Figure, Report

HOSTILE = st.text() | st.sampled_from(
    [
        "]]></failure><x a='b'>",
        "\x1b[2J\x00\ud800\ufffe\x85\u2028",
        "a|b\n| c |\r\n```<script>alert(1)</script> [x](http://y) `z` **w** </details>",
        "50%: a, b\n::error::x\r::set-output name=a::b",
        "&#0; &amp; \\| \\",
    ]
)
FIGURES = st.builds(
    Figure,
    benchmark=HOSTILE,
    kind=st.sampled_from(["bits", "accuracy", "speed", "memory", "registry"]),
    engine=HOSTILE,
    word=st.sampled_from(["ok", "alarm", "not comparable", "not measured"]),
    measured=HOSTILE,
    expected=HOSTILE,
    excess=st.floats(),
    detail=HOSTILE,
    seconds=st.floats(0, 1e6),
)
REPORTS = st.builds(
    Report,
    engine=HOSTILE,
    commit=st.none() | HOSTILE,
    processor=HOSTILE,
    seconds=st.floats(0, 1e6),
    figures=st.lists(FIGURES, max_size=4),
    left_out=st.dictionaries(HOSTILE, HOSTILE, max_size=2),
)


def figure(word: str, benchmark: str = "rwth-lenet5-mnist-binary", kind: str = "accuracy", **fields: object) -> Figure:
    texts = {"measured": "loss 0.9", "expected": "0.2 to 0.3", "detail": "confirmed: seeds 3 to 10"}
    return Figure(benchmark=benchmark, kind=kind, engine="gluon", word=word, **texts | fields)  # type: ignore[arg-type]


def report(*figures: Figure, **fields: object) -> Report:
    origin = {"engine": "gluon", "commit": "0123456789abcdef", "processor": "Xeon", "seconds": 512.4}
    return Report(figures=[*figures], **origin | fields)  # type: ignore[arg-type]


EACH = report(
    figure("ok", "a", "speed", detail="", excess=0.4, seconds=2.0),
    figure("not comparable", "b", "bits", detail="threads 1 here, 2 in the reference"),
    figure("not measured", "c", "memory", measured="", expected="", detail="its process ended with -9"),
    figure("alarm", "d", excess=1.5, seconds=1.25),
    figure("alarm", "e", excess=7.0),
    figure("ok", "", "registry", measured="0 problems in 41 records", expected="0 problems", detail=""),
    left_out={"x": "the change cannot touch them", "y": "the change cannot touch them", "z": "for gluon alone"},
)


def test_lines_put_the_worst_first_and_end_in_a_summary():
    assert outputs.lines(EACH) == [
        "alarm: e accuracy: loss 0.9, expected 0.2 to 0.3; confirmed: seeds 3 to 10",
        "alarm: d accuracy: loss 0.9, expected 0.2 to 0.3; confirmed: seeds 3 to 10",
        "not measured: c memory: its process ended with -9",
        "not comparable: b bits: loss 0.9, expected 0.2 to 0.3; threads 1 here, 2 in the reference",
        "ok: a speed: loss 0.9, expected 0.2 to 0.3",
        "ok: registry registry: 0 problems in 41 records, expected 0 problems",
        "left out, the change cannot touch them (2): x, y",
        "left out, for gluon alone (1): z",
        "2 alarm, 1 not measured, 1 not comparable, 2 ok: gluon at 0123456789ab on Xeon, 512 s (exit code 5)",
    ]


@pytest.mark.parametrize(
    "figures", [[], [figure("not comparable")], [figure("not comparable"), figure("ok", "", "registry")]]
)
def test_a_run_that_compared_nothing_says_so(figures):
    assert outputs.lines(report(*figures))[-1].endswith("Xeon, 512 s; no benchmark was compared (exit code 6)")


def test_what_could_not_be_measured_is_a_failure_and_an_alarm_counts_before_it():
    found = [figure("ok"), figure("not measured"), figure("not comparable")]
    assert report(*found).exit_code == 1
    assert report(*found, figure("alarm")).exit_code == 5


def test_bits_that_cannot_be_compared_where_those_of_others_can_are_not_passed_over():
    """On another machine none can: then it is said, and is no failure where accuracies are as they were."""
    some = report(figure("ok", "a", "bits"), figure("not comparable", "b", "bits"), figure("ok", "b"))
    assert (some.exit_code, some.stale) == (6, ["b"])
    assert "measure new references of 1 with --update" in outputs.lines(some)[-1]
    none = report(figure("not comparable", "a", "bits"), figure("not comparable", "b", "bits"), figure("ok", "b"))
    assert (none.exit_code, none.stale) == (0, [])


def test_the_registry_alone_is_enough_where_no_benchmark_was_asked_for():
    assert outputs.lines(report(figure("ok", "", "registry")))[-1].endswith("512 s (exit code 0)")


@given(REPORTS)
def test_lines_are_one_a_figure_and_control_no_terminal(of):
    found = outputs.lines(of)
    assert len(found) == len(of.figures) + len(set(of.left_out.values())) + 1
    assert all(line.isprintable() for line in found)


@given(REPORTS)
def test_json_gives_the_report_back(of):
    text = outputs.to_json(of)
    assert text.replace("\n", "").isprintable()
    content = json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))
    assert content.pop("exit_code") == of.exit_code
    read = msgspec.convert(content, Report)
    unordered = msgspec.structs.replace(of, figures=[], seconds=read.seconds)
    assert msgspec.structs.replace(read, figures=[]) == unordered
    assert [one.word for one in read.figures] == sorted((one.word for one in of.figures), key=outputs.WORST_FIRST.index)
    texts = [(one.benchmark, one.kind, one.measured, one.expected, one.detail) for one in read.figures]
    assert sorted(texts) == sorted(
        (one.benchmark, one.kind, one.measured, one.expected, one.detail) for one in of.figures
    )


# -- JUnit -------------------------------------------------------------------------------------------------------------

# The elements of junit-10.xsd (Jenkins' xunit-plugin): which attributes each may have, and which children. GitHub's
# test reporters (dorny/test-reporter, mikepenz/action-junit-report) read a part of it: name, classname, time, and of
# failure and error the message and the text.
ATTRIBUTES = {
    "testsuites": {"name", "time", "tests", "failures", "errors", "disabled"},
    "testsuite": {"name", "tests", "failures", "errors", "skipped", "time", "disabled", "timestamp", "hostname", "id"},
    "testcase": {"name", "classname", "time", "status", "assertions"},
    "failure": {"message", "type"},
    "error": {"message", "type"},
    "skipped": {"message", "type"},
    "system-out": set(),
}
CHILDREN = {
    "testsuites": {"testsuite"},
    "testsuite": {"testcase"},
    "testcase": {"failure", "error", "skipped", "system-out"},
}
REQUIRED = {"testsuite": {"name", "tests"}, "testcase": {"name", "classname", "time"}, "failure": {"message", "type"}}


def check_junit(text: str) -> ElementTree.Element:
    """Its root; every element is one that the schema has there, and every total is right."""
    root = ElementTree.fromstring(text.encode())  # noqa: S314 - our own
    assert root.tag == "testsuites"
    for element in root.iter():
        assert REQUIRED.get(element.tag, set()) <= {*element.keys()} <= ATTRIBUTES[element.tag]
        assert {child.tag for child in element} <= CHILDREN.get(element.tag, set())
        assert element.tag != "testcase" or len(element) == 1
    for element in (root, *root):
        for total, tag in (("tests", "testcase"), ("failures", "failure"), ("errors", "error"), ("skipped", "skipped")):
            if total in {*element.keys()}:
                assert int(element.get(total)) == len([*element.iter(tag)])
    return root


def test_junit_has_a_suite_a_kind_and_a_case_a_figure():
    root = check_junit(outputs.to_junit(EACH))
    cases = {
        (suite.get("name"), case.get("name")): (case[0].tag, case[0].get("message")) for suite in root for case in suite
    }
    confirmed = "loss 0.9, expected 0.2 to 0.3; confirmed: seeds 3 to 10"
    assert cases == {
        ("bits", "b"): ("skipped", "loss 0.9, expected 0.2 to 0.3; threads 1 here, 2 in the reference"),
        ("accuracy", "e"): ("failure", confirmed),
        ("accuracy", "d"): ("failure", confirmed),
        ("speed", "a"): ("system-out", None),
        ("memory", "c"): ("error", "its process ended with -9"),
        ("registry", "registry"): ("system-out", None),
    }
    assert root.find("testsuite[@name='accuracy']").get("time") == "1.250"
    assert root.find(".//testcase[@name='d']").get("classname") == "regress.gluon.accuracy"
    assert root.find(".//testcase[@name='d']/failure").text == f"alarm: d accuracy: {confirmed}"


@given(REPORTS)
def test_junit_is_valid_whatever_the_texts(of):
    root = check_junit(outputs.to_junit(of))
    found = sorted(case.get("name") for case in root.iter("testcase"))
    assert found == sorted(outputs.for_terminal(one.benchmark or "registry") for one in of.figures)


# -- GitHub ------------------------------------------------------------------------------------------------------------

GITHUB = MarkdownIt("commonmark").enable("table")


def test_the_summary_shows_what_is_bad_and_folds_the_rest():
    text = outputs.to_github_summary(EACH)
    before, _, folded = text.partition("<details>")
    assert before.splitlines()[0].startswith(
        "### Regression: 2 alarm, 1 not measured, 1 not comparable, 2 ok: gluon at "
    )
    assert [row.split(" | ")[:2] for row in before.splitlines() if row.startswith("| ")] == [
        ["|", "benchmark"],
        ["| alarm", "e"],
        ["| alarm", "d"],
        ["| not measured", "c"],
        ["| not comparable", "b"],
    ]
    assert "| ok | a | speed |" in folded
    assert "left out, the change cannot touch them (2): x, y" in folded


@given(REPORTS)
def test_the_summary_is_made_of_its_own_rows_and_no_markup_of_the_texts(of):
    tokens = [token for token in GITHUB.parse(outputs.to_github_summary(of)) if token.type != "inline"]
    rows = sum(token.type == "tr_open" for token in tokens)
    good = sum(one.word == "ok" for one in of.figures)
    assert rows == len(of.figures) + (good > 0) + (good < len(of.figures))
    assert sum(token.type == "td_open" for token in tokens) == 6 * len(of.figures)
    html = "".join(token.content for token in tokens if token.type == "html_block")
    assert re.sub(r"\s", "", html) == ("<details><summary>Whatisasitwas</summary></details>" if good else "")
    inline = [child.type for token in GITHUB.parse(outputs.to_github_summary(of)) for child in token.children or []]
    assert {*inline} <= {"text", "text_special", "softbreak"}


def test_the_summary_stays_below_what_github_takes():
    many = report(*(figure(word, detail="&" * 1000) for word in ("alarm", "ok") for _ in range(600)))
    text = outputs.to_github_summary(many)
    assert len(text.encode()) < 2**20
    assert len(re.findall(r"^and \d+ more$", text, re.MULTILINE)) == 2


def command(line: str) -> tuple[str, dict[str, str], str]:
    """What GitHub's runner reads in a line: actions/runner, src/Runner.Common/ActionCommand.cs."""
    name, properties, data = re.fullmatch(r"::(\w+) ([^:\r\n]*)::([^\r\n]*)", line).groups()
    of_data = [("%0D", "\r"), ("%0A", "\n"), ("%25", "%")]
    of_properties = [("%0D", "\r"), ("%0A", "\n"), ("%3A", ":"), ("%2C", ","), ("%25", "%")]
    pairs = dict(pair.split("=", 1) for pair in properties.split(","))
    return name, {key: unescape(value, of_properties) for key, value in pairs.items()}, unescape(data, of_data)


def unescape(text: str, escapes: list[tuple[str, str]]) -> str:
    for escape, character in escapes:
        text = text.replace(escape, character)
    return text


def test_annotations_are_errors_of_what_failed_and_one_warning_of_the_rest():
    assert outputs.to_annotations(report(figure("ok"))) == []
    assert outputs.to_annotations(
        report(figure("alarm", "a", measured="50%", detail="b:\nc"), figure("not comparable"))
    ) == [
        "::error title=alarm%3A a accuracy::50%25, expected 0.2 to 0.3; b:%0Ac",
        "::warning title=1 not comparable here::rwth-lenet5-mnist-binary accuracy: loss 0.9, expected 0.2 to 0.3;"
        " confirmed: seeds 3 to 10",
    ]


@given(REPORTS)
def test_annotations_say_to_github_what_they_were_given(of):
    bad = [one for one in outputs.worst_first(of.figures) if one.word in ("alarm", "not measured")]
    found = [command(line) for line in outputs.to_annotations(of)]
    assert all(line.isprintable() for line in outputs.to_annotations(of))
    errors = [(properties["title"], data) for name, properties, data in found if name == "error"]
    assert len(errors) == len(bad)
    for (title, data), one in zip(errors, bad, strict=True):
        if one.benchmark.isprintable() and one.detail.isprintable():
            assert title == f"{one.word}: {one.benchmark or 'registry'} {one.kind}"
            assert data.endswith(one.detail)


def test_errors_that_github_would_drop_are_counted():
    found = outputs.to_annotations(report(*(figure("alarm", f"b{number}") for number in range(12))))
    assert len(found) == outputs.ANNOTATIONS
    assert found[-1] == "::error title=more::3 more: see the summary of this step"
