"""What the loss receives is what the methods gave: every weight, logit, label and group its own instance's.

On a task that a tiny student learns, since a model at chance notices no miswiring: one word decides the label, another
goes with it nine times in ten.
"""

import math
import shutil

import numpy as np
import pandas as pd
import pytest
import torch

from fairkd import Experiment, LinearExit, distil, fine_tune, provenance
from fairkd.data import load
from fairkd.exits import POSTERIORS, ExitOptions
from fairkd.runs import caches_folder, find
from fairkd.training import callbacks, features, models, trainer
from fairkd.training.refit import refit_student
from fairkd.training.student import student_name, train_student
from fairkd.training.task import Task
from fairkd.weighting import METHODS, ByExit

ENTRY = """
source: learnable
splits: {train: train, evaluation: test}
text: [text]
label: {names: [down, up]}
attribute: {name: shortcut, words: [always], in: text}
id: id
"""


def rows(n, seed, rate, noise):
    """The verb decides the label, but for some noise; "always" goes with up at the given rate; persons say nothing."""
    rng = np.random.default_rng(seed)
    label = rng.random(n) < 0.5
    shortcut = np.where(rng.random(n) < rate, label, ~label)
    persons = np.array(["nurse", "pilot", "baker", "judge", "poet", "miner"])
    texts = [
        f"the {a} {'always ' if s else ''}{'helped' if y else 'hindered'} the {b}"
        for a, b, y, s in zip(rng.choice(persons, n), rng.choice(persons, n), label, shortcut, strict=True)
    ]
    names = np.where(label ^ (rng.random(n) < noise), "up", "down")
    return pd.DataFrame({"id": [f"r{seed}-{i}" for i in range(n)], "text": texts, "label": names})


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """One project for all that is here: what several tests need is trained once."""
    folder = tmp_path_factory.mktemp("wiring")
    (folder / "learnable").mkdir()
    (folder / "learnable.yaml").write_text(ENTRY)
    rows(960, 0, 0.9, 0.08).to_csv(folder / "learnable" / "train.csv", index=False)
    rows(80, 1, 0.5, 0.0).to_csv(folder / "learnable" / "test.csv", index=False)
    return folder


@pytest.fixture
def going_on(root, encoder, monkeypatch):
    """An experiment of a second or two; its student has two layers and learns most of the task.

    A first epoch that another test's student has trained is taken from there.
    """
    monkeypatch.setenv("FAIRKD_ROOT", str(root))
    return Experiment(
        dataset="learnable.yaml", train_examples=None, validation_examples=0, max_length=16, batch_size=16,
        teacher_model=str(encoder), student_model=None, teacher_epochs=4, teacher_learning_rate=5e-3,
        student_epochs=4, learning_rate=3e-3, aux_layer=1, students=["kd"], report_to="none",
    )  # fmt: skip


@pytest.fixture
def learnable(going_on):
    """The same with every epoch trained: whoever spies sees all of a training."""
    for epoch in caches_folder().glob("epoch-*"):
        shutil.rmtree(epoch)
    return going_on


class Spy:
    """Every call of `compute_loss` in training: the batch's rows, and what went into the loss."""

    def __init__(self, monkeypatch):
        self.batches = []
        compute, terms, weighted = (
            trainer.DistillationTrainer.compute_loss, trainer.distillation_terms, trainer.weighted_losses,
        )  # fmt: skip

        def compute_loss(this, model, inputs, *args, **kwargs):
            if model.training:
                self.batches.append({name: inputs[name].clone() for name in ("index", "labels")})
            return compute(this, model, inputs, *args, **kwargs)

        def distillation_terms(student, taught, labels, temperature, adjusted):
            self.batches[-1] |= {"taught": taught.clone(), "told": labels.clone(), "adjusted": adjusted}
            return terms(student, taught, labels, temperature, adjusted)

        def weighted_losses(ce, kd, weights, *args):
            self.batches[-1]["weights"] = weights.clone() if torch.is_tensor(weights) else weights
            return weighted(ce, kd, weights, *args)

        monkeypatch.setattr(trainer.DistillationTrainer, "compute_loss", compute_loss)
        monkeypatch.setattr(trainer, "distillation_terms", distillation_terms)
        monkeypatch.setattr(trainer, "weighted_losses", weighted_losses)


def test_the_fixture_is_learnt_and_its_shortcut_too(learnable):
    student = distil(learnable.vary(method="kd"))
    report = pd.DataFrame(student.metrics["student"]).T["value"]
    assert report["average"] > 0.7
    assert report["up, shortcut"] > 0.8


@pytest.mark.parametrize("method", ["dedier", "laplace", "avcs", "tempered", "jtt"])
def test_every_instance_gets_its_own_weight_logits_and_label(learnable, monkeypatch, method):
    given = learnable.vary(method=method, seed=1)  # trained here alone
    teacher = fine_tune(learnable)
    if method == "jtt":
        train_student(given.early())
    spy = Spy(monkeypatch)
    run = train_student(given)
    frame, weights = load(given).train, run.table("weights")
    logits = teacher.table("train_logits").set_index("id").loc[frame["id"]].to_numpy()
    steps = math.ceil(len(frame) / given.batch_size)
    assert len(spy.batches) == 4 * steps
    of_epoch = {0: np.ones(len(frame))} | {
        epoch: part.set_index("id").loc[frame["id"], "weight"].to_numpy() for epoch, part in weights.groupby("epoch")
    }
    assert max(w.std() for w in of_epoch.values()) > 0.1
    for number, batch in enumerate(spy.batches):
        index = batch["index"].numpy()
        np.testing.assert_array_equal(batch["told"], frame["label"].to_numpy()[index])
        np.testing.assert_allclose(batch["taught"], logits[index], rtol=1e-6)
        epoch = max(e for e in of_epoch if e <= number // steps)
        np.testing.assert_allclose(batch["weights"], of_epoch[epoch][index], rtol=1e-6)
    seen = np.sort(np.concatenate([b["index"].numpy() for b in spy.batches[:steps]]))
    np.testing.assert_array_equal(seen, np.arange(len(frame)))


@pytest.mark.parametrize("method", ["confreg", "poe"])
def test_every_instance_is_adjusted_by_what_the_reader_says_of_it(learnable, monkeypatch, method):
    """The reader by hand, on states read one row at a time; then what the loss is given of every batch."""
    given = learnable.vary(method=method, student_epochs=3, seed=4)
    fine_tune(given)  # before anybody looks at batches
    frame, expected, spy = load(given).train, {0: None}, Spy(monkeypatch)
    original = callbacks.Rereading.on_epoch_end

    def on_epoch_end(this, args, state, control, model, **kwargs):
        phi, labels = states_by_hand(this.task, model, 1), torch.tensor(frame["label"].to_numpy())
        expected[round(state.epoch)] = LinearExit.fit(phi, labels).logits(phi).softmax(1)
        original(this, args, state, control, model, **kwargs)

    monkeypatch.setattr(callbacks.Rereading, "on_epoch_end", on_epoch_end)
    reader = train_student(given).table("reader")
    assert sorted(reader["epoch"].unique()) == [1, 2]
    for epoch, part in reader.groupby("epoch"):
        kept = part.set_index("id").loc[frame["id"], ["prob_0", "prob_1"]].to_numpy()
        np.testing.assert_allclose(kept, expected[epoch], atol=0.01)
        assert kept[:, 0].std() > 0.1  # rows differ, so that one in another's place is seen
    steps, labels = math.ceil(len(frame) / given.batch_size), frame["label"].to_numpy()
    for number, batch in enumerate(spy.batches):
        probs, adjusted, index = expected[number // steps], batch["adjusted"], batch["index"].numpy()
        if probs is None:
            assert adjusted is None
        elif method == "confreg":
            scale = 1 - probs.numpy()[index, labels[index]]
            np.testing.assert_allclose(adjusted.teacher_scale, scale, atol=0.01)
            assert adjusted.label_offset is None
        else:
            np.testing.assert_allclose(adjusted.label_offset.exp(), probs[index], atol=0.01)
            assert adjusted.teacher_scale is None


def states_by_hand(task, model, layer):
    """The model's own hidden states of every training row, read one row at a time."""
    was, states = model.training, []
    model.eval()
    for row in task.train:
        inputs = {n: torch.tensor([row[n]]) for n in task.tokenizer.model_input_names if n in row}
        with torch.no_grad():
            states.append(model.base_model(**inputs, output_hidden_states=True).hidden_states[layer][0, 0])
    model.train(was)
    return torch.stack(states)


@pytest.mark.parametrize("layer", [1, 2])
def test_the_refit_is_of_the_exits_layer_on_each_instances_own_label(learnable, monkeypatch, layer):
    """The weights by hand: the model's own hidden states, read one row at a time, and the formula in NumPy."""
    given = learnable.vary(method="dedier", aux_layer=layer, student_epochs=3, seed=2)
    frame, expected = load(given).train, {}
    original = callbacks.Reweighting.on_epoch_end

    def on_epoch_end(this, args, state, control, model, **kwargs):
        phi, labels = states_by_hand(this.task, model, layer), torch.tensor(frame["label"].to_numpy())
        probs = LinearExit.fit(phi, labels).logits(phi).double().softmax(1).numpy()
        top = np.sort(probs, 1)
        wrong = probs.argmax(1) != frame["label"].to_numpy()
        expected[round(state.epoch)] = np.where(wrong, np.exp(3 * (top[:, -1] - top[:, -2]) ** 0.2), 1.0)
        original(this, args, state, control, model, **kwargs)

    monkeypatch.setattr(callbacks.Reweighting, "on_epoch_end", on_epoch_end)
    weights = train_student(given).table("weights")
    assert sorted(weights["epoch"].unique()) == [1, 2]
    for epoch, part in weights.groupby("epoch"):
        found = part.set_index("id").loc[frame["id"], "given"].to_numpy()
        assert 0.01 < (found > 1).mean() < 0.6  # most of the task is learnt
        np.testing.assert_allclose(found, expected[epoch], rtol=0.02)


def test_the_early_models_errors_are_those_of_its_own_rows(learnable):
    jtt = learnable.vary(method="jtt", jtt_epochs=4)
    weights = train_student(jtt).table("weights")
    early = find(student_name(jtt.early()))
    splits = load(jtt)
    tokenizer = models.load_tokenizer(str(early.model_folder), "student_model")
    tokens = Task.prepare(splits, jtt.max_length, tokenizer).train
    guesses = features.logits(models.reopen(early.model_folder), tokens, tokenizer).argmax(1).numpy()
    wrong = guesses != splits.train["label"].to_numpy()
    assert 0.05 < wrong.mean() < 0.48 and 0.1 < guesses.mean() < 0.9  # it has learnt something, and not all
    np.testing.assert_array_equal(weights["weight"], np.where(wrong, 6.0, 1.0))


def test_group_dro_gets_each_instances_group(learnable, monkeypatch):
    given, seen = learnable.vary(method="group_dro", seed=3), []
    start = METHODS["group_dro"].start
    monkeypatch.setattr(METHODS["group_dro"], "start", lambda this, groups: seen.append(groups) or start(this, groups))
    weights = train_student(given).table("weights")
    [groups] = seen
    frame = load(given).train
    np.testing.assert_array_equal(groups, frame["group"].cat.codes)
    last = weights[weights["epoch"] == weights["epoch"].max()].set_index("id").loc[frame["id"]]
    spread = last.groupby(last["group"].astype(str))["weight"].agg(["min", "max"])
    assert (spread["min"] == spread["max"]).all() and spread["max"].max() > spread["max"].min()


def test_weights_on_file_are_the_losss_and_the_methods_stand_beside_them(learnable):
    plain, changed = (
        train_student(learnable.vary(method="dedier", student_epochs=2, **more)).table("weights")
        for more in ({}, {"permute_weights": True, "weight_cap": 5.0, "normalize_weights": True})
    )
    np.testing.assert_array_equal(plain["weight"], plain["given"])
    np.testing.assert_array_equal(changed["given"], plain["given"])  # the first epoch of both is the same
    assert changed["weight"].mean() == pytest.approx(1, abs=1e-5)
    assert changed["weight"].max() / changed["weight"].min() == pytest.approx(5)
    assert not np.array_equal(changed["weight"] > changed["weight"].min(), plain["weight"] > 1)


# Another value of every parameter that laplace reads; each alone gives another student.
CHANGED = {
    "temperature": 4.0, "kd_weight": 0.2, "use_teacher": False, "reweight": "kd", "normalize_weights": True,
    "weight_cap": 2.0, "permute_weights": True, "aux_layer": 2, "warm_start_epochs": 2, "reweight_every": 2,
    "stale_weights": True, "alpha": 2.0, "beta": 1.0, "exponent": "product", "signal": "contrast_variance",
    "likelihood_temperature": 500.0, "prior": "factored", "pooling": "mean", "exit_hidden": [8],
    "prior_precision": 50.0, "predictive": "mc", "posterior": "dense",
    "reader": "words", "n_words": 3, "place": "refit", "head_prior_precision": 50.0, "shape": "linear",
}  # fmt: skip
# Read only where another has this value.
TOGETHER = {"n_words": {"reader": "words"}, "head_prior_precision": {"place": "refit"}}


def made_student(experiment):
    if experiment.weighting.refits_head:
        return refit_student(experiment, splits=load(experiment))
    return train_student(experiment)


def test_every_parameter_of_laplace_is_changed_here():
    parts = (METHODS["laplace"], POSTERIORS["kronecker"], ExitOptions)
    read = {name for part in parts for name in part.model_fields}
    assert read - {"n_samples", "exit_reads"} <= CHANGED.keys()  # exit_reads: `test_reading`, on pairs


@pytest.mark.parametrize("changes", [{"kd_weight": 0.5}, {"temperature": 2.0}, {"aux_layer": 2}, {"method": "poe"}])
def test_every_parameter_of_confreg_changes_its_result(going_on, changes):
    base, other = (
        train_student(going_on.vary(**{"method": "confreg", "student_epochs": 2} | more)) for more in ({}, changes)
    )
    columns = ["student_prob_0", "student_prob_1"]
    assert not base.table("predictions")[columns].equals(other.table("predictions")[columns])


@pytest.mark.parametrize("name", CHANGED)
def test_every_parameter_that_a_method_reads_changes_its_result_alone(going_on, name):
    given = going_on.vary(student_epochs=3, **TOGETHER.get(name, {}))  # weighed after two of them
    base, other = (made_student(e) for e in (given, given.vary(**{name: CHANGED[name]})))
    columns = ["student_prob_0", "student_prob_1"]
    assert not base.table("predictions")[columns].equals(other.table("predictions")[columns])


METHOD = """
class Mine(ByExit):
    name = "mine"

    def weights(self, features, labels, exits):
        return torch.where(labels == 0, {}, 1.0)
"""


def test_method_data_or_version_changed_within_a_process_is_a_new_run_that_says_why(
    learnable, project, monkeypatch, caplog
):
    """As in a kernel: a class redefined, a file edited, a package upgraded under the same parameters."""
    caplog.set_level("INFO", "fairkd")
    monkeypatch.setenv("FAIRKD_ROOT", str(project))
    (project / "learnable").mkdir()
    (project / "learnable.yaml").write_text(ENTRY)
    rows(80, 1, 0.5, 0.0).to_csv(project / "learnable" / "test.csv", index=False)

    def edit(seed):
        rows(96, seed, 0.9, 0.08).to_csv(project / "learnable" / "train.csv", index=False)

    def define(lift):
        namespace = {"__name__": "__main__", "ByExit": ByExit, "torch": torch}
        exec(METHOD.format(lift), namespace)
        monkeypatch.setitem(METHODS, "mine", namespace["Mine"])

    def trained():
        caplog.clear()
        return train_student(learnable.vary(method="mine", teacher_epochs=1, student_epochs=2))

    edit(0)
    define(2.0)
    made = [trained()]
    assert trained().folder == made[0].folder
    upgraded = provenance.versions() | {"torch": "0"}
    for change, why in (
        (lambda: define(3.0), "code Mine"),
        (lambda: edit(2), "source, teacher"),
        (lambda: monkeypatch.setattr(provenance, "versions", lambda: upgraded), "teacher, versions torch"),
    ):
        change()
        made.append(trained())
        assert f"{made[-2].folder.name} differs in {why}\n" in caplog.text
    assert len({run.folder for run in made}) == 4
    assert [run.table("weights")["weight"].max() for run in made] == [2, 3, 3, 3]
