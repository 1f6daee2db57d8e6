import json
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from pydantic import create_model

from fairkd import METHODS, Experiment, ParameterError
from fairkd.__main__ import main, parameter_table
from fairkd.experiment import read_student
from fairkd.parameters import nearest
from fairkd.study.grid import Study

ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"aux_layr": 6}, "aux_layr: there is no such parameter; did you mean 'aux_layer'"),
        ({"epochs": 3}, r"epochs: .*; did you mean 'student_epochs' or 'teacher_epochs'\?$"),
        ({"lr": 1e-4}, r"lr: .*; did you mean 'learning_rate'\?$"),
        ({"layer": 3}, r"layer: .*; did you mean 'aux_layer'\?$"),
        ({"methods": ["kd"]}, r"methods: .*; did you mean 'students' or 'method'\?$"),
        ({"examples": 9}, r"did you mean 'train_examples', 'validation_examples' or 'evaluation_examples'\?$"),
        ({"batch": 9}, r"did you mean 'batch_size'\?$"),
        ({"model": "x"}, r"did you mean 'teacher_model' or 'student_model'\?$"),
        ({"student_epoch": 3}, r"did you mean 'student_epochs'\?$"),
        ({"aux_layer": 0}, "aux_layer = 0: .*greater than or equal to 1"),
        ({"aux_layer": "6"}, "aux_layer = '6': should be a whole number"),
        ({"learning_rate": "5e-5"}, "learning_rate = '5e-5': .*YAML reads 5e-5 as text, write 5.0e-5"),
        ({"learning_rate": 0.0}, "learning_rate = 0.0"),
        ({"learning_rate": 1.0}, "learning_rate = 1.0"),
        ({"method": "laplas"}, "method = 'laplas': is not known; did you mean 'laplace'"),
        ({"posterior": "kroneker"}, "posterior = 'kroneker': is not known; did you mean 'kronecker'"),
        ({"dataset": "mnly"}, "dataset = 'mnly'"),
        ({"seed": 1.5}, "seed = 1.5"),
        ({"seed": True}, "seed = True"),
        ({"kd_weight": 1.2}, "kd_weight = 1.2"),
        ({"beta": 1e308}, "beta = 1e\\+308"),
        ({"reweight": "ce"}, "reweight = 'ce'"),
        (
            {"prior_precision": "laplace"},
            "^prior_precision = 'laplace': should be a number or 'evidence'; YAML reads 5e-5 as text, write 5.0e-5$",
        ),
        ({"prior_precision": -1.0}, "^prior_precision = -1.0: should be greater than or equal to 0.00000001$"),
        ({"students": "[kd]"}, "students = .*should be a list; with papermill use -y"),
        ({"students": ["kd", "dedir@3"]}, "unknown method 'dedir'.*did you mean 'dedier'"),
        ({"students": ["laplace@x"]}, "should read method@layer"),
        ({"students": ["laplace@٣"]}, "should read method@layer"),
        ({"student": 3}, "3 should read method@layer"),
        ({"students": ["kd;touch x"]}, "should read method@layer"),
        ({"students": ["../kd"]}, "should read method@layer"),
        ({"students": ["kd", "kd"]}, "name kd once"),
        ({"student": "laplace@3,beta=abc"}, "beta = 'abc': should be a number"),
        ({"student": "laplace@3,method=kd"}, "method is said twice, or is no parameter of an entry"),
        ({"student": "laplace@3,exit_hidden=8"}, "exit_hidden = 8: should be a list"),
        ({"warm_start_epochs": 5}, "warm_start_epochs = 5: with student_epochs = 5 no epoch would use the exit"),
        ({"method": "poe", "student_epochs": 1}, "no epoch would use the exit of poe, which is plain distillation"),
        ({"student_epochs": 1}, "warm_start_epochs = 1: with student_epochs = 1"),
        ({"finished_exits": {"poling": "mean"}}, "finished_exits: there is no 'poling'; did you mean 'pooling'"),
        ({"finished_exits": {"pooling": "max"}}, "pooling = 'max'"),
    ],
)  # fmt: skip
def test_a_wrong_parameter_is_named_with_what_is_allowed(parameters, message):
    with pytest.raises(ParameterError, match=message):
        Experiment(**parameters)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("kd,beta=9", "beta = 9: kd .*do not read it; read by avcs, dedier, laplace, tempered"),
        ("kd@3", "aux_layer = 3: kd"),
        ("avcs@3,signal=margin", "signal = 'margin': avcs .*read by dedier, laplace"),
        ("group_dro,normalize_weights=true", "normalize_weights = True: group_dro"),
        ("erm,temperature=9", "temperature = 9: erm .*read by .*kd"),
        ("dedier@3,signal=mutual_information", "signal = 'mutual_information'"),
        (
            "laplace@3,posterior=dense,prior=factored",
            "prior = 'factored': laplace and dense do not read it; read by kro",
        ),
        ("laplace@3,temprature=2", "did you mean 'temperature'"),
    ],
)
def test_a_parameter_given_to_a_method_that_does_not_read_it_is_refused(spec, message):
    with pytest.raises(ParameterError, match=message):
        Experiment().student(spec)


@pytest.mark.parametrize(
    ("name", "readers"),
    [
        ("seed", "every experiment and of own"),
        ("source", "every experiment and of own"),
        ("likelihood_temperature", "own and of kronecker"),
    ],
)
def test_one_name_is_not_a_parameter_of_two(monkeypatch, name, readers):
    own = create_model("Own", __base__=METHODS["kd"], **{name: (float, 2.0)})
    own.name = "own"
    monkeypatch.setitem(METHODS, "own", own)
    with pytest.raises(ParameterError, match=f"^{name}: is a parameter of {readers}; give one of them another"):
        Experiment(method="own")


@pytest.mark.parametrize(
    ("spec", "name", "other"),
    [
        ("dedier@3,shape=inverse,beta=2.0", "beta", "shape = exponential or linear, which is inverse"),
        ("laplace@3,shape=linear,signal=top_probability", "signal", "shape = exponential, which is linear"),
        ("tempered@3,shape=complement,exponent=product", "exponent", "shape = exponential, which is complement"),
        ("laplace@3,n_words=100", "n_words", "reader = words, which is encoder"),
        ("confreg@3,n_words=100", "n_words", "reader = words, which is encoder"),
        ("dedier@3,head_prior_precision=10.0", "head_prior_precision", "place = refit, which is training"),
        ("jtt,place=refit,reweight=kd", "reweight", "place = training, which is refit"),
        ("dfr,reweight=kd", "reweight", "place = training, which is refit"),
        ("avcs@3,place=refit,warm_start_epochs=2", "warm_start_epochs", "place = training, which is refit"),
        ("dedier@3,place=refit,stale_weights=true", "stale_weights", "place = training, which is refit"),
        ("selfdebias@3,place=refit,reweight_every=2", "reweight_every", "place = training, which is refit"),
        ("laplace@3,shape=complement,stale_weights=true", "stale_weights", "shape = exponential or linear, which is"),
        ("poe@3,use_teacher=false,kd_weight=0.3", "kd_weight", "use_teacher = True, which is False"),
        ("jtt,use_teacher=false,temperature=7.0", "temperature", "use_teacher = True, which is False"),
    ],
)
def test_a_parameter_that_another_one_leaves_unread_is_refused(spec, name, other):
    method = spec.split("@")[0].split(",")[0]
    with pytest.raises(ParameterError, match=f"{name} = .*: {method} reads it only with {other}.* here"):
        Experiment().student(spec)
    without = ",".join(part for part in spec.split(",") if not part.startswith(f"{name}="))
    Experiment({name: METHODS[method].model_fields[name].default}).student(without)  # a profile's may be another's


@pytest.mark.parametrize(
    "spec",
    ["dedier@3,use_teacher=false,reweight=kd", "jtt,kd_weight=0.0,reweight=kd", "group_dro,reweight=kd,kd_weight=0.0"],
)
def test_weights_of_a_term_that_the_loss_does_not_have_are_refused(spec):
    with pytest.raises(ParameterError, match="reweight = 'kd': the loss of .* has no distillation term to weigh"):
        Experiment().student(spec)
    Experiment().student(spec.replace("reweight=kd", "reweight=both"))


def test_a_product_of_experts_has_a_labels_term():
    with pytest.raises(ParameterError, match="kd_weight = 1.0.*less than 1"):
        Experiment().student("poe@3,kd_weight=1.0")


@pytest.mark.parametrize("spec", ["afr", "self@3"])
def test_no_evidence_chooses_a_pull_towards_the_last_layer_as_it_was(spec):
    with pytest.raises(ParameterError, match="head_prior_precision = 'evidence': .* state a number"):
        Experiment(validation_examples=600).student(f"{spec},head_prior_precision=evidence")


@pytest.mark.parametrize("spec", ["laplace@3", "avcs", "kd", "dedier@2,beta=1.0", "selfdebias"])
def test_what_the_first_student_says_is_not_the_others(spec):
    profile = {"students": ["dedier@5,alpha=0.31,learning_rate=0.0002,posterior=dense", spec], "beta": 2.0}
    alone = Experiment(profile, student=spec)
    found = Experiment.of_students(profile)
    assert found.student(spec).resolved() == alone.resolved()
    assert found.vary(seed=1).student(spec).resolved() == alone.vary(seed=1).resolved()
    assert found.vary(seed=1).weighting.alpha == 0.31, "the experiment itself is the first student's"


def test_a_profiles_parameter_serves_the_methods_that_read_it():
    base = Experiment({"beta": 2.0, "delta": 0.1, "group_step_size": 0.5}, method="kd")
    assert base.student("dedier@3").weighting.beta == 2.0
    assert base.student("avcs@3").weighting.delta == 0.1
    assert base.student("group_dro").weighting.group_step_size == 0.5
    with pytest.raises(ParameterError, match="delta = 3"):
        Experiment({"delta": 3.0}, method="kd")


def test_an_entry_that_yaml_has_split_at_its_comma_is_recognised():
    with pytest.raises(
        ParameterError, match=r"an entry with a comma stands in quotes in YAML: \['kd', 'laplace@3,beta=2'\]"
    ):
        Experiment(students=["kd", "dedier@3", "alpha=1.0"])
    with pytest.raises(ParameterError) as raised:
        Experiment(students=["Kd"])
    assert "quotes" not in str(raised.value)


@pytest.mark.parametrize(
    ("name", "allowed", "said"),
    [
        ("students", ["method", "methods", "seeds"], "did you mean 'methods'?"),
        ("students", ["student_model", "student_epochs"], "did you mean 'student_epochs'?"),
        ("lr", ["upper", "below"], "allowed: below, upper"),
        ("rate", ["a_rate", "rate_b", "rates"], "did you mean 'rates'?"),
        (
            "size",
            ["d_size_x", "a_size", "sizeable", "c_size_yz", "size_b"],
            "did you mean 'size_b', 'a_size' or 'd_size_x'?",
        ),
        ("dmo", ["demo", "mnli"], "did you mean 'demo'?"),
    ],
)
def test_the_nearest_name_is_the_one_that_is_meant(name, allowed, said):
    assert nearest(name, allowed) == nearest(name, reversed(allowed)) == said


def test_every_wrong_parameter_has_its_line():
    with pytest.raises(ParameterError) as raised:
        Experiment(seed=-1, metod="kd", beta=-1.0)
    assert len(str(raised.value).splitlines()) == 3


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (
            {"student": "dedier@3,beta=2", "method": "kd"},
            "method = 'kd': student = 'dedier@3,beta=2' says method = 'dedier'; state one of them",
        ),
        (
            {"student": "dedier@3", "aux_layer": 6},
            "aux_layer = 6: student = 'dedier@3' says aux_layer = 3; state one of them",
        ),
        ({"student": "kd,seed=1", "seed": 2}, "seed = 2: student = 'kd,seed=1' says seed = 1; state one of them"),
    ],
)
def test_what_an_entry_says_and_what_stands_beside_it_agree(given, message):
    with pytest.raises(ParameterError, match=message):
        Experiment(**given)
    assert Experiment({"seed": 5, "aux_layer": 4}, student="dedier", aux_layer=6).aux_layer == 6


@pytest.mark.parametrize(
    "spec",
    [
        "kd",
        "laplace@3",
        "dedier@6,place=refit,beta=2.5",
        "group_dro",
        "laplace@2,weight_cap=3.0,reader=words,n_words=50",
    ],
)
def test_an_experiment_has_the_entry_that_names_it(spec):
    own = Experiment(student=spec)
    assert Experiment(student=own.spec).resolved() == own.resolved()
    assert set(own.spec.split(",")) == set(spec.split(","))


CELL = (
    'profile: str = "demo"  # which\nmethod: str = "laplace"\naux_layer: int = 3\ndata: str = None\nchanges: dict = {}'
)


def kernel(*cells):
    """The namespace of a kernel that has run some cells, with what IPython and notebooks put there."""
    namespace = {"In": ["", *cells], "Out": {}, "_": 1, "json": json, "exit": print, "lerning_rate": 1, "batch_size": 7}
    for cell in cells:
        exec(cell, namespace)
    return namespace


def test_a_notebook_gives_what_its_cell_annotates_and_what_was_injected():
    namespace = kernel(CELL, "# Parameters\naux_layer = 6\nlearning_rate = 0.01", "batch_size = 9", "method = 3")
    found = Experiment.from_notebook(namespace)
    expected = Experiment.from_file(ROOT / "params" / "demo.yaml", aux_layer=6, learning_rate=0.01)
    later = namespace | {"In": [*namespace["In"], "%matplotlib inline", "beta = 8"]}
    assert found.resolved() == Experiment.from_notebook(later).resolved() == expected.resolved()
    assert Experiment.from_notebook(kernel(CELL, "# Parameters\naux_layer = 6", CELL)).aux_layer == 3
    assert Experiment.from_notebook(kernel(CELL.replace("{}", "{'beta': 2.0}"))).weighting.beta == 2.0
    with pytest.raises(ParameterError, match="lerning_rate.*did you mean 'learning_rate'"):
        Experiment.from_notebook(kernel(CELL, "# Parameters\nlerning_rate = 1e-4"))
    with pytest.raises(ParameterError, match="beta = 2.0: kd .*do not read it"):
        Experiment.from_notebook(kernel(CELL, "# Parameters\nmethod = 'kd'\nbeta = 2.0"))
    changed = kernel(CELL.replace("{}", "{'method': 'dedier', 'aux_layer': 6}"))
    assert Experiment.from_notebook(changed).spec == "dedier@6"  # a cell's default is not somebody's choice
    with pytest.raises(ParameterError, match="beta = 2.0: changes says beta = 4.0; state one of them"):
        Experiment.from_notebook(kernel(CELL, "# Parameters\nchanges = {'beta': 4.0}\nbeta = 2.0"))
    with pytest.raises(ParameterError, match="run the notebook from its top"):
        Experiment.from_notebook({"In": ["import fairkd"]})


def test_a_notebook_of_several_students_takes_what_one_of_them_reads():
    cell = 'profile: str = "demo"\nstudents: list = None'
    found = Experiment.from_notebook(kernel(cell, "# Parameters\nstudents = ['kd', 'avcs@3']\ndelta = 0.2"))
    assert found.student("avcs@3").weighting.delta == 0.2
    with pytest.raises(ParameterError, match="delta = 0.2: none of the students reads it"):
        Experiment.from_notebook(kernel(cell, "# Parameters\nstudents = ['kd']\ndelta = 0.2"))


def test_the_demo_profile_is_the_default_and_every_profile_is_valid():
    stated = yaml.safe_load((ROOT / "params" / "demo.yaml").read_text())
    fixed = {"threads": 1, "instruction_set": "avx2"}  # for the same digits on every machine
    assert Experiment(stated).resolved() == Experiment().resolved() | fixed
    for profile in (ROOT / "params").glob("*.yaml"):
        Experiment.from_file(profile)
        lines = profile.read_text().splitlines()
        assert len(lines) < 35
        assert all("  # " in line for line in lines if line and not line.startswith("#")), "a line without its reason"


def test_a_file_that_is_no_profile_is_told_from_one_that_is_not_there(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ParameterError, match=f"^params/nothere.yaml: there is no such file in {tmp_path}$"):
        Experiment.from_file("params/nothere.yaml")
    with pytest.raises(ParameterError, match=f"^{tmp_path}/x.yaml: there is no such file$"):
        Experiment.from_file(tmp_path / "x.yaml")
    for name in ("demo", "dmo.yaml"):
        with pytest.raises(ParameterError, match=f"^{name}: .*; in .*params are demo.yaml, mnli-mini.yaml, mnli.yaml$"):
            Experiment.from_file(name)
    with pytest.raises(ParameterError, match=f"^{tmp_path} cannot be read: Is a directory$"):
        Experiment.from_file(tmp_path)
    for content in (b"a: [", b"\xff\xfe"):
        (tmp_path / "odd.yaml").write_bytes(content)
        with pytest.raises(ParameterError, match="^odd.yaml is no YAML file: "):
            Experiment.from_file("odd.yaml")


MINE = """
import fairkd

@fairkd.register
class Mine(fairkd.weighting.ByExit):
    name = "mine"

    def weights(self, features, labels, exits):
        return 1.0 + labels
"""


def test_a_profile_names_modules_and_a_data_set_beside_it(tmp_path, monkeypatch):
    shipped = (ROOT / "params" / "datasets" / "demo.yaml").read_text()
    (tmp_path / "twin.yaml").write_text(shipped)
    (tmp_path / "mine_methods.py").write_text(MINE)
    profile = tmp_path / "mine.yaml"
    profile.write_text("modules: [mine_methods]\ndataset: twin.yaml\nstudents: [kd, mine@3]\n")
    monkeypatch.setattr(sys, "path", [*sys.path])
    try:
        found = Experiment.from_file(profile, student="mine@3")
        assert found.weighting.name == "mine" and found.entry.name == "twin"
        monkeypatch.chdir(tmp_path)
        with pytest.raises(SystemExit, match="beta = 1: mine .*do not read it"):
            main(["train", "--profile", "mine.yaml", "-p", "student=mine@3", "-p", "beta=1"])
        del METHODS["mine"], sys.modules["mine_methods"]  # as in a process that has not read the profile yet
        assert Study.of({"profile": "mine.yaml", "methods": ["mine@2"]}).methods == ["mine@2"]
        del METHODS["mine"], sys.modules["mine_methods"]
        assert Study(profile="mine.yaml", methods=["mine@2"]).methods == ["mine@2"]
    finally:
        del METHODS["mine"], sys.modules["mine_methods"]
    for modules, said in (("[gone]", "gone cannot be imported .*put gone.py beside"), ("gone", "should be a list")):
        profile.write_text(f"modules: {modules}\n")
        with pytest.raises(ParameterError, match=f"modules = .*{said}"):
            Experiment.from_file(profile)


def test_the_deck_profile_is_the_decks():
    deck = Experiment.from_file(ROOT / "params" / "mnli.yaml")
    assert (deck.teacher_model, deck.student_model) == ("bert-base-uncased", "distilbert-base-uncased")
    assert (deck.teacher_epochs, deck.student_epochs, deck.batch_size) == (3, 5, 16)
    assert deck.learning_rate == deck.teacher_learning_rate == 2e-5
    method = deck.student("laplace@3").weighting
    assert (method.temperature, method.alpha, method.beta) == (2.0, 0.2, 3.0)
    assert (deck.train_examples, deck.evaluation_examples) == (None, None)


def test_a_students_entry_sets_method_layer_and_more():
    base = Experiment(aux_layer=2)
    assert (base.student("laplace@6").method, base.student("laplace@6").aux_layer) == ("laplace", 6)
    assert base.student("kd").aux_layer is None
    assert read_student("laplace@3,exit_hidden=[8, 4],prior=factored") == {
        "method": "laplace", "aux_layer": 3, "exit_hidden": [8, 4], "prior": "factored",
    }  # fmt: skip
    given = base.student("dedier,seed=3").vary(beta=1.0)
    assert given.resolved() == base.vary(method="dedier", seed=3, beta=1.0).resolved()


def test_what_does_not_decide_a_result_is_not_in_its_parameters():
    base = Experiment()
    teacher, student, exits = (getattr(base, f"{w}_parameters")() for w in ("teacher", "student", "exits"))
    for change in ({"aux_layer": 6}, {"method": "kd"}, {"learning_rate": 1e-3}, {"seed": 1}, {"beta": 1.0}):
        assert base.vary(**change).teacher_parameters() == teacher
        assert base.vary(**change).student_parameters() != student
    for change in ({"students": ["kd"]}, {"report_to": "none"}, {"evaluation_examples": 60}):
        assert base.vary(**change).student_parameters() == student
    for change in ({"evaluation_examples": 60}, {"finished_exits": {"likelihood_temperature": 9.0}}):
        assert base.vary(**change).exits_parameters() != exits
    kd = base.vary(method="kd")
    for change in ({"likelihood_temperature": 9.0}, {"pooling": "mean"}, {"posterior": "dense"}):
        assert kd.vary(**change).student_parameters() == kd.student_parameters()
        assert kd.vary(**change).exits_parameters() != kd.exits_parameters()
        assert base.vary(**change).student_parameters() != student  # laplace reads them in training
    for change in ({"teacher_seed": 1}, {"train_examples": 60}, {"negation_rates": [0.1, 0.1, 0.1]}, {"batch_size": 8}):
        assert base.vary(**change).teacher_parameters() != teacher
        assert base.vary(**change).student_parameters() != student


def test_finished_exits_differ_from_those_of_training_where_it_is_said():
    base = Experiment(pooling="mean", finished_exits={"likelihood_temperature": 9.0, "predictive": "mc"})
    assert base.exits(3).posterior.likelihood_temperature == 1.0
    finished = base.finished()
    assert (finished.posterior.likelihood_temperature, finished.options.predictive) == (9.0, "mc")
    assert finished.options.pooling == "mean"


def test_every_parameter_has_a_meaning_and_stands_in_the_table():
    rows = {row[0]: row for row in parameter_table()}
    assert set(rows) >= {"beta", "prior", "negation_rates", "teacher_model", "train_examples", "pooling"}
    assert all(row[5] for row in rows.values())
    assert rows["beta"][1:5] == ("number", "3.0", ">= 0, <= 20", "avcs, dedier, laplace, tempered")
    assert {row[0] for row in parameter_table("jtt")} == set(METHODS["jtt"].model_fields)
    of_afr = {row[0]: row for row in parameter_table("afr")}
    assert of_afr["place"][1:5] == ("refit", "refit", "", "afr, dfr, refit, self")
    assert of_afr["head_prior_precision"][2] == "600.0" and rows["gamma"][4] == "afr"
    places = [row[2] for row in parameter_table() if row[0] == "place"]
    assert places == ["training", "refit"], "a row for each kind, one below the other"


def test_the_table_is_printed(capsys):
    command = [sys.executable, "-m", "fairkd", "parameters", "--method", "dedir"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 1 and "did you mean 'dedier'" in done.stderr and "Traceback" not in done.stderr
    main(["parameters", "--method", "dedier"])
    assert "exponent of the margin" in capsys.readouterr().out
