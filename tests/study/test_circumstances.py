import json

from fairkd import study
from fairkd.runs import Run


def run(folder, **changes):
    folder.mkdir()
    versions = {"fairkd": "1", "torch": "2", "transformers": "5", "datasets": "5"} | changes.pop("versions", {})
    made = {"device": "cpu", "instruction_set": "AVX2", "threads": 2, "commit": "abc", "seconds": 1.0}
    made |= {"peak_memory_gib": 0.5, "versions": versions} | changes
    (folder / "provenance.json").write_text(json.dumps(made))
    return Run(folder)


def test_runs_of_other_versions_or_devices_in_one_table_are_pointed_out(project):
    same = study.circumstances({"kd": run(project / "a"), "erm": run(project / "b", seconds=9.0, commit="def")})
    assert study.differing(same).startswith("all made on one kind of device")
    assert same.loc["erm", "seconds"] == 9.0
    apart = {"kd": run(project / "c"), "erm": run(project / "d", versions={"torch": "3"}, threads=1)}
    assert study.differing(study.circumstances(apart)).endswith("differ in threads, torch")
    ranks = {"kd": run(project / "e", processes=1), "erm": run(project / "f", processes=2)}
    assert study.circumstances(ranks)["threads"].tolist() == [2, "2 x 2"]
    assert study.differing(study.circumstances(ranks)).endswith("differ in threads")


def test_a_student_is_told_by_its_training(project):
    student = run(project / "s", seconds=60.0)
    exits = run(project / "e", seconds=2.0)
    exits.of = student
    assert study.circumstances({"kd": exits}).loc["kd", "seconds"] == 60.0
