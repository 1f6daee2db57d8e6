"""Weights by words of pairs that the exit was fitted on, and of pairs it was not: refits of `kd`, three seeds.

Writes again_held_out*.csv here: `python reports/record/mnli-mini/again_held_out.py ENCODER DATA`, two folders.
"""

import sys
from itertools import product
from pathlib import Path

import pandas as pd
import torch

from fairkd import Experiment, confidence_margin
from fairkd.data import load
from fairkd.evaluation import compare
from fairkd.exits.design import selected
from fairkd.training.refit import Finished, refitted_head
from fairkd.training.student import train_student
from fairkd.weighting.dedier import matched_temperature

SPEC = "laplace@3,reader=words,exit_reads=hypothesis,place=refit"
SHARPNESS = [(0.2, 3.0), (1.0, 2.0), (1.0, 3.0), (1.0, 4.0), (1.0, 6.0)]  # alpha, beta
FOLDS = 4
FOLDER = Path(__file__).parent


def said(exits, phi, labels, told, asked):
    """MAP and Laplace probabilities (2, N, C) of the rows asked, by an exit fitted on the rows told."""
    fitted, of = selected(phi, told), selected(phi, asked)
    head = exits.head(fitted, labels[told])
    posterior = exits.uncertain(head, fitted, labels[told])
    return torch.stack([head.logits(of).softmax(-1).double(), posterior.probabilities(of).double()])


def by_method(plain, laplace):
    """What weighs: both, and the first tempered to the mean margin of the second."""
    temperature = matched_temperature(plain.log(), confidence_margin(laplace).mean().item())
    return {"dedier": plain, "laplace": laplace, "tempered": (plain.log() / temperature).softmax(-1)}


def main(encoder, data):
    """Write the tables."""
    models = {"teacher_model": encoder, "student_model": encoder, "data": data}
    experiment = Experiment.from_file("params/mnli-mini.yaml", **models).student(SPEC)
    splits = load(experiment)
    rows, tables, weights = torch.arange(len(splits.train)), {}, []
    known = {}
    for seed in (0, 1, 2):
        one = experiment.vary(seed=seed)
        student = Finished(one, splits, train_student(one.base(), splits=splits))
        if not known:  # words are those of the pairs, whoever reads them
            [phi], labels, exits = student.read("train").values(), student.labels("train"), one.exits(3)
            known["fitted"] = by_method(*said(exits, phi, labels, rows, rows))
            held_out = torch.empty(2, len(rows), 3, dtype=torch.float64)
            for fold in range(FOLDS):
                own = rows % FOLDS == fold
                held_out[:, own] = said(exits, phi, labels, rows[~own], rows[own])
            known["held out"] = by_method(*held_out)
        for which, (alpha, beta) in product(known, SHARPNESS):
            at = one.vary(alpha=alpha, beta=beta)
            for method, probs in known[which].items():
                lifted = at.weighting.lift(probs, labels)
                found = student.asked(refitted_head(at, student, "train", lifted))
                found = found[found["split"] == "evaluation"].drop(columns="split").reset_index(drop=True)
                named = {"method": method, "exit": which, "alpha": alpha, "beta": beta}
                tables.setdefault(tuple(named.values()), {})[seed] = found
                wrong = (probs.argmax(1) != labels).numpy()
                of_group = pd.DataFrame({"weight": lifted.numpy(), "wrong": wrong}).groupby(splits.train["group"])
                weights.append(of_group.mean().reset_index().assign(**named))
        print("seed", seed, "done", flush=True)
    report, differences = [], []
    for sharpness in SHARPNESS:
        own = {", ".join(key[:2]): table for key, table in tables.items() if key[2:] == sharpness}
        found = compare(own, ["dedier, fitted", "dedier, held out", "tempered, held out"], attribute="negation")
        named = dict(zip(("alpha", "beta"), sharpness, strict=True))
        report.append(found.report.assign(**named))
        differences.append(found.differences.drop(columns="p_holm").assign(**named))
    files = {"": pd.concat(report), "_differences": pd.concat(differences), "_weights": pd.concat(weights)}
    for name, table in files.items():
        table.drop_duplicates().to_csv(FOLDER / f"again_held_out{name}.csv", index=False, float_format="%.6g")


if __name__ == "__main__":
    main(*sys.argv[1:])
