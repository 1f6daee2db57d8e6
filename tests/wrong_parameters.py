"""Wrong parameters of every notebook, as papermill injects them, and what the refusal says of each."""

import re
from pathlib import Path

import nbformat

NOTEBOOKS = Path(__file__).parents[1] / "notebooks"
NAN, INF = float("nan"), float("inf")

# {parameter: values}: of a notebook that declares it or takes any parameter by name. The refusal begins with
# "name = value: " and says what is allowed.
NUMBERS = {
    "learning_rate": [0.0, -0.1, 1.0, 1e300, NAN, INF, "5e-5", True, [1e-4]],
    "student_epochs": [0, -1, 1001, 2.5, "3", True],
    "seed": [-1, 2**32, 1.5, "0", True],
    "data_seed": [-1, 2**32, 0.5],
    "train_examples": [0, -5, 10**12, 1.5, "all"],
    "validation_examples": [-6, 10**12, 0.1],
    "evaluation_examples": [0, 10**12, "10"],
    "max_length": [7, 10**6, "64"],
    "batch_size": [0, 10**12, 16.0],
    "max_grad_norm": [0.0, -1.0, NAN, INF, "1"],
    "warmup_ratio": [-0.1, 1.0, NAN],
    "weight_decay": [-1e-3, 1e308, NAN, "0.01"],
    "threads": [0, 10**6, "2"],
    "bf16": [1, "yes", "true"],
    "teacher_epochs": [-1, 1001],
    "teacher_learning_rate": [0.0, 1.0, 1e300, "2e-5"],
    "teacher_seed": [-1, "a"],
    "temperature": [0.0, -1.0, 1e6, NAN, "2"],
    "kd_weight": [-0.1, 1.1, NAN],
    "aux_layer": [0, -3, 1.5, "6", True],
    "alpha": [-0.1, 11.0, 1e308, NAN],
    "beta": [-1.0, 100.0, 1e308, NAN, "3", [3.0]],
    "weight_cap": [0.5, 1e300, INF, "none"],
    "warm_start_epochs": [0, 1.0, "1"],
    "reweight_every": [0, 10**4],
    "n_words": [0, 10**12],
    "n_samples": [0, 10**12, 1.5],
    "exit_hidden": [8, [0], [10**12], [-1], [1.5], "[8]", [8] * 9],
    "prior_precision": [0.0, -1.0, 1e-300, 1e300, NAN, INF, "laplace"],
    "head_prior_precision": [0.0, 1e300, "best"],
    "likelihood_temperature": [0.0, 1e-308, 1e308, NAN, "1"],
    "evaluation_per_group": [0, 10**12, 6.5],
    "negation_rates": [[0.0, 0.0, 0.0], [1.0, 1.0, 1.0], [0.1, 0.1], [0.1, 0.2, 1.5], 0.1, [0.1, 0.1, "0.1"]],
    "normalize_weights": [1, "true"],
    "stale_weights": ["no"],
    "permute_weights": [0],
    "use_teacher": ["false"],
}
CHOICES = {
    "method": ["laplas", "Laplace", "", 3, ["kd"], {}],
    "posterior": ["kroneker", "", 1, ["dense"]],
    "prior": ["exakt", "", 1],
    "pooling": ["max", "CLS"],
    "predictive": ["quadratur", True],
    "reweight": ["ce", ""],
    "place": ["head"],
    "reader": ["word"],
    "shape": ["exponental"],
    "exponent": ["powr"],
    "signal": ["margins"],
    "exit_reads": ["hypotesis"],
    "instruction_set": ["avx512"],
    "dataset": ["mnly", "../mnli", "none.yaml", 3, "", "hans"],
    "data": ["./nowhere", "/nowhere/at/all", ".", "", "a\nb", 3],
    "teacher_model": ["./nowhere", "", "a\0b", "params", 3],
    "student_model": ["./nowhere", "", 3],
    "report_to": ["tensorbord", "wandb", ""],
    "students": ["kd", [], ["kd", "kd"], ["kd", "dedir@3"], ["laplace@x"], ["laplace@0"], ["laplace@٣"], ["kd;touch x"],
                 ["../kd"], [3], ["laplace@3,method=kd"], ["laplace@3,beta=abc"], ["kd,beta=1: 2: 3"],
                 ["laplace@3,exit_hidden=8"], ["laplace@3", "laplace@3,beta=3"], ["kd,beta=9"], ["laplace@3,beta=-1"],
                 ["laplace@3,posterior=dense,prior=factored"], ["laplace@3,temprature=2"], ["laplace@9"],
                 ["kd", "laplace@3,posterior=kroneker"], ["kd", "laplace@3,posterior=[a]"]],
    "finished_exits": [{"poling": "mean"}, {"pooling": "max"}, {"posterior": "x"}, {"posterior": [1]}, "mean", {1: 2}],
    "evaluate_on": ["hans", ["han"], ["demo"], ["mnli", "mnli"], [3]],
    "generator_options": [{"rates": 1}, {"negation_rates": 1}],
    "profile": ["dmo", "../params/demo", "none.yaml", 3, "", "demo;touch x"],
    "changes": [{"bta": 2.0}, {"beta": -1.0}, {"prior": "factored", "posterior": "dense"}, "beta", 3, {1: 2}],
}  # fmt: skip
# What a value needs beside it to be looked at.
BESIDE = {
    "data": {"dataset": "mnli"},
    "evaluate_on": {"dataset": "mnli"},
    "prior": {"method": "laplace"},
    "head_prior_precision": {"place": "refit"},
}
# {notebook: parameters that it is tried with}; 02 with all.
TRIED = {
    "01_teacher": {"profile", "changes", "dataset", "data", "train_examples", "teacher_model", "teacher_epochs"}
    | {"teacher_learning_rate", "teacher_seed"},
    "02_student": (NUMBERS.keys() | CHOICES.keys()) - {"students", "evaluate_on", "finished_exits"},
    "03_analysis": {"profile", "students", "seed", "evaluation_examples", "evaluate_on", "finished_exits"},
    "04_figures": {"students", "finished_exits", "changes"},
    "08_examples": {"profile", "dataset", "evaluation_examples"},
}
# (notebook, parameters, what the refusal says)
SINGLE = [
    ("01_teacher", {"teacher_epoch": 3}, "teacher_epoch: there is no such parameter; did you mean 'teacher_epochs'"),
    ("01_teacher", {"teacher_epochs": 0}, "teacher_epochs = 0: .* without a trained classifier"),
    ("01_teacher", {"train_examples": 2_000_000}, "train_examples = 2000000, .*at most 1,000,000"),
    ("02_student", {"aux_layr": 6}, "aux_layr: there is no such parameter; did you mean 'aux_layer'"),
    ("02_student", {"Method": "kd"}, "Method: there is no such parameter; did you mean 'method'"),
    ("02_student", {"aux_layer": 7}, "aux_layer = 7: the student has layers 1 to 6"),
    ("02_student", {"student": "kd,beta=1: 2: 3"}, "'kd,beta=1: 2: 3' should read method@layer,name=value"),
    ("02_student", {"student": "laplace@3,method=kd"}, "method is said twice"),
    ("02_student", {"student": 3}, "3 should read method@layer"),
    ("02_student", {"method": "kd", "beta": 9.0}, "beta = 9.0: kd .*do not read it; read by avcs, dedier"),
    ("02_student", {"warm_start_epochs": 5}, "warm_start_epochs = 5: with student_epochs = 5 no epoch"),
    ("02_student", {"warm_start_epochs": 7}, "warm_start_epochs = 7: with student_epochs = 5 no epoch"),
    ("02_student", {"max_length": 65}, "max_length = 65: .*has positions for 64 tokens; set max_length to 64 or less"),
    ("02_student", {"posterior": "dense", "prior": "factored"}, "prior = 'factored': laplace and dense do not read it"),
    ("02_student", {"method": "group_dro", "group_step_size": 1e300}, r"group_step_size = 1e\+300: .*less than or"),
    ("02_student", {"method": "jtt", "jtt_factor": 0.0}, "jtt_factor = 0.0: .*greater than 0"),
    ("02_student", {"method": "jtt", "jtt_epochs": 10**6}, "jtt_epochs = 1000000: .*less than or equal to 1000"),
    ("02_student", {"method": "avcs", "delta": 1.0}, "delta = 1.0: .*less than 1"),
    ("02_student", {"method": "afr", "gamma": 1e9}, "gamma = 1000000000.0: .*less than or equal to 100"),
    ("02_student", {"method": "self", "share": 2.0}, "share = 2.0: .*less than or equal to 1"),
    ("02_student", {"method": "dfr", "refit_on": "test"}, "refit_on = 'test': .*'training' or 'validation'"),
    ("02_student", {"method": "afr", "validation_examples": 0}, "refit_on = 'validation': afr needs validation_exam"),
    ("02_student", {"validation_examples": 7}, "validation_examples = 7: .*a multiple of 6"),
    ("02_student", {"changes": {"student_model": None}, "teacher_model": "fairkd/demo/encoders/demo-distilbert"},
     "student_model = None: alternate layers are taken of BERT encoders"),
    ("03_analysis", {"student": ["kd"]}, "student: there is no such parameter; did you mean 'students'"),
    ("03_analysis", {"students": ["kd"], "delta": 0.2}, "delta = 0.2: none of the students reads it"),
    ("03_analysis", {"aux_layer": 3, "students": ["kd"]}, "aux_layer = 3: none of the students reads it"),
    ("03_analysis", {"methods": ["kd"]}, "methods: there is no such parameter; did you mean 'students'"),
    ("03_analysis", {"lr": 1e-4}, "lr: there is no such parameter; did you mean 'learning_rate'"),
    ("04_figures", {"studnets": ["kd"]}, "studnets: there is no such parameter; did you mean 'students'"),
    ("05_study", {"methods": "kd"}, "methods = 'kd': should be a list; with papermill use -y"),
    ("05_study", {"methods": []}, "methods = \\[\\]: .*at least 1 item"),
    ("05_study", {"methods": ["kd", "kd"]}, "students, 'kd': is the same student as 'kd'"),
    ("05_study", {"methods": ["kd", "kd,kd_weight=0.5"]}, "'kd,kd_weight=0.5': is the same student as 'kd'"),
    ("05_study", {"methods": ["dedir@3"]}, "unknown method 'dedir' in 'dedir@3'; did you mean 'dedier'"),
    ("05_study", {"methods": ["kd,seed=1"]}, "methods = .*'kd,seed=1': seeds stand in seeds"),
    ("05_study", {"methods": ["laplace@9"]}, "aux_layer = 9: the student has layers 1 to 6"),
    ("05_study", {"methods": ["kd,beta=2"]}, "beta = 2: kd .*do not read it"),
    ("05_study", {"methods": [3]}, "methods = 3: should be text"),
    ("05_study", {"methods": ["../kd"]}, "'../kd' should read method@layer"),
    ("05_study", {"seeds": [0, 0]}, r"seeds = \[0, 0\]: name each seed once"),
    ("05_study", {"seeds": []}, r"seeds = \[\]: .*at least 1 item"),
    ("05_study", {"seeds": [-1]}, "seeds = -1: .*greater than or equal to 0"),
    ("05_study", {"seeds": 3}, "seeds = 3: should be a list"),
    ("05_study", {"seeds": ["0"]}, "seeds = '0': should be a whole number"),
    ("05_study", {"seed": 3}, "seed: this notebook does not read it; state seeds"),
    ("05_study", {"method": "kd"}, "method: this notebook does not read it; state methods"),
    ("05_study", {"students": ["kd"]}, "students: this notebook does not read it; state methods"),
    ("05_study", {"methds": ["kd"]}, "methds: there is no such parameter; did you mean 'method"),
    ("05_study", {"refits": ["kd"]}, "refits, 'kd': has no weights that a refit could use"),
    ("05_study", {"refits": ["dedier@9"]}, "aux_layer = 9: the student has layers 1 to 6"),
    ("05_study", {"refits": ["afr"]}, "refits, 'afr': is refitted on the validation rows that choose its setting"),
    ("05_study", {"refits": "dedier@3"}, "refits = 'dedier@3': should be a list"),
    ("05_study", {"record": ""}, "record = '': should be a folder inside the project's"),
    ("05_study", {"record": "../x"}, r"record = '\.\./x': should be a folder inside the project's"),
    ("05_study", {"record": "/tmp/x"}, "record = '/tmp/x': should be a folder inside"),
    ("05_study", {"record": 3}, "record = 3: should be text"),
    ("05_study", {"methods": ["kd"], "refits": [], "delta": 0.1}, "delta = 0.1: none of the students reads it"),
    ("05_study", {"beta": 1e308}, r"beta = 1e\+308"),
    ("05_study", {"changes": {"bta": 1.0}}, "bta: there is no such parameter; did you mean 'beta'"),
    ("05_study", {"changes": [1]}, r"changes = \[1\]: should be a mapping"),
    ("05_study", {"profile": "dmo"}, "profile = 'dmo': there is no such file; did you mean 'demo'"),
    ("05_study", {"epochs": 3}, "epochs: .*; did you mean 'student_epochs' or 'teacher_epochs'"),
    ("06_benchmark", {"pairs": 0}, "pairs = 0: .*greater than or equal to 1"),
    ("06_benchmark", {"pairs": 10**12}, "pairs = 1000000000000: .*less than or equal to"),
    ("06_benchmark", {"pairs": 2_000_000}, "train_examples = 2000000"),
    ("06_benchmark", {"loop_pairs": 1.5}, "loop_pairs = 1.5: "),
    ("06_benchmark", {"map_rows": "50000"}, "map_rows = '50000': should be a whole number"),
    ("06_benchmark", {"laplace_rows": -1}, "laplace_rows = -1: .*greater than or equal to 1"),
    ("06_benchmark", {"widths": []}, r"widths = \[\]: .*at least 1 item"),
    ("06_benchmark", {"widths": 384}, "widths = 384: should be a list"),
    ("06_benchmark", {"widths": [10**9]}, "widths = 1000000000: .*less than or equal to 16384"),
    ("06_benchmark", {"most_rows": True}, "most_rows = True: should be a whole number"),
    ("06_benchmark", {"pars": 3}, "pars: there is no such parameter; did you mean 'pairs'"),
    ("06_benchmark", {"changes": {"teacher_modl": "x"}}, "teacher_modl: there is no such parameter; did you mean"),
    ("06_benchmark", {"student_model": "./nowhere"}, "student_model = './nowhere': neither the folder"),
    ("07_early_exit", {"depths": [0.5, 0.4]}, r"depths = \[0.5, 0.4\]: name depths above 0 and at most 1"),
    ("07_early_exit", {"depths": [0.1, 1.0]}, r"depths = \[0.1, 1.0\]: a student of 6 layers answers at depths"),
    ("07_early_exit", {"depths": [0.0]}, r"depths = \[0.0\]: name depths above 0"),
    ("07_early_exit", {"students": ["laplace@9"]}, "aux_layer = 9: the student has layers 1 to 6"),
    ("07_early_exit", {"students": ["kd,seed=1"]}, "'kd,seed=1': seeds stand in seeds"),
    ("07_early_exit", {"students": ["kd", "kd,kd_weight=0.5"]}, "'kd,kd_weight=0.5': is the same student as 'kd'"),
    ("07_early_exit", {"seed": 3}, "seed: this notebook does not read it; state seeds"),
    ("07_early_exit", {"seeds": [1, 1]}, r"seeds = \[1, 1\]: name each seed once"),
    ("07_early_exit", {"record": "../x"}, r"record = '\.\./x': should be a folder inside"),
    ("09_tuning", {"space": {}}, r"space = \{\}: .*at least 1 item"),
    ("09_tuning", {"space": ["beta"]}, r"space = \['beta'\]: should be a mapping"),
    ("09_tuning", {"space": {"beta": 3.0}}, "space = 3.0: should be a list"),
    ("09_tuning", {"space": {"bta": [1.0, 2.0]}}, "space: bta cannot be tuned of these students; did you mean 'beta'"),
    ("09_tuning", {"space": {"batch_size": [16, 64]}}, "space: batch_size cannot be tuned of these students"),
    ("09_tuning", {"space": {"kept_epoch": None}}, "space: kept_epoch cannot be tuned of these students"),
    ("09_tuning", {"kept_epoch": "validation average"}, "kept_epoch: a tuning does not read it; state selection"),
    ("09_tuning", {"space": {"seed": [0, 9]}}, "space: seed cannot be tuned of these students"),
    ("09_tuning", {"space": {"beta": []}}, r"space: beta = \[\]: name a value or more, each once"),
    ("09_tuning", {"space": {"beta": [1.0, 1.0]}}, r"space: beta = \[1.0, 1.0\]: name a value or more, each once"),
    ("09_tuning", {"space": {"beta": [0.5, 60.0]}}, "beta = 60.0: .*less than or equal to 20"),
    ("09_tuning", {"space": {"aux_layer": [1, 7]}}, "aux_layer = 7: the student has layers 1 to 6"),
    ("09_tuning", {"space": {"aux_layer": [1.0, 2.0]}}, "aux_layer = 1.0: should be a whole number"),
    ("09_tuning", {"space": {"aux_layer": None}}, "space: aux_layer = None: has no limits of its own"),
    ("09_tuning", {"space": {"shape": ["linear", "cubic"]}}, "shape = 'cubic': .*'linear'"),
    ("09_tuning", {"students": ["kd", "dedier@3"], "changes": {}}, "students, 'kd': reads nothing of the space"),
    ("09_tuning", {"students": ["afr"], "changes": {}, "space": {"gamma": [1.0, 9.0]}}, "'afr': is refitted on the"),
    ("09_tuning", {"students": ["dedier@3,seed=1"]}, "'dedier@3,seed=1': seeds stand in seeds"),
    ("09_tuning", {"students": ["dedir@3"]}, "unknown method 'dedir'"),
    ("09_tuning", {"students": []}, r"students = \[\]: .*at least 1 item"),
    ("09_tuning", {"method": "kd"}, "method: this notebook does not read it; state students"),
    ("09_tuning", {"trials": 0}, "trials = 0: .*greater than or equal to 1"),
    ("09_tuning", {"trials": "8"}, "trials = '8': should be a whole number"),
    ("09_tuning", {"objective": "accuracy"}, "objective = 'accuracy': .*'validation average', 'smallest class"),
    ("09_tuning", {"selection": "best"}, "selection = 'best': .*'last epoch'"),
    ("09_tuning", {"search_seed": -1}, "search_seed = -1: .*greater than or equal to 0"),
    ("09_tuning", {"storage": "tuning.db"}, "storage = 'tuning.db': should be a URL such as sqlite"),
    ("09_tuning", {"storage": "sqlite:////nowhere/at/all.db"}, "storage = 'sqlite:////nowhere/at/all.db': .*reached"),
    ("09_tuning", {"storage": "x://me:secret@host/db"}, r"storage = 'x://me:\.\.\.@host/db': should be the URL of"),
    ("09_tuning", {"best": "/tmp/x.yaml"}, "best = '/tmp/x.yaml': should be a .yaml file inside the project's"),
    ("09_tuning", {"best": "reports/tuned/x"}, "best = 'reports/tuned/x': should be a .yaml file inside"),
    ("09_tuning", {"validation_examples": 0}, "validation_examples = 0: a tuning asks validation rows"),
]  # fmt: skip


# What papermill's last line says, of these arguments.
PAPERMILL = [
    ("02_student", ["-p", "aux_layer", "7"], "aux_layer = 7: the student has layers 1 to 6"),
    ("02_student", ["-p", "aux_layr", "6"], "aux_layr: there is no such parameter; did you mean 'aux_layer'"),
    ("02_student", ["-p", "dataset", "mnli", "-p", "data", "./nowhere"], "data = './nowhere': there is no folder"),
    ("02_student", ["-p", "method", "kd", "-p", "beta", "9"], "beta = 9: kd .*do not read it"),
    ("02_student", ["-y", "learning_rate: 5e-5"], "learning_rate = '5e-5': .*write 5.0e-5"),
    ("02_student", ["-r", "student", "kd;touch x"], "'kd;touch x' should read method@layer"),
    ("01_teacher", ["-p", "teacher_epochs", "0"], "teacher_epochs = 0: .*without a trained classifier"),
    ("01_teacher", ["-p", "report_to", "tensorbord"], "report_to = 'tensorbord': .*did you mean 'tensorboard'"),
    ("03_analysis", ["-p", "students", "[kd]"], "students = .*should be a list; with papermill use -y"),
    ("04_figures", ["-p", "profile", "../demo"], "profile = '../demo': there is no such file"),
    ("05_study", ["-y", "seeds: [0, 0]"], r"seeds = \[0, 0\]: name each seed once"),
    ("06_benchmark", ["-p", "pairs", "0"], "pairs = 0: .*greater than or equal to 1"),
]  # fmt: skip
_ALLOWED = re.compile(
    "should|did you mean|allowed|known: |greater|less|finite|at least|at most|state|name|read by|reads it|there is no|"
    "has |twice"
)


def cases():
    """(notebook, injected parameters, what the refusal says): every case."""
    found = [
        (notebook, BESIDE.get(name, {}) | {name: value}, None)
        for notebook, names in TRIED.items()
        for name, values in (NUMBERS | CHOICES).items()
        for value in (values if name in names else ())
    ]
    return [*found, *SINGLE]


def told(injected, expected, message):
    """Whether a refusal says `expected`, or else what is wrong by name or value, and what is allowed."""
    if expected:
        return bool(re.search(expected, message))
    name, value = list(injected.items())[-1]
    inner = [*value] if isinstance(value, list | dict) else []
    parts = [part for each in inner for part in re.split("[@,;=]", str(each))]
    named = any(str(part) in message for part in (name, *filter(None, parts)))
    return named and bool(_ALLOWED.search(message))


def first_cells(notebook):
    """The sources of the parameters cell and of the cell after it."""
    code = [c for c in nbformat.read(NOTEBOOKS / f"{notebook}.ipynb", as_version=4).cells if c.cell_type == "code"]
    place = next(i for i, cell in enumerate(code) if "parameters" in cell.metadata.get("tags", []))
    return code[place].source, code[place + 1].source


def refused(notebook, injected):
    """What a notebook's first cell says of parameters injected by papermill; AssertionError if it says nothing.

    Anything else than a parameter's or the data's error comes as it is.
    """
    from fairkd import DataError, ParameterError

    parameters, first = first_cells(notebook)
    lines = "".join(f"{name} = {value!r}\n" for name, value in injected.items())
    lines = "# Parameters\n" + lines.replace("= nan", "= float('nan')").replace("= inf", "= float('inf')")
    namespace = {"In": ["", parameters, lines]}
    for source in (parameters, lines):
        exec(source, namespace)
    try:
        exec(first, namespace)
    except (ParameterError, DataError) as error:
        return str(error)
    raise AssertionError(f"{notebook} accepts {injected}")


def tried() -> dict[str, bool]:
    """{case: whether it was refused as it should be}, of all cases."""
    found = {}
    for notebook, injected, expected in cases():
        try:
            ok = told(injected, expected, refused(notebook, injected))
        except Exception:  # a raw traceback, or no refusal at all
            ok = False
        found[f"{notebook} {injected}"] = ok
    return found
