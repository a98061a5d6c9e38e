"""The leaderboard in a real browser: headless Chromium, from a folder, by real clicks and keys, with axe-core.

`tox -e browser` has Playwright and axe-core; Chromium is the system's: `apt-get install chromium`.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from benchmarks.paths import REPOSITORY

pytestmark = pytest.mark.browser
WIDTHS, SCHEMES = (360, 1400), ("light", "dark")
PAGES = (
    "index.html", "benchmark/binaryconnect-mnist.html", "benchmark/rwth-lenet5-mnist-binary.html",
    "benchmark/binaryconnect-cifar10.html", "paper/rwth.html", "plots.html", "changes.html", "sitemap.html",
)  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from benchmarks.leaderboard import leaderboard
    from results.registry import read_all
    from results.views.html import site, write_site

    out, runs = tmp_path_factory.mktemp("site"), REPOSITORY / "results" / "runs"
    write_site(site(leaderboard(read_all(runs, print), runs, print), ""), out)
    return out


@pytest.fixture(scope="module")
def browser():
    from playwright.sync_api import sync_playwright

    program = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    assert program is not None, "there is no Chromium here: `apt-get install chromium`"
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        yield started
        started.close()


@pytest.fixture
def open_page(browser, folder):
    """Open a page of the site; what it asks of another host, or complains of, fails the test."""
    contexts, faults = [], []

    def open_one(name: str = "index.html", fragment: str = "", **options):
        context = browser.new_context(**({"viewport": {"width": 1400, "height": 900}} | options))
        contexts.append(context)
        page = context.new_page()
        page.on("request", lambda request: request.url.startswith(("file:", "data:")) or faults.append(request.url))
        page.on("console", lambda message: faults.append(message.text))
        page.on("pageerror", lambda error: faults.append(str(error)))
        page.goto(f"{(folder / name).as_uri()}{fragment}")
        return page

    yield open_one
    for context in contexts:
        context.close()
    assert faults == []


def shown(page) -> list[str]:
    return page.locator(".board tbody tr:visible th a").all_inner_texts()


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("width", WIDTHS)
def test_no_page_has_a_barrier_or_is_wider_than_the_screen(open_page, folder, width, scheme):
    from axe_playwright_python.sync_playwright import Axe

    axe = Axe()
    record = next((folder / "record").glob("*.html")).relative_to(folder).as_posix()
    for name in (*PAGES, record):
        # axe-core is a script from outside, which the page's policy would refuse.
        page = open_page(name, viewport={"width": width, "height": 900}, color_scheme=scheme, bypass_csp=True)
        found = axe.run(page).response["violations"]
        assert [(name, one["id"], one["nodes"][0]["html"]) for one in found] == []
        assert page.evaluate("document.documentElement.scrollWidth") <= width, name


def test_a_click_sorts_and_the_address_keeps_it(open_page):
    page = open_page()
    head = page.get_by_role("columnheader", name="Claim")
    assert head.get_attribute("aria-sort") == "none"
    head.get_by_role("button").click()
    assert head.get_attribute("aria-sort") == "ascending"
    claims = page.locator(".board tbody tr td:nth-child(3)").evaluate_all("cells => cells.map(c => c.dataset.value)")
    numbers = [float(claim) for claim in claims if claim]
    assert numbers == sorted(numbers)
    assert claims[len(numbers) :] == [""] * (len(claims) - len(numbers)), "what has no claim comes last"
    head.get_by_role("button").click()
    assert head.get_attribute("aria-sort") == "descending"
    order = shown(page)
    page.reload()
    assert shown(page) == order
    head.get_by_role("button").click()
    assert head.get_attribute("aria-sort") == "none"


def test_filters_by_mouse_and_keyboard(open_page):
    page = open_page()
    everything = shown(page)
    page.get_by_label("Data").select_option("svhn")
    page.get_by_label("Search").focus()
    page.keyboard.type("binarynet")
    assert shown(page) == [name for name in everything if "binarynet" in name and "svhn" in name] != []
    assert page.locator("output").inner_text() == f"{len(shown(page))} of {len(everything)}"
    address = page.url
    assert "data=svhn" in address
    page.get_by_role("button", name="Show all").click()
    page.wait_for_function(
        "document.querySelector('output').textContent.startsWith(String(document.querySelector('.board').tBodies[0].rows.length))"
    )
    assert shown(page) == everything
    other = open_page(fragment=f"#{address.partition('#')[2]}")
    assert len(shown(other)) < len(everything)
    assert other.get_by_label("Data").input_value() == "svhn"


@pytest.mark.parametrize("fragment", ["#sort=99a", "#sort=x", "#verdict=nonsense", "#q=%3Cscript%3E", "#%E0%A4%A"])
def test_an_address_that_somebody_made_up_does_no_harm(open_page, fragment):
    page = open_page(fragment=fragment)
    assert page.locator("output").inner_text()


def test_without_a_script_the_page_is_complete(open_page):
    page = open_page(java_script_enabled=False)
    assert len(shown(page)) == page.locator(".board tbody tr").count() > 70
    assert not page.locator(".filters").is_visible()
    page.get_by_role("link", name="binaryconnect-mnist", exact=True).click()
    assert page.locator("h1").inner_text() == "binaryconnect-mnist"


def test_by_keyboard_alone(open_page):
    page = open_page()
    page.keyboard.press("Tab")
    assert page.locator(":focus").inner_text() == "To the content"
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "main"
    button = page.get_by_role("columnheader", name="Ours").get_by_role("button")
    button.focus()
    page.keyboard.press("Enter")
    assert page.get_by_role("columnheader", name="Ours").get_attribute("aria-sort") == "ascending"


def test_in_print_no_column_is_lost(open_page):
    page = open_page(viewport={"width": 700, "height": 900})
    page.emulate_media(media="print")
    heads = page.locator(".board thead th")
    assert [heads.nth(index).is_visible() for index in range(heads.count())] == [True] * 12
    assert not page.locator("nav").is_visible()
