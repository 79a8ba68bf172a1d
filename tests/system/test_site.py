"""The site as a visitor sees it: in Chromium, from disk, without a network; also on a phone and for those who do not see it."""

from urllib.parse import unquote, urldefrag, urljoin

import pytest
from axe_playwright_python.sync_playwright import Axe
from bs4 import BeautifulSoup

from ssl_core.lab.__main__ import main
from ssl_core.lab.page import site
from ssl_core.lab.page.site import Example

PAGES = ("index.html", "README.html", "ssl_core/api.html", "notebooks/ablation.html")
pytestmark = [pytest.mark.browser, pytest.mark.slow]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The site with its cheapest notebook."""
    folder = tmp_path_factory.mktemp("site")
    main(["site", "--outputs", str(folder), "--only", "ablation"])
    return folder


@pytest.fixture
def open_page(browser, folder):
    """Opens a page of the site; what its console says and what it asks the network for is noted on it."""
    pages = []

    def open_one(name, width=1400):
        page = browser.new_page(viewport={"width": width, "height": 800})
        pages.append(page)
        page.messages, page.requests = [], []
        page.on("console", lambda message: page.messages.append(message.text))
        page.on("pageerror", lambda error: page.messages.append(str(error)))
        page.on("request", lambda request: page.requests.append(request.url))
        page.goto((folder / name).as_uri())
        return page

    yield open_one
    for page in pages:
        page.close()


@pytest.mark.parametrize("name", PAGES)
def test_a_page_opens_from_disk_without_an_error_or_a_network(open_page, name):
    page = open_page(name)
    assert page.messages == [] and [url for url in page.requests if not url.startswith(("file:", "data:"))] == []
    assert page.title() == page.locator("h1").inner_text()
    assert page.evaluate("[...document.images].every(image => image.complete && image.naturalWidth > 100)")


@pytest.mark.parametrize("name", PAGES)
def test_who_does_not_see_it_can_use_it(open_page, name):
    page = open_page(name)
    findings = Axe().run(page)
    assert findings.violations_count == 0, findings.generate_report()
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.innerText") == "Skip to the content"


@pytest.mark.parametrize("name", PAGES)
def test_it_fits_a_phone(open_page, name):
    assert open_page(name, width=360).evaluate("document.documentElement.scrollWidth") <= 360


def test_a_notebook_is_shown_with_its_code_and_figures(open_page):
    page = open_page("notebooks/ablation.html")
    assert "Executed by make site" in page.locator("p.note").inner_text()
    assert page.locator(".code", has_text='show("ablation", results)').count() == 1 and page.locator("figure").count() >= 1
    colors = page.locator(".code span").evaluate_all("all => all.map(token => getComputedStyle(token).color)")
    assert len(set(colors)) > 3, "code is highlighted"


def test_every_link_within_the_site_leads_somewhere(folder):
    pages = {path.as_uri(): BeautifulSoup(path.read_text(), "html.parser") for path in folder.rglob("*.html")}
    assert len(pages) > len(site.DOCUMENTS)
    for address, page in pages.items():
        for link in page.select("a[href]"):
            target, fragment = urldefrag(urljoin(address, link["href"]))
            if target.startswith("file:"):
                assert target in pages, f"{address}: {link}"
                assert not fragment or pages[target].find(id=unquote(fragment)), f"{address}: {link}"


def test_nothing_of_the_machine_is_in_it(folder):
    assert not (folder / ".work").exists()
    assert all(str(folder) not in path.read_text() for path in folder.rglob("*.html"))


def test_a_notebook_that_fails_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(site.EXAMPLES, "ablation", Example("", {"data": "fashion-mnist"}, "reference"))
    with pytest.raises(SystemExit, match=r"^site: ablation\.ipynb: LookupError: [^\n]+$"):
        main(["site", "--outputs", str(tmp_path), "--only", "ablation"])


def test_an_unknown_notebook_is_refused(tmp_path):
    with pytest.raises(SystemExit, match=r"^site: only='trian': must be one of quickstart, train, results, "):
        main(["site", "--outputs", str(tmp_path), "--only", "trian"])
