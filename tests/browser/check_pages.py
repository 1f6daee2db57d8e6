"""Every published page in a browser, at three widths, light and dark: silent, self-contained, reachable by all."""

import subprocess
import sys
from urllib.parse import quote, unquote, urldefrag, urljoin, urlparse

import nbformat
import pandas as pd
import pytest
from axe_playwright_python.sync_playwright import Axe
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from fairkd.figures.drawing import Figure, Words, canvas
from fairkd.study import examples
from tests.browser.conftest import ROOT, SITE, serve

# The API's index is a redirection.
PAGES = sorted({path.relative_to(SITE).as_posix() for path in SITE.rglob("*.html")} - {"api/index.html"})
WIDTHS = (390, 820, 1280)
# pdoc's pages are looked at too, but their markup is pdoc's own.
OWN = [page for page in PAGES if not page.startswith("api/")]
WIDER = "document.documentElement.scrollWidth > innerWidth"
# What a browser asks for by itself.
ICON = "/favicon.ico"


def opened(browser, address, name, width, scheme="light"):
    """A page, and what it asked for and complained of while it loaded."""
    context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme)
    page, asked, said = context.new_page(), [], []
    page.on("request", lambda request: asked.append(request.url))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("console", lambda message: ICON in message.location["url"] or said.append(message.text))
    page.goto(f"{address}/{quote(name)}")
    return page, asked, said


def test_there_are_pages_of_a_profile_of_records_and_the_index():
    assert "index.html" in PAGES and "demo/index.html" in PAGES and "record/demo/index.html" in PAGES
    assert len(OWN) >= 12


@pytest.mark.parametrize("name", PAGES)
def test_a_page_is_silent_alone_and_no_wider_than_its_window(browser, site, name):
    for width in WIDTHS:
        for scheme in ("light", "dark"):
            page, asked, said = opened(browser, site, name, width, scheme)
            beside = {url for url in asked if urlparse(url).netloc != urlparse(site).netloc and url[:5] != "data:"}
            assert not beside and not said, (width, scheme)
            page.eval_on_selector_all("details", "all => all.forEach(each => each.open = true)")
            assert not page.evaluate(WIDER), (width, scheme)
            page.context.close()


@pytest.mark.parametrize("name", OWN)
def test_a_page_has_no_serious_finding_of_axe(browser, site, name):
    for scheme in ("light", "dark"):
        for width in (390, 1280):
            page, _, _ = opened(browser, site, name, width, scheme)
            page.eval_on_selector_all("details", "all => all.forEach(each => each.open = true)")
            found = Axe().run(page).response["violations"]
            serious = {v["id"]: v["nodes"][0]["html"] for v in found if v["impact"] in ("serious", "critical")}
            assert not serious, (scheme, width)
            page.context.close()


@pytest.mark.parametrize("name", PAGES)
def test_every_link_leads_to_a_file_and_to_a_place_in_it(browser, site, name):
    page, _, _ = opened(browser, site, name, 1280)
    links = page.eval_on_selector_all("a[href]", "all => all.map(each => each.getAttribute('href'))")
    if name != "index.html":
        assert links
    for link in links:
        url, fragment = urldefrag(urljoin(f"{site}/{quote(name)}", link))
        if urlparse(url).netloc != urlparse(site).netloc:
            continue
        path = SITE / unquote(urlparse(url).path).lstrip("/")
        assert path.is_file(), link
        if fragment and path == SITE / name:
            assert page.evaluate("id => !!document.getElementById(id)", unquote(fragment)), link
    page.context.close()


@pytest.mark.parametrize("name", OWN)
def test_keys_reach_tables_and_every_stop_has_a_name(browser, site, name):
    page, _, _ = opened(browser, site, name, 390)
    stops = page.eval_on_selector_all("[tabindex]", "all => all.map(each => each.getAttribute('aria-label'))")
    assert all(stops)
    wide = page.eval_on_selector_all(
        "main *", "all => all.filter(e => getComputedStyle(e).overflowX === 'auto' && e.tabIndex < 0).length"
    )
    assert wide == 0
    page.context.close()


@pytest.mark.parametrize("name", OWN)
def test_printed_nothing_is_cut(browser, site, name):
    page, _, _ = opened(browser, site, name, 794)  # A4 at 96 dots an inch
    page.emulate_media(media="print")
    cut = page.eval_on_selector_all(
        ".table", "all => all.filter(e => e.scrollWidth > e.clientWidth + 1).map(e => e.ariaLabel)"
    )
    assert not cut
    page.context.close()


def test_runs_are_sorted_filtered_and_set_side_by_side(browser, site):
    page, _, said = opened(browser, site, "index.html", 1280)
    column = "all => all.filter(r => !r.hidden).map(r => r.cells[5].textContent.slice(0, 5))"
    for upwards in (True, False):
        page.click("#runs button:text('average')")
        values = page.eval_on_selector_all("#runs tbody tr", column)
        assert len(values) > 2 and values == sorted(values, reverse=not upwards)
    page.fill("#filter", "laplace")
    shown = page.locator("#runs tbody tr:visible")
    assert 0 < shown.count() < len(values)
    assert all("laplace" in text for text in shown.all_inner_texts())
    page.fill("#filter", "")
    boxes = page.locator("#runs input")
    methods = page.eval_on_selector_all("#runs tbody tr", "all => all.map(r => r.cells[2].textContent)")
    other = next(place for place, method in enumerate(methods) if method != methods[0])
    boxes.nth(0).check()
    boxes.nth(other).check()
    third = next(place for place in range(len(methods)) if place not in (0, other))
    assert boxes.nth(third).is_disabled()
    heads = page.locator("#compared thead th").all_inner_texts()
    names = page.eval_on_selector_all("#runs tbody tr", "all => all.map(r => r.dataset.run)")
    assert heads == [names[0], names[other]]
    assert page.locator("#compared tbody tr").count() > 3 and not said
    boxes.nth(0).uncheck()
    assert page.locator("#compared table").count() == 0


HOSTILE = [
    "<script>window.ran = 1</script>",
    "![x](https://example.org/a.png)",
    "$\\alpha$ <img src=x onerror='ran=1'>",
]


def test_texts_and_names_of_the_data_are_shown_and_never_run(browser, tmp_path):
    """A table of examples and a figure's words, of a data set that would like to be a page."""
    folder = tmp_path / "hostile"
    folder.mkdir()
    table = pd.DataFrame({"id": ["1"], "label": 0, "group": HOSTILE[0]})
    data = pd.DataFrame({"id": ["1"], "first": HOSTILE[1], "second": HOSTILE[2]})
    shown = examples.told(table, data, ("first", "second"), HOSTILE[:1]).to_html()
    caption = Words(" ".join(HOSTILE))
    figure = Figure(canvas(1, 1, height=1)[0], HOSTILE[0], caption, HOSTILE[2], table)
    image, metadata = figure._repr_mimebundle_()
    outputs = [
        new_output("display_data", data={"text/html": shown}),
        new_output("display_data", data=image, metadata=metadata),
        new_output("display_data", data={"text/markdown": caption._repr_markdown_() + " "}),
    ]
    cells = [new_markdown_cell("# Examples"), new_code_cell("", outputs=outputs, metadata={"tags": ["result"]})]
    nbformat.write(new_notebook(cells=cells), folder / "03_analysis.ipynb")
    for command in (["html", folder / "03_analysis.ipynb", folder / "03_analysis.html"], ["index", folder]):
        subprocess.run([sys.executable, ROOT / "reports" / "publish.py", *command], check=True)
    server, address = serve(folder)
    for name in ("03_analysis.html", "index.html"):
        page, asked, said = opened(browser, address, name, 390)
        assert len(set(asked) - {url for url in asked if url[:5] == "data:"}) == 1 and not said
        assert page.evaluate("typeof ran") == "undefined" and HOSTILE[0] in page.inner_text("main")
        page.context.close()
    server.shutdown()
