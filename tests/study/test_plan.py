import json

import pytest

from fairkd import Experiment, distil
from fairkd.__main__ import main
from fairkd.study.plan import arguments, make, plan


def test_a_plan_names_every_run_once_after_what_it_needs(small):
    grid = [(spec, seed) for seed in (0, 1) for spec in ("kd", "jtt", "refit", "laplace@2")]
    found = plan(small, grid)
    assert [(run.part, run.student, run.seed) for run in found.values()] == [
        ("teacher", "kd", 0),
        *(
            (part, spec, seed)
            for seed in (0, 1)
            for part, spec in [
                ("student", "kd"),
                ("early", "jtt"),
                ("student", "jtt"),
                ("student", "refit"),
                ("student", "laplace@2"),
            ]
        ),
    ]
    names = list(found)
    assert all(names.index(need) < names.index(run.name) for run in found.values() for need in run.needs)
    assert {len(run.needs) for run in found.values() if run.student == "jtt" and run.part == "student"} == {2}
    other = plan(small.vary(learning_rate=2e-4), grid)
    assert [name in other for name, run in found.items()] == [run.part == "teacher" for run in found.values()]


def test_a_student_whose_first_epoch_is_the_plain_one_s_is_made_after_it(small):
    specs = ["kd", "laplace@2", "dedier@2,temperature=9.0", "dedier@2,place=refit", "erm", "group_dro", "avcs@2"]
    found = {
        (run.student, run.seed): run for run in plan(small, [(s, seed) for seed in (0, 1) for s in specs]).values()
    }
    for seed in (0, 1):
        after = [spec for spec in specs if found[spec, seed].after == found["kd", seed].name]
        assert after == ["laplace@2", "avcs@2"]  # the others' loss is another, and a refit trains nothing
        assert sum(run.after is not None for run in found.values()) == 4
    assert not any(
        run.after for run in plan(small, [("laplace@2", 0), ("kd", 0)]).values()
    )  # who fails stops only itself


def test_a_student_that_another_refits_is_planned_as_itself(small):
    found = plan(small, [("refit", 0), ("kd", 0)])
    assert [(run.part, run.student) for run in found.values()] == [
        ("teacher", "refit"),
        ("student", "kd"),
        ("student", "refit"),
    ]
    assert not any(run.after for run in found.values())  # nor after itself


@pytest.mark.parametrize("exits", [True, False])
def test_what_is_planned_is_what_is_made(bare, project, monkeypatch, exits):
    found = plan(bare, [("jtt,place=refit", 1)], exits=exits)
    assert not any(run.done for run in found.values())
    for name, run in found.items():
        given = bare.vary(seed=1).student("jtt,place=refit")
        assert make(given, run.part, exits=run.exits).folder.name == name and run.done
    assert any(project.glob("reports/runs/exits-*")) == exits
    monkeypatch.setattr("fairkd.training.student.Task", None)  # all that is left is to read
    assert distil(bare.vary(seed=1).student("jtt,place=refit"), exits=exits).folder.name == name


def test_the_command_makes_the_run_that_was_planned(small, project, capsys):
    stated = {"train_examples": 240, "evaluation_per_group": 10, "validation_examples": 12}
    stated |= {"teacher_model": small.teacher_model, "student_model": None, "teacher_epochs": 1, "student_epochs": 1}
    stated |= {"learning_rate": 0.0002, "students": ["kd"], "report_to": "none"}
    (project / "tiny.yaml").write_text(json.dumps(stated))
    experiment = Experiment.of_students(stated | {"batch_size": 32})
    for run in (plan(experiment, [("kd", 3)], exits=False) | plan(experiment, [("kd", 3)])).values():
        main(arguments(run, "tiny.yaml", {"batch_size": 32}))
        assert capsys.readouterr().out.strip().endswith(run.name)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["-p", "beta"], "expected name=value"),
        (["-p", "data=@x"], "'@x' is no value; quote it"),
        (["-p", "student=kd", "-p", "dataset=none.yaml"], "dataset = 'none.yaml': there is no such file"),
        (["-p", "method=kd", "-p", "beta=2"], "beta"),
        (["-p", "learning_rate=5e-5", "-p", "batch_size=0"], "batch_size"),
        (["--profile", "demoo"], "demo"),
        (["-p", "method=kd", "--part", "early"], "made without one"),
        (["-p", "method=kd", "--part", "base"], "made without one"),
    ],
)
def test_a_wrong_argument_ends_it_with_one_line(given, said, project, capsys):
    with pytest.raises(SystemExit) as stopped:
        main(["train", *given])
    assert said in f"{stopped.value}{capsys.readouterr().err}" and stopped.value.code != 0
