"""Publish executed notebooks as pages that open offline: no script, style, font or image from elsewhere.

    python reports/publish.py html IN.ipynb OUT.html      one executed notebook, one self-contained page
    python reports/publish.py index FOLDER [NAME ...]     FOLDER/index.html, and links among the pages there;
                                                          of students those by these names, if any is said

A page opens with its result: cells tagged `result` follow the first cell, the others come after. Code and parameters
fold away; what papermill injected stays visible. Formulas become MathML, which browsers draw without JavaScript. Cells
tagged `remove-cell` are left out, cells tagged `hide-input` show their output alone. An image takes its alt text and
caption from its output's metadata ({"image/png": {"alt": ..., "caption": ..., "svg": ..., "csv": ...}}, as
`fairkd.figures` has it), and offers the drawing and its table.
"""

import argparse
import os
import re
import sys
import tempfile
from collections.abc import Sequence
from html import unescape
from pathlib import Path
from typing import Any
from urllib.parse import quote

import jinja2
import nbformat
from bs4 import BeautifulSoup
from latex2mathml.converter import convert
from markup import improved, joined, page_name
from nbconvert import HTMLExporter
from nbconvert.filters.markdown_mistune import IPythonRenderer, MarkdownWithMath
from pygments.formatters import HtmlFormatter

HERE = Path(__file__).resolve().parent

# What an index opens with: the results of these pages, each under its question.
QUESTIONS = {
    "analysis": "Which group does plain distillation lose, and what does each student give it?",
    "figures": "Is an exit wrong and sure of itself, and does Laplace change that?",
}

# LaTeX that latex2mathml does not know, in words that it knows.
LATEX = [
    (r"\\arg\s*\\(max|min)(?![a-z])|\\operatorname\*?\{arg(?:\\,|\s)*(max|min)\}", r"\\arg\1\2"),
    (r"\\operatorname\*", r"\\operatorname"),
    (r"\\(begin|end)\{aligned\}", r"\\\1{split}"),
]
# MathML that latex2mathml writes and browsers space or draw badly.
MATHML = [
    (r"<mi>&#x0007E;</mi>", "<mo>&#x0223C;</mo>"),  # \sim came out as an ASCII tilde
    (r"<mi>([;:])</mi>", r"<mo>\1</mo>"),
    (r"<m[oi]>(&#x02016;|&#x027E8;|&#x027E9;|&#x0230A;|&#x0230B;)</m[oi]>", r'<mo stretchy="false">\1</mo>'),
    # A named operator has a thin space around it, none at a bracket; without this, a relation's spaces.
    (r"<m[oi]>([A-Za-z]{2,})</m[oi]>", r'<mo lspace="0.17em" rspace="0.17em">\1</mo>'),
    (r'(?<=&#x00028;</mo>)<mo lspace="0.17em"', '<mo lspace="0"'),
    (r' rspace="0.17em">(\w+)</mo>(?=<mo stretchy="false">&#x00028;)', r' rspace="0">\1</mo>'),
]


def mathml(latex: str, display: str) -> str:
    """MathML of a formula, "inline" or "block"; ValueError for LaTeX that would come out as text."""
    source = latex.strip()
    for pattern, replacement in LATEX:
        source = re.sub(pattern, replacement, source)
    try:
        markup = convert(source, display=display)
    except Exception as error:  # latex2mathml has a dozen classes of its own, most without a message
        raise ValueError(f"the formula ${latex}$ cannot be read: {type(error).__name__} {error}") from error
    unknown = re.search(r">(\\\w+|&)<", markup)
    if unknown:
        raise ValueError(f"the formula ${latex}$ has {unknown[1]}, which latex2mathml does not know")
    for pattern, replacement in MATHML:
        markup = re.sub(pattern, replacement, markup)
    return markup


class _Renderer(IPythonRenderer):
    """Markdown with its formulas as MathML."""

    def block_math(self, body):
        return mathml(body, "block")

    def inline_math(self, body):
        return mathml(body, "inline")

    def latex_environment(self, name, body):
        return mathml(f"\\begin{{{name}}}{body}\\end{{{name}}}", "block")


def markdown(source: str, **options) -> str:
    """HTML of a piece of markdown."""
    return MarkdownWithMath(renderer=_Renderer(escape=False, **options)).render(source)


class PageExporter(HTMLExporter):
    """nbconvert's HTML on the template beside this file, formulas as MathML."""

    @property
    def default_config(self):
        """What is shown: no widget and no script, since both need what is not in the page."""
        config = super().default_config.copy()
        kinds = ("text/html", "text/markdown", "text/latex", "image/svg+xml", "image/png", "image/jpeg")
        config.NbConvertBase.display_data_priority = [*kinds, "text/plain"]
        config.TagRemovePreprocessor.enabled = True
        config.TagRemovePreprocessor.remove_cell_tags = {"remove-cell"}
        config.TagRemovePreprocessor.remove_input_tags = {"hide-input"}
        return config

    @jinja2.pass_context
    def markdown2html(self, context, source):
        """The template's filter for markdown cells and outputs."""
        attachments = context.get("cell", {}).get("attachments", {})
        return markdown(source, attachments=attachments, exclude_anchor_links=True)


def outside_references(html: str) -> list[str]:
    """What a page would load from outside itself; a link that the reader may follow (<a>) loads nothing."""
    found = []
    for tag in BeautifulSoup(html, "html.parser").find_all(True):
        loading = {"src", "srcset", "data", "poster", "xlink:href"} | (set() if tag.name == "a" else {"href"})
        values = [tag[name] for name in loading & tag.attrs.keys()]
        found += [value for value in values if not value.startswith(("data:", "#"))]
        styles = tag.get("style", "") + (tag.get_text() if tag.name == "style" else "")
        found += re.findall(r"""url\(\s*["']?(?!data:|#)[^)]*\)|@import[^;]*""", styles)
    return found


def arranged(cells: list) -> list:
    """The cells in the order of a page, their captions in the figures."""
    for cell in cells:
        if cell.cell_type == "code":
            cell.outputs = without_captions(cell.outputs)
    results = [cell for cell in cells[1:] if "result" in cell.metadata.get("tags", [])]
    if not results:
        return cells
    rest = [cell for cell in cells[1:] if cell not in results]
    return [cells[0], nbformat.v4.new_markdown_cell("## Result"), *results, *rest]


def without_captions(outputs: list) -> list:
    """The outputs without those that repeat the caption of the figure before them."""
    captions = [None, *(output.get("metadata", {}).get("image/png", {}).get("caption") for output in outputs)]
    texts = [output.get("data", {}).get("text/markdown") for output in outputs]
    pairs = zip(outputs, texts, captions, strict=False)
    return [output for output, text, before in pairs if text is None or unescape(text) != before]


def write(path: Path, text: str) -> None:
    """Write a file whole or not at all."""
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
        os.chmod(name, 0o644)
        os.replace(name, path)
    except BaseException:
        os.unlink(name)
        raise


def publish(source: Path, target: Path) -> None:
    """Turn one executed notebook into one page that stands alone."""
    exporter = PageExporter(extra_template_basedirs=[str(HERE)], template_name="template")
    notebook = nbformat.read(source, as_version=4)
    notebook.cells = arranged(notebook.cells)
    notebook.metadata["title"] = f"{page_name(source.stem)} ({target.resolve().parent.name})"
    dark = HtmlFormatter(style="github-dark").get_style_defs(".highlight")
    html, _ = exporter.from_notebook_node(notebook, {"dark_code": dark})
    outside = outside_references(html)
    if outside:
        raise ValueError(f"{source} would load from outside the page: {', '.join(outside[:5])}")
    write(target, improved(html))


def summary(path: Path) -> dict[str, Any]:
    """What a list says of a page: its link, its first heading and paragraph, the figure and words of its result."""
    soup = BeautifulSoup(path.read_text(encoding="utf-8"), "html.parser").main
    title, paragraph, figure = soup.find("h1"), soup.find("p"), soup.select_one(".celltag_result figure")
    words = [words for words in soup.select(".celltag_result div.jp-RenderedMarkdown") if words.li]
    for downloads in figure.select(".downloads") if figure else []:
        downloads.decompose()
    return {
        "link": quote(path.name),
        "name": page_name(path.stem),
        "title": title.get_text() if title else path.stem,
        "text": paragraph.decode_contents() if paragraph else "",
        "figure": str(figure) if figure else "",
        "caption": figure.figcaption.get_text() if figure and figure.figcaption else "",
        "words": words[0].decode_contents() if words else "",
    }


def index(folder: Path, students: Sequence[str] = ()) -> None:
    """Write FOLDER/index.html: what was found, and every page there in the order of names; lead from each to the next.

    What was found is said by the folder's README.md, or else by the results of the analysis or the study.

    Args:
        folder: where the pages are.
        students: names of the students' pages without .html, others of which are left out; none: all.
    """
    paths = sorted(path for path in folder.glob("*.html") if path.name != "index.html")
    if students:
        paths = [path for path in paths if path.stem in students or not path.name.startswith("02_student-")]
    if not paths:
        raise FileNotFoundError(f"no pages in {folder}: an index lists the .html files there")
    for path in paths:
        write(path, joined(path.read_text(encoding="utf-8"), path.stem, [each.stem for each in paths]))
    pages, readme = [summary(path) for path in paths], folder / "README.md"
    findings = markdown(readme.read_text(encoding="utf-8"), exclude_anchor_links=True) if readme.exists() else ""
    files = [] if not findings else sorted(p.name for p in folder.iterdir() if p.suffix in (".csv", ".yaml"))
    leads = [
        page | {"question": QUESTIONS[page["name"]]} for page in pages if page["figure"] and page["name"] in QUESTIONS
    ]
    name = folder.resolve().name
    html = template("contents.html.j2").render(pages=pages, profile=name, findings=findings, leads=leads, files=files)
    write(folder / "index.html", improved(html))


def template(name: str) -> jinja2.Template:
    """A template of the folder beside this file."""
    return jinja2.Environment(loader=jinja2.FileSystemLoader(HERE / "template"), autoescape=True).get_template(name)


def main(arguments: list[str] | None = None) -> None:
    """Run the command line; a wrong input ends it with one line."""
    style = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=style)
    commands = parser.add_subparsers(dest="command", required=True)
    html, listing = commands.add_parser("html"), commands.add_parser("index")
    for subparser, operand in [(html, "source"), (html, "target"), (listing, "folder")]:
        subparser.add_argument(operand, type=Path)
    listing.add_argument("students", nargs="*")
    given = parser.parse_args(arguments)
    try:
        if given.command == "html":
            publish(given.source, given.target)
        else:
            index(given.folder, given.students)
    except (OSError, ValueError) as error:
        sys.exit(f"publish.py {given.command}: {error}")


if __name__ == "__main__":
    main()
