"""What an exit is fed: the text it reads, and nothing else."""

import numpy as np
import pandas as pd
import pytest
import torch

from fairkd import Experiment, ParameterError
from fairkd.data import bag_of_words, load, tokenize
from fairkd.training import models
from fairkd.training.features import pooled_states
from fairkd.training.reading import reading
from fairkd.training.student import train_student


@pytest.fixture
def read(small):
    """A student's layers on the training pairs, as the exit of a method asks for them."""
    tokenizer = models.load_student_tokenizer(small)
    model = models.load_student(small, tuple(load(small).labels))

    def states(**parameters):
        experiment = small.vary(**parameters)
        splits = load(experiment)
        return reading(experiment, splits, splits.train, tokenizer)(model)

    states.model, states.tokenizer = model, tokenizer
    return states


def test_a_column_alone_gives_the_states_of_that_text_alone(small, read):
    [hypothesis] = read(exit_reads="hypothesis", aux_layer=2).values()
    texts = load(small).train["hypothesis"]
    for row in (0, 17, 101):
        alone = read.tokenizer(texts[row], return_tensors="pt")
        alone = {name: alone[name] for name in ("input_ids", "attention_mask")}
        with torch.no_grad():
            state = read.model.eval().base_model(**alone, output_hidden_states=True).hidden_states[2][0, 0]
        torch.testing.assert_close(hypothesis[row], state)
    pair, premise = (read(exit_reads=what, aux_layer=2)[2] for what in ("pair", "premise"))
    assert all((one - other).abs().max() > 1e-3 for one, other in ((pair, hypothesis), (pair, premise)))


def test_the_premise_does_not_reach_an_exit_that_reads_the_hypothesis(small, read):
    splits = load(small)
    tokens = [
        tokenize(frame, splits.entry, read.tokenizer, small.max_length, ["hypothesis"])
        for frame in (splits.train, splits.train.assign(premise="a word"))
    ]
    one, other = (pooled_states(read.model, part, read.tokenizer, [1])[1] for part in tokens)
    assert torch.equal(one, other)


def test_a_bag_has_the_words_of_each_column_apart():
    train = pd.DataFrame({"a": ["the cat", "the dog the"], "b": ["no cat", "No, never"]})
    asked = pd.DataFrame({"a": ["dog no"], "b": ["never the"]})
    bag = bag_of_words(train, asked, ["a", "b"], 10)  # cat dog the | cat never no
    np.testing.assert_array_equal(bag.toarray(), [[0, 1, 0, 0, 1, 0]])
    assert bag_of_words(train, train, ["a"], 1).toarray().tolist() == [[1], [1]]  # the commonest


def test_words_are_the_same_whatever_the_student(small, read):
    states = read(reader="words", exit_reads="hypothesis", n_words=7)
    assert states.keys() == {0} and states[0].shape == (240, 7)
    run = train_student(small.vary(reader="words", exit_reads="hypothesis", n_words=30))
    given = run.table("weights").groupby("epoch")["given"].apply(tuple)
    assert len(given) == 2 and len(set(given)) == 1  # the bag is no other after the second epoch


def test_a_text_that_is_none_is_refused():
    with pytest.raises(ParameterError, match="exit_reads = 'hypotesis' is no text of demo; did you mean 'hypothesis'"):
        Experiment(method="dedier", exit_reads="hypotesis")
    with pytest.raises(ParameterError, match="kd and kronecker do not read it; read by .*dedier"):
        Experiment(method="kd", exit_reads="hypothesis")
