"""Make the demo's two encoders: `python -m fairkd.demo.pretrain [folder]`, about six minutes on one core.

Replaced-token detection as in ELECTRA (Clark et al. 2020) on unlabelled sentences of the demo corpus: a premise
and a shortened copy of it in which persons are swapped or words are replaced by others of their kind; for each
token of the copy "is it replaced?", and at [CLS] "is any?" and "is a negation inserted?". No label of the corpus
is used, only premises of its training split. Emphasis is inserted too, and is no corruption.

The teacher is a 12-layer BERT. The student is alternate layers of it as DistilBERT was, and as DistilBERT was
it is pretrained further. Neither has dropout, which at this size only slows learning down.
"""

import argparse
import os
import random
import string
import tempfile
from pathlib import Path

import torch
from torch import nn
from torch.nn.functional import binary_cross_entropy_with_logits as detection_loss
from tqdm import tqdm
from transformers import BertConfig, BertModel, BertTokenizer, PreTrainedModel

from fairkd.demo import corpus
from fairkd.training.halving import halve

ENCODERS = Path(__file__).parent / "encoders"

WIDTH, HEADS, FEED_FORWARD, LAYERS, MAX_LENGTH = 64, 2, 128, 12, 64
TEACHER_STEPS, STUDENT_STEPS, BATCH, LEARNING_RATE, WARM_UP = 2600, 1500, 64, 1e-3, 300
PAIR_WEIGHT = 0.1  # of the detection at [CLS]: it teaches what a classifier reads, at 1 to the tokens' cost
P_SWAPPED = 0.25
P_COMPLEMENT = 0.5  # of replaced verbs; the others become any other verb

VERBS = sorted(corpus.COMPLEMENT)
# The words of its kind that may replace a word.
KIND = {word: kind for kind in (corpus.PERSONS, VERBS, *corpus.MODIFIERS.values()) for word in kind}
FRAMES = corpus.NEGATIONS + corpus.EMPHASES + (corpus.PLAIN,) * 8


def make_tokenizer() -> BertTokenizer:
    """A WordPiece tokenizer: every word of the corpus is one token, any other word is spelt."""
    words = sorted({"the", *KIND, *" ".join(" ".join(frame) for frame in FRAMES).split()})
    letters = string.ascii_lowercase + string.digits
    tokens = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *string.punctuation]
    tokens += [*letters, *("##" + letter for letter in letters), *words]
    return BertTokenizer(vocab={token: i for i, token in enumerate(tokens)}, model_max_length=MAX_LENGTH)


def corrupted_copy(premise: corpus.Event, frame: tuple[str, str], rng: random.Random) -> tuple[list[str], list[bool]]:
    """A shortened copy of a premise with none to two words replaced; its words, and which are replaced."""
    words = premise.shortened(rng, rng.choice((1, 2))).text(frame).split()
    replaceable = [i for i, word in enumerate(words) if word in KIND]
    new = list(words)
    n_replaced = rng.choice((0, 0, 1, 1, 2))
    if rng.random() < P_SWAPPED:
        i, j = (i for i in replaceable if words[i] in corpus.PERSONS)
        new[i], new[j] = words[j], words[i]
        replaceable = [k for k in replaceable if k not in (i, j)]
        n_replaced = rng.choice((0, 0, 1))
    for i in rng.sample(replaceable, n_replaced):
        old = words[i]
        if old in corpus.COMPLEMENT and rng.random() < P_COMPLEMENT:
            new[i] = corpus.COMPLEMENT[old]
        else:
            new[i] = rng.choice([word for word in KIND[old] if word != old])
    return new, [a != b for a, b in zip(words, new, strict=True)]


def draw_batch(
    tokenizer: BertTokenizer, rng: random.Random
) -> tuple[dict[str, torch.Tensor], torch.Tensor, torch.Tensor]:
    """Model inputs of BATCH pairs and two targets.

    For each token (B, T): 1 replaced, 0 not, -1 no word of the copy. For each pair (B, 2): any replaced, a
    negation inserted.
    """
    premises = [corpus.draw_premise(rng) for _ in range(BATCH)]
    frames = [rng.choice(FRAMES) for _ in range(BATCH)]
    copies = [corrupted_copy(*pair, rng) for pair in zip(premises, frames, strict=True)]
    texts = [premise.text() for premise in premises], [" ".join(words) for words, _ in copies]
    inputs = tokenizer(*texts, padding=True, return_tensors="pt")
    # Every word is one token, so the copy's are the second segment without its [SEP].
    of_copy = inputs["token_type_ids"].bool() & (inputs["input_ids"] != tokenizer.sep_token_id)
    of_tokens = torch.full(of_copy.shape, -1.0)
    of_tokens[of_copy] = torch.tensor([float(flag) for _, flags in copies for flag in flags])
    negated = torch.tensor([float(frame in corpus.NEGATIONS) for frame in frames])
    return dict(inputs), of_tokens, torch.stack([of_tokens.amax(1), negated], dim=1)


def pretrain(encoder: PreTrainedModel, tokenizer: BertTokenizer, n_steps: int, seed: int) -> None:
    """Train the encoder, and two detectors that are then thrown away, by replaced-token detection."""
    torch.manual_seed(seed)
    rng = random.Random(f"pretraining {seed}")
    is_bert = encoder.config.model_type == "bert"
    token_detector, pair_detector = nn.Linear(WIDTH, 1), nn.Linear(WIDTH, 2)
    trained = nn.ModuleList([encoder, token_detector, pair_detector]).train()
    optimizer = torch.optim.AdamW(trained.parameters(), LEARNING_RATE)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: min((step + 1) / WARM_UP, (n_steps - step) / n_steps)
    )
    progress = tqdm(range(n_steps), desc=f"pretraining {encoder.config.model_type}", mininterval=1)
    for _ in progress:
        inputs, of_tokens, of_pair = draw_batch(tokenizer, rng)
        if not is_bert:
            del inputs["token_type_ids"]
        output = encoder(**inputs)
        hidden = output.last_hidden_state  # (B, T, D)
        # What a classifier reads: BERT's pooler, DistilBERT's [CLS].
        pooled = output.pooler_output if is_bert else hidden[:, 0]
        of_copy = of_tokens >= 0
        loss = detection_loss(token_detector(hidden)[..., 0][of_copy], of_tokens[of_copy])
        loss = loss + PAIR_WEIGHT * detection_loss(pair_detector(pooled), of_pair)
        loss.backward()
        nn.utils.clip_grad_norm_(trained.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
        progress.set_postfix(loss=f"{loss.item():.3f}", refresh=False)


def save(encoder: PreTrainedModel, tokenizer: BertTokenizer, folder: Path) -> None:
    """Write encoder and tokenizer to a folder that appears whole or not at all, replacing an older one."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent) as scratch:
        new, old = Path(scratch, "new"), Path(scratch, "old")
        encoder.eval().save_pretrained(new)
        tokenizer.save_pretrained(new)
        if folder.exists():
            os.replace(folder, old)
        os.replace(new, folder)


def main(folder: Path, seed: int = 0) -> None:
    """Pretrain both encoders and write them to folder/demo-bert and folder/demo-distilbert."""
    torch.manual_seed(seed)
    tokenizer = make_tokenizer()
    config = BertConfig(
        vocab_size=len(tokenizer),
        hidden_size=WIDTH,
        num_hidden_layers=LAYERS,
        num_attention_heads=HEADS,
        intermediate_size=FEED_FORWARD,
        max_position_embeddings=MAX_LENGTH,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
        pad_token_id=tokenizer.pad_token_id,
    )
    teacher = BertModel(config)
    pretrain(teacher, tokenizer, TEACHER_STEPS, seed)
    student = halve(teacher)
    student.config.seq_classif_dropout = 0.0
    pretrain(student, tokenizer, STUDENT_STEPS, seed + 1)
    save(teacher, tokenizer, folder / "demo-bert")
    save(student, tokenizer, folder / "demo-distilbert")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", nargs="?", type=Path, default=ENCODERS, help="where the two encoders go")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    main(arguments.folder, arguments.seed)
