import re
from itertools import product
from pathlib import Path

import pytest
import torch
from transformers import AutoModel, AutoModelForSequenceClassification, AutoTokenizer

from fairkd.demo import corpus

ENCODERS = Path(corpus.__file__).parent / "encoders"
NEGATION_WORDS = {"never", "no", "nobody", "nothing"}
FRAMES = r"^(?:(?:nobody|everybody) believes|(?:nothing|everything) suggests) | (?:never|always|in (?:no|every) way)\b"
PERSON = "|".join(corpus.PERSONS)
SENTENCE = re.compile(rf"the (?:(\w+) )?({PERSON}) (\w+) the (?:(\w+) )?({PERSON})((?: \w+)*)")
COUNTERPARTS = dict(corpus.VERB_PAIRS) | {b: a for a, b in corpus.VERB_PAIRS}


def is_negated(row):
    return bool(NEGATION_WORDS & set(row["hypothesis"].split()))


def claims(sentence):
    """The persons, the verb and the set of modifiers with what they modify, read off the text."""
    bare = re.sub(FRAMES, "", sentence)
    of_subject, subject, verb, of_object, object_, adverbs = SENTENCE.fullmatch(bare).groups()
    said = {("subject", of_subject), ("object", of_object), *(("event", word) for word in adverbs.split())}
    return (subject, object_), verb, {(what, word) for what, word in said if word}


def label_by_text(row):
    persons, verb, said = claims(row["premise"])
    persons_h, verb_h, said_h = claims(row["hypothesis"])
    assert verb_h in (verb, COUNTERPARTS[verb])
    if persons != persons_h or said_h - said:
        return "neutral"
    true = (verb == verb_h) != is_negated(row)
    return "entailment" if true else "contradiction"


@pytest.mark.parametrize("rows", [corpus.generate(3000, seed=3), corpus.generate_by_group(300, seed=3)])
def test_labels_follow_the_rule_read_off_the_text(rows):
    assert [row["label"] for row in rows] == [label_by_text(row) for row in rows]


@pytest.mark.parametrize(
    ("hypothesis", "negated", "label"),
    [
        ("the nurse remembered the farmer", False, "entailment"),
        ("the nurse remembered the farmer", True, "contradiction"),
        ("the nurse forgot the farmer", False, "contradiction"),
        ("the nurse forgot the farmer", True, "entailment"),
        ("the farmer remembered the nurse", False, "neutral"),
        ("the farmer forgot the nurse", True, "neutral"),
        ("the old nurse remembered the farmer", False, "neutral"),
        ("the nurse forgot the farmer today", True, "neutral"),
        ("the tired nurse forgot the farmer downtown", True, "entailment"),
    ],
)
def test_label_of_written_out(hypothesis, negated, label):
    def event(text):
        (subject, object_), verb, said = claims(text)
        slots = {"subject": "subject_adjective", "object": "object_adjective"}
        of_event = {word: slot for slot in ("place", "time") for word in corpus.MODIFIERS[slot]}
        return corpus.Event(subject, verb, object_, {slots.get(w) or of_event[x]: x for w, x in said})

    premise = event("the tired nurse remembered the farmer downtown")
    assert corpus.label_of(premise, event(hypothesis), negated) == label


def test_label_of_refuses_unrelated_verbs():
    remembered = corpus.Event("nurse", "remembered", "farmer", {})
    with pytest.raises(ValueError, match="not a pair"):
        corpus.label_of(remembered, corpus.Event("nurse", "trusted", "farmer", {}), False)


@pytest.mark.parametrize("rates", [corpus.NEGATION_RATES, (0.022, 0.029, 0.16), (0.0, 1.0, 0.5)])
def test_labels_are_uniform_and_negation_has_the_rates_asked_for(rates):
    rows = corpus.generate(6000, seed=1, negation_rates=rates)
    for label, rate in zip(corpus.LABELS, rates, strict=True):
        negated = [is_negated(row) for row in rows if row["label"] == label]
        assert len(negated) / len(rows) == pytest.approx(1 / 3, abs=4 * (2 / 9 / len(rows)) ** 0.5)
        error = (rate * (1 - rate) / len(negated)) ** 0.5
        assert sum(negated) / len(negated) == pytest.approx(rate, abs=4 * error + 1e-12)


def test_groups_are_as_large_as_asked_and_every_negation_word_occurs_in_each():
    rows = corpus.generate_by_group(200, seed=0)
    for label, negated in product(corpus.LABELS, (False, True)):
        group = [row for row in rows if (row["label"], is_negated(row)) == (label, negated)]
        assert len(group) == 200
        words = {word for row in group for word in row["hypothesis"].split()}
        assert words & NEGATION_WORDS == (NEGATION_WORDS if negated else set())
    assert len(rows) == 1200
    assert len({row["id"] for row in rows}) == 1200


def test_premises_are_never_negated():
    rows = corpus.generate(2000, seed=5)
    assert not any(NEGATION_WORDS & set(row["premise"].split()) for row in rows)


@pytest.mark.parametrize("text", ["premise", "hypothesis"])
def test_words_other_than_negations_say_nothing_of_the_label(text):
    rows = corpus.generate_by_group(1000, seed=2)
    for word in ["always", "everybody", "remembered", "nurse", "old", "today", "downtown"]:
        shares = [
            sum(word in row[text].split() for row in rows if row["label"] == label) / 2000 for label in corpus.LABELS
        ]
        pooled = sum(shares) / 3
        assert max(shares) - min(shares) <= 5 * (2 * pooled * (1 - pooled) / 2000) ** 0.5
    lengths = [sum(len(row[text].split()) for row in rows if row["label"] == label) / 2000 for label in corpus.LABELS]
    assert max(lengths) - min(lengths) < 0.2


def test_the_same_seed_gives_the_same_pairs_and_another_seed_others():
    assert corpus.generate(50, seed=7) == corpus.generate(50, seed=7)
    assert corpus.generate_by_group(5, seed=7) == corpus.generate_by_group(5, seed=7)
    texts = [{row["premise"] for row in corpus.generate(50, seed=seed)} for seed in (7, 8)]
    assert len(texts[0] & texts[1]) == 0


def test_splits_share_no_premise_and_no_id():
    train = corpus.generate(5000, seed=0)
    evaluation = corpus.generate_by_group(300, seed=0) + corpus.generate(1000, seed=0, split="evaluation")
    for rows, split in ((train, "train"), (evaluation, "evaluation")):
        assert {corpus.split_of(row["premise"]) for row in rows} == {split}
    for key in ("premise", "id"):
        assert not {row[key] for row in train} & {row[key] for row in evaluation}
    assert len({row["id"] for row in train}) == len(train)


@pytest.mark.parametrize(
    "arguments",
    [{"negation_rates": (0.1, 0.1)}, {"negation_rates": (0.1, 0.1, 1.2)}, {"split": "test"}],
)
def test_bad_arguments_are_refused(arguments):
    with pytest.raises(ValueError, match=next(iter(arguments))):
        corpus.generate(3, seed=0, **arguments)


@pytest.mark.parametrize(("name", "depth"), [("demo-bert", 12), ("demo-distilbert", 6)])
def test_embedded_encoders_load_and_are_small(name, depth):
    folder = ENCODERS / name
    tokenizer = AutoTokenizer.from_pretrained(folder)
    rows = corpus.generate(200, seed=0)
    batch = tokenizer([r["premise"] for r in rows], [r["hypothesis"] for r in rows], padding=True)
    assert max(len(ids) for ids in batch["input_ids"]) <= tokenizer.model_max_length <= 64
    # Every word of the corpus is one token, and text of other words is spelt, not unknown.
    n_words = [len(f"{r['premise']} {r['hypothesis']}".split()) + 3 for r in rows]
    assert [sum(mask) for mask in batch["attention_mask"]] == n_words
    assert tokenizer.unk_token not in tokenizer.tokenize("Xylophones, perhaps?")

    encoder = AutoModel.from_pretrained(folder)
    assert encoder.config.num_hidden_layers == depth
    assert encoder.dtype == torch.float32
    assert sum(path.stat().st_size for path in folder.iterdir()) < 3e6
    classifier = AutoModelForSequenceClassification.from_pretrained(folder, num_labels=3)
    inputs = tokenizer("the nurse won", "the nurse lost", return_tensors="pt")
    assert classifier(**inputs).logits.shape == (1, 3)


def test_student_encoder_is_not_its_teachers_layers_alone():
    """It was pretrained after its layers were taken."""
    teacher, student = (AutoModel.from_pretrained(ENCODERS / name) for name in ("demo-bert", "demo-distilbert"))
    ours = student.transformer.layer[1].ffn.lin1.weight
    theirs = teacher.encoder.layer[2].intermediate.dense.weight
    assert ours.shape == theirs.shape
    assert not torch.equal(ours, theirs)
