"""The results page as a person opens it: in Chromium, from disk, without a network; also for those who do not see it."""

import pytest
from axe_playwright_python.sync_playwright import Axe

from ssl_core.lab.__main__ import main

SMOKE = ("--labels", "50", "--recipes", "supervised published", "--seeds", "0", "--smoke")


@pytest.fixture(scope="module")
def outputs(browser, images, tmp_path_factory):
    folder = tmp_path_factory.mktemp("outputs")
    main(["sweep", *SMOKE, "--outputs", str(folder)])
    return folder


@pytest.fixture
def page(browser, outputs):
    """The page, open; what its console said and what it asked the network for is noted on it."""
    page = browser.new_page()
    page.said, page.asked = [], []
    page.on("console", lambda message: page.said.append(message.text))
    page.on("pageerror", lambda error: page.said.append(str(error)))
    page.on("request", lambda request: page.asked.append(request.url))
    page.goto((outputs / "results.html").as_uri())
    yield page
    page.close()


def test_it_opens_from_disk_without_an_error_or_a_network(page):
    assert page.said == [] and [url for url in page.asked if not url.startswith(("file:", "data:"))] == []
    assert page.title() == "How many images must be labelled?" == page.locator("h1").inner_text()
    assert page.locator("h2").first.inner_text() == "In short" and page.locator("figure").count() >= 6
    assert page.evaluate("[...document.images].every(image => image.complete && image.naturalWidth > 100)")


def test_who_does_not_see_it_can_use_it(page):
    found = Axe().run(page)
    assert found.violations_count == 0, found.generate_report()
    assert all(alt.startswith("Figure: ") for alt in page.locator("img").evaluate_all("all => all.map(image => image.alt)"))
    page.locator("th button").first.focus()
    page.keyboard.press("Enter")
    assert page.locator("th[aria-sort=ascending]").count() == 1


def test_headings_and_figures_can_be_linked_to(page):
    anchors = page.locator("h1, h2, h3, figure").evaluate_all("all => all.map(element => element.id)")
    assert all(anchors) and len(set(anchors)) == len(anchors)
    assert {"in-short", "accuracy-by-number-of-labels", "figure-accuracy-by-number-of-labels"} <= set(anchors)
    links = page.locator("figure a.anchor, nav a").evaluate_all("all => all.map(link => link.getAttribute('href'))")
    assert links and {link.removeprefix("#") for link in links} <= set(anchors)


def test_tables_sort_by_number(page):
    table = page.locator("table", has_text="as it ran")
    head = table.get_by_role("button", name="accuracy")

    def column():
        return [float(text.removesuffix(" %")) for text in table.locator("tbody tr td:nth-child(4)").all_inner_texts()]

    head.click()
    assert len(column()) == 2 and column() == sorted(column())
    head.click()
    assert column() == sorted(column(), reverse=True)


def test_runs_are_linked(page, outputs):
    links = page.get_by_role("link", name="as it ran").evaluate_all("all => all.map(link => link.getAttribute('href'))")
    assert len(links) == 2 and all((outputs / link).exists() for link in links)


@pytest.mark.parametrize("width", [360, 800, 1400])
def test_it_fits_a_phone_and_a_screen(page, width):
    page.set_viewport_size({"width": width, "height": 800})
    assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_it_prints(page, tmp_path):
    page.pdf(path=tmp_path / "page.pdf", format="A4")
    assert (tmp_path / "page.pdf").stat().st_size > 50_000
    assert (tmp_path / "page.pdf").read_bytes()[:5] == b"%PDF-"
