"""What a page's markup needs beyond nbconvert's: names for headings, tables that are read on every medium, links."""

import re
from html import escape
from urllib.parse import quote

from bs4 import BeautifulSoup, Tag

_HEADINGS = re.compile("^h[1-6]$")
_NAVIGATION = re.compile(r'(<nav [^>]*class="pages"[^>]*>).*?(</nav>)', re.DOTALL)
_NOTEBOOK_LINK = re.compile(r'<a data-notebook="([^"]*)"( href="[^"]*")?')


def improved(html: str) -> str:
    """The page with its headings named, tables and wide formulas in regions, and no tab stop without a name."""
    soup = BeautifulSoup(html, "html.parser")
    for tag in soup.find_all(tabindex=True):  # nbconvert makes every cell one
        del tag["tabindex"]
    _name_headings(soup)
    for number, table in enumerate(soup.find_all("table"), 1):
        _dress(soup, table, f"Table {number}: {_section(table)}")
    for formula in soup.find_all("math", display="block"):
        _scrolling(soup, formula, "formula", f"Formula: {_section(formula)}")
    for link in soup.find_all("a", href=re.compile(r"^[\w.-]+\.ipynb$")):
        link.attrs = {"data-notebook": link["href"].removesuffix(".ipynb")}
    return str(soup)


def _name_headings(soup: BeautifulSoup) -> None:
    """An id for every heading: its words; a number behind what occurs again, or is another tag's id."""
    taken = {tag["id"]: 1 for tag in soup.find_all(id=True) if not _HEADINGS.match(tag.name)}
    for heading in soup.find_all(_HEADINGS):
        name = re.sub(r"\W+", "-", heading.get_text().lower()).strip("-") or "section"
        taken[name] = taken.get(name, 0) + 1
        heading["id"] = name if taken[name] == 1 else f"{name}-{taken[name]}"


def _section(tag: Tag) -> str:
    """The words of the heading that a tag stands under."""
    heading = tag.find_previous(_HEADINGS)
    return heading.get_text().strip() if heading else "the page"


def _dress(soup: BeautifulSoup, table: Tag, label: str) -> None:
    """A table that scrolls within itself, by keys too: heads with their scope, intervals in a line of their own."""
    nested = bool(table.select("tbody th[rowspan]"))
    table.attrs = {key: value for key, value in table.attrs.items() if key == "id"}
    if nested:
        table["class"] = "nested"
    for head in table.find_all("th"):
        if not head.get_text().strip():
            head.name, head.attrs = "td", {}  # the corner names nothing
        else:
            head["scope"] = "col" if head.find_parent("thead") else "row"
    for cell in table.find_all("td"):
        if interval := re.fullmatch(r"(\S+) (\[\S+, \S+\])", cell.get_text()):
            cell.string = interval[1] + " "
            cell.append(soup.new_tag("small", string=interval[2]))
        elif len(cell.get_text()) > 24:
            cell["class"] = "text"
    _scrolling(soup, table, "table", label)


def _scrolling(soup: BeautifulSoup, tag: Tag, kind: str, label: str) -> None:
    """The tag in a box that scrolls, which keys reach by its name."""
    tag.wrap(soup.new_tag("div", attrs={"class": kind, "role": "group", "tabindex": "0", "aria-label": label}))


def joined(html: str, name: str, pages: list[str]) -> str:
    """A page among those that stand beside it: previous, next and all, and its links to notebooks as links to pages.

    Args:
        name: the page's file name without .html.
        pages: the names of all pages of the folder, in order.
    """
    place = pages.index(name)
    before, after = pages[:place][-1:], pages[place + 1 :][:1]
    links = [f'<a href="{quote(page)}.html" rel="prev">&larr; {escape(page_name(page))}</a>' for page in before]
    links += ['<a href="index.html">All pages</a>']
    links += [f'<a href="{quote(page)}.html" rel="next">{escape(page_name(page))} &rarr;</a>' for page in after]
    html = _NAVIGATION.sub(lambda found: found[1] + " ".join(links) + found[2], html)
    return _NOTEBOOK_LINK.sub(lambda found: _to_page(found[1], pages), html)


def _to_page(notebook: str, pages: list[str]) -> str:
    """The start of a link to the first page of a notebook; one that leads nowhere where there is none."""
    found = [page for page in pages if page == notebook or page.startswith(f"{notebook}-")]
    href = f' href="{quote(found[0])}.html"' if found else ""
    return f'<a data-notebook="{notebook}"{href}'


def page_name(stem: str) -> str:
    """02_student-laplace@3 -> "student laplace@3"."""
    return re.sub(r"^\d+_", "", stem).replace("-", " ", 1)
