# The graph of reports and studies; `make reports` and `make study` are its short names. What may be given:
#   --config profile=demo jobs=2    a file of params/ or a path, and how many jobs share this machine's processors
#   PAPERMILL_ARGS (environment)    more for every notebook, in papermill's own words
# A job is a notebook or a run. A run has a mark named by its key, so a changed parameter or line of code is another job,
# and what is there already is none; a notebook runs again when its file, its runs' keys or the code of fairkd change.
import atexit
import json
import logging
import os
import shlex
import subprocess
import sys
import time
from contextlib import ExitStack
from functools import cache, partial, wraps
from pathlib import Path

from snakemake.logging import get_event, logger
from snakemake_interface_logger_plugins.common import LogEvent

from fairkd import provenance, runs
from fairkd.data import DataError, entry_named, load
from fairkd.data.options import further_identity
from fairkd.experiment import Profiled
from fairkd.parameters import ParameterError
from fairkd.study.disk import needed
from fairkd.study.early import EarlyStudy
from fairkd.study.grid import Study
from fairkd.study.plan import arguments, plan

PROFILE, JOBS = str(config.get("profile", "demo")), int(config.get("jobs", 1))


def profile_file():
    """The file of the profile: one of params/, by its name, or the path of any."""
    path = Path(PROFILE if PROFILE.endswith((".yaml", ".yml")) else f"params/{PROFILE}.yaml")
    if not path.is_file():
        known = ", ".join(sorted(path.stem for path in Path("params").glob("*.yaml")))
        sys.exit(f"no profile {PROFILE}; there are: {known}, and the path of any .yaml file will do")
    return path


def profile_name(file):
    """What pages of the profile go by: its stem; of another file than the profile of that name, its folder's too."""
    known = Path("params", f"{file.stem}.yaml")
    return f"{file.resolve().parent.name}-{file.stem}" if known.is_file() and not known.samefile(file) else file.stem


PARAMS = str(profile_file())
NAME = profile_name(Path(PARAMS))
OUT = f"reports/{NAME}"


# One graph of a profile at a time: two at once would run each job twice, and delete what the other had finished. Before
# anything is looked at, so that who waited finds what is done; not by a process that makes one job of a graph.
if workflow.is_main_process and not workflow.output_settings.dryrun:
    HELD = ExitStack()
    HELD.enter_context(runs.alone(Path(OUT), partial(print, flush=True)))
    atexit.register(HELD.close)

GIVEN = os.environ.get("PAPERMILL_ARGS", "")
PROCESSORS = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()  # macOS has none
SHARE = max(1, PROCESSORS // JOBS)  # for each job
CODE = runs.digest(*provenance.code_digests("fairkd", "fairkd.study", "fairkd.figures").values())
PUBLISH = ["reports/publish.py", "reports/markup.py", *map(str, Path("reports/template").glob("*.*"))]
RUNS = str(runs.runs_folder())
DONE = "reports/runs/.{name}.{what}.done"
STUDIES = []  # experiments and their runs, as they are asked for
GRIDS = {"05_study": "study", "07_early_exit": "early"}
READING = ["03_analysis", "04_figures", "08_examples"]  # all students of a report

# Papermill keeps the notebook of a run that failed; the final name is for a run that ended well. What the kernel says
# while it trains is shown; through a pipe, since papermill would cut off a log file it reopens.
PAPERMILL = """
echo {params.title:q}
name={output:q}; name="${{name%.ipynb}}"
rm -f "$name.failed.ipynb"
papermill {input.notebook:q} "$name.running.ipynb" -k python3 -p profile {PARAMS:q} {params.more} {GIVEN} \
  --progress-bar --stdout-file /dev/stderr --stderr-file /dev/stderr 2>&1 | cat || {{
  [ ! -f "$name.running.ipynb" ] || {{
    mv "$name.running.ipynb" "$name.failed.ipynb"
    echo "Failed. What ran, and the error: $name.failed.ipynb" >&2; }}
  exit 1; }}
mv "$name.running.ipynb" {output:q}
"""

# The mark is of the run that was planned, not of what the parameters or the code, changed meanwhile, have made.
RUN = """
echo {params.title:q}
python -m fairkd {params.command}
[ -d {RUNS:q}/{wildcards.name} ] || {{
  echo "No run {wildcards.name}: the parameters or the code changed meanwhile; give the command again" >&2
  exit 1; }}
touch {output:q}
"""


class TimeLeft(logging.Filter):
    """Of what snakemake says of finished jobs: how many of all, and how long the rest take at the pace of those before."""

    start = time.monotonic()

    def filter(self, record):
        if get_event(record) == LogEvent.PROGRESS and record.total > 1:
            left = (time.monotonic() - self.start) / record.done * (record.total - record.done)
            print(f"{record.done} of {record.total} jobs done, about {left / 60:.0f} min left", flush=True)
        words = record.getMessage().startswith(("Select jobs", "Execute "))
        return not words and get_event(record) not in (LogEvent.PROGRESS, LogEvent.JOB_FINISHED)


logger.addFilter(TimeLeft())


def in_one_line(ask):
    """What asks for parameters, such that a wrong one ends all with its own words, not with snakemake's traceback."""

    @wraps(ask)
    def asking(*arguments):
        try:
            return ask(*arguments)
        except (ParameterError, DataError) as error:
            sys.exit(str(error))

    return asking


@cache
@in_one_line
def asked(what):
    """The parameters of "report", "study", "early" or "tune", as papermill reads its arguments."""
    if what == "tune":
        from fairkd.study.tuning import Tuning as kind  # here, since it takes Optuna half a second to load
    else:
        kind = {"report": Profiled, "study": Study, "early": EarlyStudy}[what]
    found = kind.of({"profile": PARAMS} | given())
    if what == "report":
        found.experiment.compared(found.experiment.students)
    return found


@cache
def given():
    """{name: value} of PAPERMILL_ARGS."""
    if not GIVEN:
        return {}
    command = ["papermill", "notebooks/05_study.ipynb", "-", "--prepare-only", *shlex.split(GIVEN)]
    quiet = os.environ | {"PYTHONWARNINGS": "ignore"}
    prepared = subprocess.run(command, stdout=subprocess.PIPE, text=True, env=quiet)
    if prepared.returncode:
        sys.exit(f"PAPERMILL_ARGS={GIVEN}: papermill refuses them, for the reason above")
    return json.loads(prepared.stdout)["metadata"]["papermill"]["parameters"]


@cache
@in_one_line
def planned(what):
    """{name: run} of "report", "study", "early" or "tune", whose students are those that are varied."""
    experiment = asked(what).experiment
    seeds = [experiment.seed] if what in ("report", "tune") else asked(what).seeds
    students = {"report": lambda: experiment.students, "study": lambda: asked(what).methods}
    specs = students.get(what, lambda: asked(what).students)()
    found = plan(experiment, [(spec, seed) for seed in seeds for spec in specs], exits=what in ("report", "early"))
    if what != "report":
        STUDIES.append((experiment, found))
    return found


def mark(name, what):
    """The mark of a run, true to what is there."""
    path = Path(DONE.format(name=name, what=what))
    if not planned(what)[name].done:
        path.unlink(missing_ok=True)
    elif not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)  # runs may lie elsewhere
        path.touch()
    return str(path)


def before(run):
    """The runs that one is made after."""
    return [*run.needs, *([run.after] if run.after else [])]


def command(name, what):
    """The arguments of fairkd that make the run."""
    return shlex.join(arguments(planned(what)[name], PARAMS, asked(what).changes))


@cache
def entries():
    """{how a file is named: entry} of the report's students."""
    return {file_name(spec): spec for spec in asked("report").experiment.students}


def file_name(spec):
    """An entry in the name of a file: without spaces, and cut where there are more letters than a name may have."""
    name = spec.replace(" ", "")
    return name if len(name) <= 150 else f"{name[:100]}-{runs.digest(spec)}"


@cache
def own_run(spec):
    """The run of a student of the report."""
    experiment = asked("report").experiment
    *_, run = plan(experiment, [(spec, experiment.seed)]).values()
    return run


@cache
@in_one_line
def decided():
    """What decides a notebook on all students: their runs, and parameters and further sets that are in no run's key."""
    experiment = asked("report").experiment
    further = [further_identity(experiment, entry_named(name)) for name in experiment.evaluate_on]
    return [CODE, *(own_run(spec).name for spec in entries().values()), stated(given()), stated(further)]


def stated(value):
    """A value as one text, by which snakemake compares it with an earlier one."""
    return json.dumps(value, sort_keys=True)


def made_before(spec):
    """Marks of what a student of the report is made of, but for the teacher, which has a notebook."""
    needs = [planned("report")[need] for need in own_run(spec).needs]
    return [mark(run.name, "report") for run in needs if run.part != "teacher"]


@in_one_line
def room_needed(experiment, wanted):
    """The disk that those of the wanted runs will take which are not there yet, in words when printed."""
    return needed(experiment, load(experiment), wanted.values(), JOBS)


def students():
    return [f"{OUT}/02_student-{name}.ipynb" for name in entries()]


def listed(what):
    """The profile's students as `publish.py index` is told of them: pages of others stay, and are not listed."""
    return shlex.join(f"02_student-{file_name(spec)}" for spec in asked(what).experiment.students)


onstart:
    for experiment, wanted in STUDIES:
        if not all(run.done for run in wanted.values()):
            print(room_needed(experiment, wanted), flush=True)


wildcard_constraints:
    student="[^/]+",
    page="[0-9][^/]*",
    name="[^/.]+",
    what="report|study|early",
    reading="|".join(READING),
    grid="|".join(GRIDS),


localrules:
    reports,
    study,
    early,
    tune,
    page,
    index,


rule reports:
    input:
        lambda wildcards: students(),
        expand(f"{OUT}/{{page}}.ipynb", page=["01_teacher", *READING]),
        index=f"{OUT}/index.html",
    shell:
        "echo Published: {input.index:q}"


rule study:
    input:
        f"{OUT}/05_study.ipynb",
        page=f"{OUT}/05_study.html",
    params:
        listed=lambda wildcards: listed("study"),
    shell:
        "python reports/publish.py index {OUT:q} {params.listed} && echo Published: {input.page:q}"


rule early:
    input:
        f"{OUT}/07_early_exit.ipynb",
        page=f"{OUT}/07_early_exit.html",
    params:
        listed=lambda wildcards: listed("early"),
    shell:
        "python reports/publish.py index {OUT:q} {params.listed} && echo Published: {input.page:q}"


rule tune:
    input:
        f"{OUT}/09_tuning.ipynb",
        page=f"{OUT}/09_tuning.html",
    params:
        listed=lambda wildcards: listed("tune"),
    shell:
        "python reports/publish.py index {OUT:q} {params.listed} && echo Published: {input.page:q}"


rule run:
    input:
        lambda w: [ancient(mark(name, w.what)) for name in before(planned(w.what)[w.name])],
    output:
        DONE,
    params:
        command=lambda w: command(w.name, w.what),
        title=lambda w: "{0.part} {0.student}, seed {0.seed}".format(planned(w.what)[w.name]),
    threads: SHARE
    shell:
        RUN


rule teacher:
    input:
        PARAMS,
        notebook="notebooks/01_teacher.ipynb",
    output:
        f"{OUT}/01_teacher.ipynb",
    params:
        title="Teacher",
        more="",
        decided=lambda wildcards: [CODE, *(run.name for run in planned("report").values() if run.part == "teacher")],
    threads: SHARE
    shell:
        PAPERMILL


rule student:
    input:
        PARAMS,
        f"{OUT}/01_teacher.ipynb",
        lambda wildcards: made_before(entries()[wildcards.student]),
        notebook="notebooks/02_student.ipynb",
    output:
        f"{OUT}/02_student-{{student}}.ipynb",
    params:
        title=lambda wildcards: f"Student {entries()[wildcards.student]}",
        more=lambda wildcards: shlex.join(["-r", "student", entries()[wildcards.student]]),
        decided=lambda wildcards: [CODE, own_run(entries()[wildcards.student]).name],
    threads: SHARE
    shell:
        PAPERMILL


rule reading:
    input:
        PARAMS,
        lambda wildcards: students(),
        notebook="notebooks/{reading}.ipynb",
    output:
        f"{OUT}/{{reading}}.ipynb",
    params:
        title=lambda wildcards: wildcards.reading.split("_")[1].capitalize(),
        more="",
        decided=lambda wildcards: decided(),
    threads: SHARE
    shell:
        PAPERMILL


rule grid:
    input:
        PARAMS,
        lambda w: [ancient(mark(name, GRIDS[w.grid])) for name in planned(GRIDS[w.grid])],
        notebook="notebooks/{grid}.ipynb",
    output:
        f"{OUT}/{{grid}}.ipynb",
    params:
        title=lambda wildcards: GRIDS[wildcards.grid].capitalize(),
        more="",
        decided=lambda wildcards: [CODE, stated(given()), *planned(GRIDS[wildcards.grid])],
    threads: SHARE
    shell:
        PAPERMILL


rule tuning:
    input:
        PARAMS,
        notebook="notebooks/09_tuning.ipynb",
    output:
        f"{OUT}/09_tuning.ipynb",
    params:
        title="Tuning",
        more=shlex.join(["-p", "best", f"reports/tuned/{NAME}.yaml"]),
        decided=lambda wildcards: [CODE, stated(given()), *planned("tune")],
    threads: SHARE
    shell:
        PAPERMILL


rule page:
    input:
        PUBLISH,
        notebook=f"{OUT}/{{page}}.ipynb",
    output:
        f"{OUT}/{{page}}.html",
    shell:
        "python reports/publish.py html {input.notebook:q} {output:q}"


rule index:
    input:
        f"{OUT}/01_teacher.html",
        lambda wildcards: [f"{name.removesuffix('.ipynb')}.html" for name in students()],
        expand(f"{OUT}/{{page}}.html", page=READING),
    output:
        f"{OUT}/index.html",
    params:
        listed=lambda wildcards: listed("report"),
    shell:
        "python reports/publish.py index {OUT:q} {params.listed}"
