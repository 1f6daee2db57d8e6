"""Pages open offline, formulas need no script, figures have their alt text."""

import base64
import os
import re
from pathlib import Path
from urllib.parse import unquote

import nbformat
import pandas as pd
import publish
import pytest
from bs4 import BeautifulSoup
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from fairkd.figures import drawing

ROOT = Path(__file__).resolve().parents[2]

TEXT = r"""# The student

Its weight at the exit $d = 3$, after [DEDIER](https://arxiv.org/abs/2310.18590).

$$
\begin{aligned}
H &= \sum_{n=1}^{N} \Lambda_n \otimes \mathbf{x}_n \mathbf{x}_n^\top + \tau I \\
\hat{y} &= \arg\max_c \operatorname{softmax}(z)_c
\end{aligned}
$$

| name | weight |
|---|---|
| `kd` | $w_n = 1$ |
"""
PNG = base64.b64encode(b"\x89PNG not looked at").decode()


def output(kind, data, **metadata):
    return new_output("display_data", data={kind: data, "text/plain": "plain"}, metadata=metadata)


def code(source, *outputs, tags=()):
    return new_code_cell(source, outputs=list(outputs), execution_count=1, metadata={"tags": list(tags)})


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "demo"
    folder.mkdir()
    return folder


def page(folder, *cells, name="02_student-laplace@3"):
    """The page of a notebook with the text above and these cells."""
    path = folder / f"{name}.ipynb"
    nbformat.write(new_notebook(cells=[new_markdown_cell(TEXT), *cells]), path)
    publish.main(["html", str(path), str(path.with_suffix(".html"))])
    return BeautifulSoup(path.with_suffix(".html").read_text(encoding="utf-8"), "html.parser")


def test_formulas_are_mathml(folder):
    soup = page(folder)
    assert len(soup.find_all("math")) == 3
    display = soup.find("math", display="block")
    assert [tag.name for tag in display.find("munderover")] == ["mo", "mrow", "mrow"]
    text = display.get_text()
    assert "⊗" in text and "Λ" in text and "𝐱" in text and "arg\u2009max" in text
    main = soup.find("main").get_text()
    assert "\\" not in main and "$" not in main
    assert soup.find("td").find_next("math").get_text() == "wn=1"


@pytest.mark.parametrize(
    ("latex", "expected"),
    [
        (r"z \sim \mathcal{N}(0, I)", "z∼𝒩(0,I)"),
        (r"\frac{1}{N} \sum_n w_n", "1N∑nwn"),
        (r"\mathbb{R}^{C \times D}", "ℝC×D"),
        (r"\begin{pmatrix} a & b \\ c & d \end{pmatrix}", "(abcd)"),
        (r"\text{if } \operatorname*{arg\,max} p \ne y", "if\xa0arg\u2009maxp≠y"),
        (r"[\phi; 1]^\top \lVert W \rVert^2", "[ϕ;1]⊤‖W‖2"),
    ],
)
def test_formulas_of_the_method(latex, expected):
    assert BeautifulSoup(publish.mathml(latex, "inline"), "html.parser").get_text() == expected


@pytest.mark.parametrize("latex", [r"\nonsense{x}", r"a & b", r"\left( x"])
def test_a_formula_that_cannot_be_read_is_named(latex):
    with pytest.raises(ValueError, match=re.escape(latex)):
        publish.mathml(latex, "inline")


def test_nothing_comes_from_outside(folder):
    widget = output("application/vnd.jupyter.widget-view+json", {"model_id": "1"})
    script = output("application/javascript", "fetch('https://example.org')")
    soup = page(folder, code("draw()", output("image/png", PNG), widget, script))
    html = str(soup)
    assert not re.findall(r"""src=["'](?!data:)|url\(\s*["']?http|@import""", html)
    assert not soup.find_all(["script", "link", "iframe"])
    assert soup.find("a", href="https://arxiv.org/abs/2310.18590")


@pytest.mark.parametrize(
    "markup",
    [
        '<img src="https://example.org/a.png" alt="a">',
        '<img src="beside.png" alt="a">',
        '<link rel="stylesheet" href="//example.org/a.css">',
        '<div style="background: url(http://example.org/a.png)"></div>',
        '<style>@import "https://example.org/a.css";</style>',
        '<script src="https://example.org/a.js"></script>',
    ],
)
def test_a_page_that_needs_more_than_itself_is_refused(folder, markup):
    with pytest.raises(SystemExit, match="outside the page"):
        page(folder, code("show()", output("text/html", markup)))
    assert not list(folder.glob("*.html"))


def test_alt_text_and_width_come_from_the_output(folder):
    alt = 'Medians "at" 3 < 6'
    soup = page(folder, code("draw()", output("image/png", PNG, **{"image/png": {"alt": alt, "width": 864}})))
    assert (soup.img["alt"], soup.img["width"]) == (alt, "864")


def shown_figure(caption):
    table = pd.DataFrame({"group": ["entailment, <b>"], "median": [0.25]})
    figure = drawing.Figure(drawing.canvas(1, 1, height=1)[0], "Margins", caption, "0.3 and 0.6.", table)
    data, metadata = figure._repr_mimebundle_()
    return new_output("display_data", data=data, metadata=metadata)


def test_a_figure_is_offered_as_png_svg_and_csv(folder):
    soup = page(folder, code("figure", shown_figure(drawing.Words("0.3."))))
    links = {link["download"]: unquote(link["href"]) for link in soup.figcaption.find_all("a")}
    assert list(links) == ["margins.png", "margins.svg", "margins.csv"]
    assert links["margins.png"] == soup.figure.img["src"]
    assert links["margins.svg"].partition(",")[2].lstrip().startswith("<?xml")
    assert links["margins.csv"].partition(",")[2] == 'group,median\n"entailment, <b>",0.25\n'
    assert all("Margins" in link["aria-label"] for link in soup.figcaption.find_all("a"))


def test_figures_of_the_package_keep_their_alt_text_and_have_their_caption_once(folder):
    caption = drawing.Words("The median of laplace@3 is 0.3 < 0.6.")
    shown = [shown_figure(caption), output("text/markdown", caption._repr_markdown_())]
    soup = page(folder, code("display(figure, figure.caption)", *shown, output("text/markdown", "Words that stay.")))
    assert soup.figure.img["alt"] == "Margins. 0.3 and 0.6."
    assert soup.figure.figcaption.get_text().startswith(caption)
    assert soup.main.get_text().count("The median of laplace@3") == 1
    assert "Words that stay." in soup.main.get_text()


def test_a_page_opens_with_its_result(folder):
    result = code("show()", new_output("stream", text="the answer\n"), tags=["result"])
    words = new_markdown_cell("in words", metadata={"tags": ["result"]})
    soup = page(
        folder, code("train()", new_output("stream", text="trained\n")), result, new_markdown_cell("## Theory"), words
    )
    text = soup.main.get_text()
    places = [text.index(part) for part in ("The student", "Result", "the answer", "in words", "trained", "Theory")]
    assert places == sorted(places)
    assert "Result" not in page(folder, code("train()")).main.get_text()


def test_code_folds_and_what_was_injected_stays_visible(folder):
    soup = page(
        folder,
        code("profile = 'demo'", tags=["parameters"]),
        code("aux_layer = 6", tags=["injected-parameters"]),
        code("train()", new_output("stream", text="trained\n")),
    )
    folded = {details.summary.get_text(): details.get_text() for details in soup.find_all("details")}
    assert list(folded) == ["Parameters", "Code"] and not soup.find("details", open=True)
    assert "profile" in folded["Parameters"] and "train()" in folded["Code"] and "trained" not in folded["Code"]
    assert "aux_layer" not in "".join(folded.values())


def test_a_table_scrolls_within_itself_and_has_its_intervals_in_small(folder):
    frame = pd.DataFrame({"kd": ["0.912 [0.905, 0.920]", "a [b] c"], "dedier@3": ["-0.1 [-0.2, 0.0]", "absent"]})
    shown = output("text/html", frame.set_axis(["average", "gap"]).to_html())
    soup = page(folder, code("frame", shown))
    region = soup.select("div.table")[1]
    assert region["tabindex"] == "0" and region["aria-label"] == "Table 2: The student" and region.table
    assert [small.get_text() for small in region.find_all("small")] == ["[0.905, 0.920]", "[-0.2, 0.0]"]
    assert [td.get_text() for td in region.tbody.find_all("td")] == [str(text) for text in frame.to_numpy().ravel()]
    scopes = {th.get_text(): th["scope"] for th in region.find_all("th") if th.get_text()}
    assert scopes == {"kd": "col", "dedier@3": "col", "average": "row", "gap": "row"}


def test_tags_hide_inputs_and_cells(folder):
    shown = new_output("stream", text="an answer\n")
    soup = page(
        folder,
        code("hidden = 1", shown, tags=["hide-input"]),
        code("removed = 1", new_output("stream", text="gone\n"), tags=["remove-cell"]),
        code("aux_layer = 6", tags=["injected-parameters"]),
    )
    text = soup.get_text()
    assert "an answer" in text and "hidden" not in text
    assert "removed" not in text and "gone" not in text
    assert "aux_layer" in soup.select_one(".celltag_injected-parameters").get_text()


def test_every_heading_has_an_id_of_its_own_and_nothing_else_than_regions_is_a_tab_stop(folder):
    soup = page(folder, new_markdown_cell("## Theory\n\n## Which group?\n\n## Theory"), code("1"))
    assert [h["id"] for h in soup.find_all(re.compile("^h[1-6]$"))] == [
        "the-student",
        "theory",
        "which-group",
        "theory-2",
    ]
    stops = soup.find_all(tabindex=True)
    assert stops and all(tag["aria-label"] and {"table", "formula"} & set(tag["class"]) for tag in stops)


def test_a_page_has_a_title_and_leads_to_the_others_of_its_folder(folder):
    linked = new_markdown_cell("See [the teacher](01_teacher.ipynb), [a student](02_student.ipynb), [x](09_x.ipynb).")
    for name in ("03_analysis", "01_teacher", "02_student-laplace@3"):
        soup = page(folder, linked, name=name)
    assert soup.title.get_text() == "student laplace@3 (demo)" and not soup.nav.a
    for _ in range(2):  # a second time changes nothing
        publish.main(["index", str(folder)])
        text = (folder / "02_student-laplace@3.html").read_text(encoding="utf-8")
        soup = BeautifulSoup(text, "html.parser")
        for nav in (soup.header.nav, soup.footer.nav):
            links = [("01_teacher.html", "prev"), ("index.html", None), ("03_analysis.html", "next")]
            assert [(a["href"], (a.get("rel") or [None])[0]) for a in nav.find_all("a")] == links
        hrefs = [a.get("href") for a in soup.main.find_all("a", attrs={"data-notebook": True})]
        assert hrefs == ["01_teacher.html", "02_student-laplace%403.html", None]
    first = BeautifulSoup((folder / "01_teacher.html").read_text(encoding="utf-8"), "html.parser")
    assert [a["href"] for a in first.header.nav.find_all("a")] == ["index.html", "02_student-laplace%403.html"]


def test_an_index_opens_with_the_results_or_with_what_was_found(folder):
    result = code("figure", shown_figure(drawing.Words("kd has 0.3.")), tags=["result"])
    words = code("words", output("text/markdown", "- told apart: **kd**"), tags=["result"])
    page(folder, result, words, name="03_analysis")
    publish.main(["index", str(folder)])
    index = folder / "index.html"
    soup = BeautifulSoup(index.read_text(encoding="utf-8"), "html.parser")
    assert soup.main.section.img["alt"].startswith("Margins") and soup.main.section.li.get_text().startswith(
        "told apart"
    )
    assert "kd has 0.3." in soup.select_one(".contents p").get_text()
    (folder / "README.md").write_text("# Found\n\n[the table](report.csv) [page](03_analysis.html)\n")
    (folder / "report.csv").write_text("a\n")
    publish.main(["index", str(folder)])
    soup = BeautifulSoup(index.read_text(encoding="utf-8"), "html.parser")
    assert soup.h1.get_text() == "Found" and not soup.find("section")
    hrefs = {a["href"] for a in soup.find_all("a")}
    assert hrefs == {"report.csv", "03_analysis.html"} and all((folder / href).exists() for href in hrefs)


def test_the_index_links_to_the_pages_in_order(folder):
    names = ["04_figures", "02_student-laplace@3", "01_teacher", "03_analysis", "02_student-kd"]
    for name in names:
        page(folder, name=name)
    nbformat.write(new_notebook(), folder / "02_student-kd.failed.ipynb")
    publish.main(["index", str(folder)])
    soup = BeautifulSoup((folder / "index.html").read_text(encoding="utf-8"), "html.parser")
    entries = soup.select("li")
    assert [entry.a["href"] for entry in entries] == [f"{n}.html".replace("@", "%40") for n in sorted(names)]
    assert {entry.a.get_text() for entry in entries} == {"The student"}
    assert entries[2].select_one(".name").get_text() == "student laplace@3"
    assert entries[0].p.get_text().startswith("Its weight at the exit d=3, after DEDIER")
    assert "demo" in soup.h1.get_text()
    assert publish.outside_references(str(soup)) == []


def test_students_that_are_not_named_are_left_out_of_the_index(folder):
    names = ["01_teacher", "02_student-kd", "02_student-old", "05_study"]
    for name in names:
        page(folder, name=name)
    publish.main(["index", str(folder), "02_student-kd", "02_student-not-made"])
    soup = BeautifulSoup((folder / "index.html").read_text(encoding="utf-8"), "html.parser")
    assert [entry.a["href"] for entry in soup.select("li")] == [f"{name}.html" for name in names if "old" not in name]
    last = BeautifulSoup((folder / "05_study.html").read_text(encoding="utf-8"), "html.parser")
    assert last.header.nav.a["href"] == "02_student-kd.html" and (folder / "02_student-old.html").exists()


def test_an_index_of_nothing_is_refused(folder):
    with pytest.raises(SystemExit, match="no pages in"):
        publish.main(["index", str(folder)])


def test_a_page_is_written_whole_or_not_at_all(folder, monkeypatch):
    page(folder)
    target = folder / "02_student-laplace@3.html"
    before, files = target.read_bytes(), sorted(folder.iterdir())

    def fail(source, destination):
        raise OSError("disk full")

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(SystemExit, match="disk full"):
        page(folder, new_markdown_cell("more"))
    assert target.read_bytes() == before and sorted(folder.iterdir()) == files


HOSTILE = (
    "<script>fetch('https://example.org')</script>",
    '<img src="https://example.org/a.png" onerror="alert(1)">',
    "![a](https://example.org/a.png)",
    "[a](javascript:alert(1))",
    r"$\href{https://example.org}{x}$ $$\sum_n x_n$$",
    "</td></table></main><iframe src='https://example.org'></iframe>",
    "&lt;b&gt; <b>",
)


def test_text_of_the_data_stands_in_a_table_as_it_is(folder):
    """Neither run, nor fetched, nor set as a formula: as the notebooks show frames."""
    frame = pd.DataFrame({"premise": HOSTILE, "group": HOSTILE})
    with pd.option_context("display.max_colwidth", None):
        soup = page(folder, code("frame", output("text/html", frame._repr_html_())))
    cells = [cell.get_text() for row in soup.find("main").find_all("tr") for cell in row.find_all("td")]
    assert cells[-2 * len(HOSTILE) :] == [text for text in HOSTILE for _ in range(2)]
    assert not soup.find_all("table")[-1].find_all(["script", "img", "iframe", "a", "b", "math"])
    assert not soup.find_all(["script", "iframe"])


def test_text_of_the_data_stands_in_a_caption_as_it_is(folder):
    for text in HOSTILE:
        soup = page(folder, code("draw()", output("image/png", PNG, **{"image/png": {"alt": text, "caption": text}})))
        caption = soup.find("figcaption")
        downloads = caption.find(class_="downloads").extract()
        assert caption.get_text(strip=True) == text and soup.find("img")["alt"] == text
        assert not caption.find_all(True) and {tag.name for tag in downloads.find_all(True)} == {"a"}
