"""Data sets: one YAML file each, read by one set of rules, drawn into splits, grouped, tokenised.

Here alone a data set's columns are known. A model, a run or an Experiment never comes in: options go in, frames and
tokens come out.
"""

from fairkd.data.entry import DATASETS, Entry, entry_named
from fairkd.data.groups import attribute_name, group_name, has_negation
from fairkd.data.options import DataOptions, evaluation_identity, generator_of, training_identity
from fairkd.data.reading import DataError
from fairkd.data.registry import GENERATORS, RULES, Generator, register_generator, register_rule
from fairkd.data.splits import EvaluationSet, Splits, load, load_evaluation
from fairkd.data.tokens import tokenize
from fairkd.data.words import bag_of_words

__all__ = [
    "DATASETS",
    "GENERATORS",
    "RULES",
    "DataError",
    "DataOptions",
    "Entry",
    "EvaluationSet",
    "Generator",
    "Splits",
    "attribute_name",
    "bag_of_words",
    "entry_named",
    "evaluation_identity",
    "generator_of",
    "group_name",
    "has_negation",
    "load",
    "load_evaluation",
    "register_generator",
    "register_rule",
    "tokenize",
    "training_identity",
]
