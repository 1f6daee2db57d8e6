"""One page over everything, and everything in one folder.

    python reports/gather.py index           reports/index.html: profiles, studies, records and runs
    python reports/gather.py site FOLDER     the published pages, with that index and the API, in FOLDER

Read are the pages that `publish.py` wrote, the tables of record, and the runs on disk; nothing is computed anew.
"""

import argparse
import base64
import io
import json
import re
import shutil
import sys
import time
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

import pandas as pd
import yaml
from bs4 import BeautifulSoup
from markup import improved
from publish import outside_references, template, write

REPORTS = Path(__file__).resolve().parent
PUBLISHED = {".html", ".ipynb", ".csv", ".png", ".yaml", ".md"}


def index(reports: Path) -> None:
    """Write REPORTS/index.html."""
    folders = sorted(path.parent for path in [*reports.glob("*/index.html"), *reports.glob("record/*/index.html")])
    cards = [card(folder, reports) for folder in folders if folder.name not in ("api", "site")]
    runs = all_runs(reports / "runs")
    details = {run["name"]: run.pop("details") for run in runs}
    api = (reports / "api" / "index.html").exists()
    html = improved(template("all.html.j2").render(cards=cards, runs=runs, details=details, api=api))
    if outside := outside_references(html):
        raise ValueError(f"the index would load from outside the page: {', '.join(outside[:5])}")
    write(reports / "index.html", html)


def card(folder: Path, reports: Path) -> dict[str, Any]:
    """A folder of pages: its link, its title, a figure of its result, what it says of the group that `kd` loses."""
    first = BeautifulSoup((folder / "index.html").read_text(encoding="utf-8"), "html.parser")
    found = {"link": quote(f"{folder.relative_to(reports)}/index.html"), "title": first.h1.get_text(), "numbers": []}
    pages = [folder / f"{name}.html" for name in ("05_study", "03_analysis") if (folder / f"{name}.html").exists()]
    own = first.select_one("main img[src$='.png']")  # of the folder's README
    if own and (file := folder / Path(unquote(own["src"])).name).is_file():
        image = base64.b64encode(file.read_bytes()).decode()
        found |= {"image": f"data:image/png;base64,{image}", "alt": own.get("alt", "")}
    for page in pages[:1]:
        soup = BeautifulSoup(page.read_text(encoding="utf-8"), "html.parser")
        figure = None if "image" in found else soup.select_one(".celltag_result img")
        found |= {"image": figure["src"], "alt": figure["alt"]} if figure else {}
        report = folder / "report.csv"
        link = soup.select_one(".celltag_result a[download$='.csv']")
        if report.exists():
            found["numbers"] = numbers(pd.read_csv(report))
        elif link:
            table = pd.read_csv(io.StringIO(unquote(link["href"].partition(",")[2])))
            found["numbers"] = numbers(table[table["seed"].isna()] if "seed" in table else table)
    return found


def numbers(table: pd.DataFrame) -> list[dict[str, str]]:
    """The two that matter, of `kd`, or the first student, and of the student with the highest worst group.

    They are the accuracy in the group that `kd` loses, and on average.
    """
    values = table[table["student"] != "teacher"].pivot_table(index="student", columns="row", values="value")
    lines = table.set_index(["student", "row"])
    plain = "kd" if "kd" in values.index else values.index[0]
    groups = values[[row for row in values if is_group(row)]]
    lost, best = groups.loc[plain].idxmin(), groups.min(axis=1).idxmax()

    def told(student: str, row: str) -> str:
        return shown(lines.loc[(student, row)])

    return [
        {"row": row, "plain": plain, "of_plain": told(plain, row), "best": best, "of_best": told(best, row)}
        for row in (lost, "average")
    ]


def is_group(row: str) -> bool:
    """Whether a row of a report is one group: a label and a level, and not a level alone, an average or an error."""
    return ", " in row


def all_runs(folder: Path) -> list[dict[str, Any]]:
    """A row for each finished teacher and student: what it is, its average and its target group, with intervals."""
    paths = [path for path in sorted(folder.glob("*")) if re.fullmatch(r"(exits|teacher)-[0-9a-f]{12}", path.name)]
    found = [read(path) for path in paths if trained(path).is_dir()]  # a student may have been removed
    plain = {run["data"]: run["report"] for run in reversed(found) if run["method"] == "kd"}
    for run in found:
        report = plain.get(run.pop("data"), run["report"])
        target = min((row for row in report if is_group(row)), key=lambda row: report[row]["value"] or 0)
        run |= {"target": target, "accuracy": run["report"][target], "average": run["report"]["average"]}
        run["details"] |= {row: shown(value) for row, value in run.pop("report").items()}
    return sorted(found, key=lambda run: (run["dataset"], run["method"], run["layer"] or 0, run["seed"]))


def read(folder: Path) -> dict[str, Any]:
    """A run's parameters, numbers and circumstances, from its files."""
    metrics = json.loads((folder / "metrics.json").read_text(encoding="utf-8"))
    student = trained(folder)
    config, own = settings(folder), settings(student)
    made = json.loads((student / "provenance.json").read_text(encoding="utf-8"))
    data = [own.get(key) for key in ("dataset", "entry", "train_examples", "data_seed", "generator_options")]
    day = time.strftime("%Y-%m-%d", time.localtime((student / "config.yaml").stat().st_mtime))
    flat = {**config, **own}
    details = {name: str(value) for name, value in flat.items() if not isinstance(value, dict)}
    details |= {f"version of {name}": version for name, version in made["versions"].items()}
    details |= {name: str(made[name]) for name in ("device", "threads", "commit", "seconds") if name in made}
    return {
        "name": student.name,
        "dataset": own["dataset"],
        "data": json.dumps(data, sort_keys=True),
        "method": own.get("method", "teacher"),
        "layer": own.get("aux_layer"),
        "place": own.get("place"),
        "seed": own.get("seed", own.get("teacher_seed")),
        "report": metrics["student" if "student" in metrics else "teacher"],
        "date": day,
        "versions": f"fairkd {made['versions']['fairkd']}, torch {made['versions']['torch']}",
        "details": details,
    }


def trained(folder: Path) -> Path:
    """The run of the training: of exits, that of their student."""
    return folder.parent / settings(folder).get("student", folder.name)


def settings(folder: Path) -> dict[str, Any]:
    """A run's config.yaml."""
    return yaml.safe_load((folder / "config.yaml").read_text(encoding="utf-8"))


def shown(value: dict[str, float]) -> str:
    """A number of a report with its interval; "absent" where the group has no rows."""
    if value["value"] is None:
        return "absent"
    return f"{value['value']:.3f} [{value['low']:.3f}, {value['high']:.3f}]"


def site(reports: Path, target: Path) -> None:
    """Everything published in TARGET, which is made anew: pages with what they link to, the index, the API."""
    import pdoc  # here, since an index needs none

    pdoc.render.configure(docformat="google", show_source=False, template_directory=REPORTS / "template" / "api")
    pdoc.pdoc("fairkd", output_directory=reports / "api")
    index(reports)
    temporary = target.with_name(f".{target.name}.partial")
    shutil.rmtree(temporary, ignore_errors=True)
    pages = [
        path for path in reports.rglob("*.html") if not {"runs", "cache", "template", target.name} & set(path.parts)
    ]
    for folder in {path.parent for path in pages}:
        for path in folder.iterdir():
            if path.suffix in PUBLISHED and not re.search(r"\.(failed|running)\.", path.name):
                copy = temporary / path.relative_to(reports)
                copy.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(path, copy)
    (temporary / ".nojekyll").touch()  # GitHub Pages serves the files as they are
    shutil.rmtree(target, ignore_errors=True)
    temporary.rename(target)


def main(arguments: list[str] | None = None) -> None:
    """Run the command line; a wrong input ends it with one line."""
    style = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=style)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("index")
    commands.add_parser("site").add_argument("folder", type=Path)
    given = parser.parse_args(arguments)
    try:
        if given.command == "index":
            index(REPORTS)
        else:
            site(REPORTS, given.folder.resolve())
    except (OSError, ValueError) as error:
        sys.exit(f"gather.py {given.command}: {error}")


if __name__ == "__main__":
    main()
