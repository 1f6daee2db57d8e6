import pytest
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from fairkd import provenance, runs
from fairkd.data import DataOptions, load, tokenize
from fairkd.data import tokens as tokens_module


@pytest.fixture
def tokenizer():
    words = Tokenizer(models.WordLevel({"[UNK]": 0, "[PAD]": 1, "the": 2, "nobody": 3}, unk_token="[UNK]"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    return PreTrainedTokenizerFast(tokenizer_object=words, unk_token="[UNK]", pad_token="[PAD]", model_max_length=64)


@pytest.fixture
def splits(project):
    return load(DataOptions(train_examples=240, validation_examples=12, generator_options={"evaluation_per_group": 2}))


def test_tokens_are_made_once_for_the_same_texts_and_tokenizer(splits, tokenizer, monkeypatch):
    first = tokenize(splits.train, splits.entry, tokenizer, 64)
    assert first["length"][:] == [len(ids) for ids in first["input_ids"]]
    assert first["labels"][:] == splits.train["label"].tolist() and first["index"][:] == list(range(240))
    pairs = tokenizer(splits.train["premise"].tolist(), splits.train["hypothesis"].tolist())
    assert first["input_ids"][:] == pairs["input_ids"]
    with monkeypatch.context() as patch:
        patch.setattr(type(tokenizer), "__call__", lambda *a, **k: pytest.fail("tokenised again"))
        again = tokenize(splits.train, splits.entry, tokenizer, 64)
        assert again.to_dict() == first.to_dict()
        assert again.cache_files  # mapped from disk
    assert max(tokenize(splits.train, splits.entry, tokenizer, 8)["length"][:]) == 8
    other = splits.train.assign(label=2)
    assert set(tokenize(other, splits.entry, tokenizer, 64)["labels"][:]) == {2}


def test_texts_that_are_cut_are_counted(splits, tokenizer, caplog):
    caplog.set_level("WARNING", "fairkd")
    lengths = tokenize(splits.train, splits.entry, tokenizer, 64)["length"][:]
    assert not caplog.messages
    most = max(lengths) - 1
    tokenize(splits.train, splits.entry, tokenizer, most)
    cut = sum(length > most for length in lengths)
    assert 0 < cut < 240
    assert caplog.messages == [f"{cut} of 240 rows are longer than max_length = {most} tokens, and cut"]


@pytest.mark.parametrize("what", ["code_digests", "versions"])
def test_other_code_and_versions_have_other_tokens(splits, tokenizer, monkeypatch, what):
    tokenize(splits.train, splits.entry, tokenizer, 64)
    with monkeypatch.context() as patch:
        patch.setattr(provenance, what, lambda *names: {"tokenizers": "another"})
        tokenize(splits.train, splits.entry, tokenizer, 64)
    assert len(list(runs.caches_folder().glob("tokens-*/"))) == 2


@pytest.mark.parametrize(("how", "value"), [("truncation_side", "left"), ("split_special_tokens", True)])
def test_a_tokenizer_that_is_called_otherwise_has_other_tokens(splits, tokenizer, how, value):
    tokenize(splits.train, splits.entry, tokenizer, 8)
    setattr(tokenizer, how, value)
    tokenize(splits.train, splits.entry, tokenizer, 8)
    assert len(list(runs.caches_folder().glob("tokens-*/"))) == 2


def test_made_and_found_tokens_leave_the_same_tokenizer(splits, tokenizer):
    """It is saved beside the model, and a run that finds its tokens is the run that made them, byte for byte."""
    before = tokenizer.backend_tokenizer.to_str()
    for _ in range(2):
        tokenize(splits.train, splits.entry, tokenizer, 8)
        assert tokenizer.backend_tokenizer.to_str() == before
        tokenizer("the", truncation=True, padding=True)


def test_batches_change_nothing(splits, tokenizer, monkeypatch, tmp_path):
    whole = tokenize(splits.train, splits.entry, tokenizer, 64).to_dict()
    monkeypatch.setattr(tokens_module, "_BATCH", 7)
    monkeypatch.setenv("FAIRKD_ROOT", str(tmp_path / "other"))
    assert tokenize(splits.train, splits.entry, tokenizer, 64).to_dict() == whole
    assert sorted(path.name for path in runs.caches_folder().glob("tokens-*/*.arrow")) == ["tokens.arrow"]
