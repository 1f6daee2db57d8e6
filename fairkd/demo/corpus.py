"""The demo corpus: generated sentence pairs with a negation shortcut, right by rule; README.md beside it is its card.

Label rule, formal (`label_of`). A hypothesis that says something the premise does not (its persons swapped,
or a modifier of its own; emphasis says nothing) is neutral. Otherwise it differs from the premise at most by
the complementary verb (remembered / forgot) and by a negation: one of the two makes a contradiction, none or
both an entailment. Half the neutral pairs have their persons swapped, half have one invented modifier.

Labels are uniform; negation is drawn given the label (`negation_rates`); everything else is drawn uniformly. A premise
belongs to one split, decided by a hash of its text: four in five to "train", the others to "evaluation".
"""

import hashlib
import random
from dataclasses import dataclass, replace

LABELS = ("entailment", "neutral", "contradiction")
SPLITS = ("train", "evaluation")

# P(negation | label), in the order of LABELS, as in MultiNLI.
NEGATION_RATES = (0.022, 0.029, 0.16)


def _words(text: str) -> list[str]:
    return text.split()


PERSONS = _words(
    "actor baker barber clerk cook dancer doctor driver farmer fisher guard hunter judge lawyer miner nurse"
    " painter pilot pirate poet priest sailor singer soldier student tailor teacher tourist waiter writer"
)

# Complementary verbs: in the corpus's world exactly one of each pair is true of two persons.
VERB_PAIRS = (
    ("accepted", "rejected"),
    ("admitted", "excluded"),
    ("believed", "doubted"),
    ("caught", "missed"),
    ("defended", "betrayed"),
    ("freed", "imprisoned"),
    ("helped", "hindered"),
    ("hired", "dismissed"),
    ("liked", "disliked"),
    ("noticed", "overlooked"),
    ("obeyed", "defied"),
    ("praised", "blamed"),
    ("remembered", "forgot"),
    ("spared", "punished"),
    ("thanked", "cursed"),
    ("trusted", "suspected"),
)
COMPLEMENT = {a: b for pair in VERB_PAIRS for a, b in (pair, pair[::-1])}

_ADJECTIVES = _words(
    "angry bald brave clever cruel famous friendly gentle happy hungry lazy lonely lucky old poor proud"
    " quiet rich shy strong tall tired wise young"
)
# A sentence's optional parts and what each may say.
MODIFIERS = {
    "subject_adjective": _ADJECTIVES,
    "object_adjective": _ADJECTIVES,
    "place": _words("abroad ashore backstage downtown indoors nearby outside overseas underground upstairs"),
    "time": _words("again early late lately often once recently today tonight twice yesterday"),
}

# What stands before the sentence, and before its verb.
PLAIN = ("", "")
EMPHASES = (("", "always"), ("", "in every way"), ("everybody believes", ""), ("everything suggests", ""))
NEGATIONS = (("", "never"), ("", "in no way"), ("nobody believes", ""), ("nothing suggests", ""))


@dataclass(frozen=True)
class Event:
    """Who did what to whom, with some of the modifiers."""

    subject: str
    verb: str
    object: str
    modifiers: dict[str, str]

    def text(self, frame: tuple[str, str] = PLAIN) -> str:
        """The sentence, with the frame's words before it and before its verb."""
        said = self.modifiers.get
        opening, adverb = frame
        words = (opening, "the", said("subject_adjective"), self.subject, adverb, self.verb)
        words += ("the", said("object_adjective"), self.object, said("place"), said("time"))
        return " ".join(word for word in words if word)

    def swapped(self) -> "Event":
        """The same event with subject and object exchanged, each keeping its adjective."""
        exchanged = {"subject_adjective": "object_adjective", "object_adjective": "subject_adjective"}
        modifiers = {exchanged.get(slot, slot): word for slot, word in self.modifiers.items()}
        return Event(self.object, self.verb, self.subject, modifiers)

    def shortened(self, rng: random.Random, n: int) -> "Event":
        """The same event with n of its modifiers, drawn at random."""
        kept = rng.sample(sorted(self.modifiers), n)
        return replace(self, modifiers={slot: self.modifiers[slot] for slot in kept})

    def with_invented_modifier(self, rng: random.Random, n: int) -> "Event":
        """The same event with n modifiers, one of which, in a slot drawn at random, is not the event's."""
        slot = rng.choice(sorted(MODIFIERS))
        invented = rng.choice([word for word in MODIFIERS[slot] if word != self.modifiers.get(slot)])
        others = replace(self, modifiers={s: w for s, w in self.modifiers.items() if s != slot})
        kept = others.shortened(rng, n - 1).modifiers
        return replace(self, modifiers={**kept, slot: invented})


def label_of(premise: Event, hypothesis: Event, negated: bool) -> str:
    """The label by the formal rule of the module's docstring.

    Raises:
        ValueError: the two verbs are neither equal nor complementary, so the rule does not apply.
    """
    if hypothesis.verb not in (premise.verb, COMPLEMENT[premise.verb]):
        raise ValueError(f"verbs {premise.verb!r} and {hypothesis.verb!r} are not a pair of VERB_PAIRS")
    same_persons = (premise.subject, premise.object) == (hypothesis.subject, hypothesis.object)
    if not same_persons or not hypothesis.modifiers.items() <= premise.modifiers.items():
        return "neutral"
    complemented = hypothesis.verb != premise.verb
    return "contradiction" if complemented != negated else "entailment"


def split_of(premise: str) -> str:
    """The split, "train" or "evaluation", to which a premise belongs."""
    return SPLITS[hashlib.sha256(premise.encode()).digest()[0] % 5 == 0]


def draw_premise(rng: random.Random, split: str = "train") -> Event:
    """A random premise of a split.

    Raises:
        ValueError: an unknown split.
    """
    if split not in SPLITS:
        raise ValueError(f"split {split!r} is none of {SPLITS}")
    while True:
        subject, object_ = rng.sample(PERSONS, 2)
        slots = rng.sample(sorted(MODIFIERS), rng.choice((2, 3)))
        modifiers = {slot: rng.choice(MODIFIERS[slot]) for slot in slots}
        premise = Event(subject, rng.choice(sorted(COMPLEMENT)), object_, modifiers)
        if split_of(premise.text()) == split:
            return premise


def _draw_pair(rng: random.Random, split: str, label: str, negated: bool) -> dict[str, str]:
    premise = draw_premise(rng, split)
    n_modifiers = rng.choice((1, 2))
    complemented = negated != (label == "contradiction")
    hypothesis = premise.shortened(rng, n_modifiers)
    if label == "neutral":
        complemented = rng.random() < 0.5
        swapped = rng.random() < 0.5
        hypothesis = hypothesis.swapped() if swapped else premise.with_invented_modifier(rng, n_modifiers)
    if complemented:
        hypothesis = replace(hypothesis, verb=COMPLEMENT[premise.verb])
    assert label_of(premise, hypothesis, negated) == label
    # Emphasis as often as not, lest the frame's mere presence say "negation".
    frame = rng.choice(NEGATIONS if negated else EMPHASES + (PLAIN,) * len(EMPHASES))
    return {"premise": premise.text(), "hypothesis": hypothesis.text(frame), "label": label}


def generate(
    n: int,
    *,
    seed: int,
    negation_rates: tuple[float, float, float] = NEGATION_RATES,
    split: str = "train",
) -> list[dict[str, str]]:
    """A natural sample of n pairs: labels uniform, negation drawn given the label.

    Args:
        n: number of pairs.
        seed: the same arguments give the same pairs.
        negation_rates: P(negation | label), for entailment, neutral, contradiction.
        split: "train" or "evaluation".

    Returns:
        Rows with keys id, premise, hypothesis, label (one of LABELS).

    Raises:
        ValueError: rates that are not three probabilities, or an unknown split.
    """
    if len(negation_rates) != len(LABELS) or not all(0 <= rate <= 1 for rate in negation_rates):
        raise ValueError(f"negation_rates {negation_rates!r} are not three probabilities, one a label")
    rng = random.Random(f"natural {split} {seed}")
    rows = []
    for i in range(n):
        kind = rng.randrange(len(LABELS))
        negated = rng.random() < negation_rates[kind]
        rows.append({"id": f"{split}-{seed}-{i}", **_draw_pair(rng, split, LABELS[kind], negated)})
    return rows


def generate_by_group(n_per_group: int, *, seed: int, split: str = "evaluation") -> list[dict[str, str]]:
    """As many pairs of each of the six groups (label, negation); rows as `generate` has them.

    With 650 a group an accuracy of one half has a standard error under 2 points.

    Args:
        n_per_group: number of pairs a group.
        seed: the same arguments give the same pairs.
        split: "train" or "evaluation".

    Raises:
        ValueError: an unknown split.
    """
    rng = random.Random(f"by group {split} {seed}")
    groups = [(label, negated) for label in LABELS for negated in (False, True)]
    kinds = [group for group in groups for _ in range(n_per_group)]
    return [
        {"id": f"{split}-by-group-{seed}-{i}", **_draw_pair(rng, split, label, negated)}
        for i, (label, negated) in enumerate(kinds)
    ]
