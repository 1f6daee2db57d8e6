"""A student of alternate layers of its teacher, as DistilBERT was made (Sanh et al. 2019)."""

from __future__ import annotations

import transformers


def alternate_layers(depth: int) -> tuple[int, ...]:
    """The layers that DistilBERT takes of BERT's twelve (Sanh et al. 2019); of another depth every second one."""
    return (0, 2, 4, 7, 9, 11) if depth == 12 else tuple(range(0, depth, 2))


def halve(encoder: transformers.BertModel) -> transformers.DistilBertModel:
    """Build a student of alternate layers of a BERT encoder, as DistilBERT was (Sanh et al. 2019, section 3).

    Token types and pooler are left out; the embedding of token type 0 is added to the positions, so that
    a single sentence enters the first layer as it entered the teacher's. The weights are copies.
    """
    bert = encoder.config
    layers = alternate_layers(bert.num_hidden_layers)
    student = transformers.DistilBertModel(
        transformers.DistilBertConfig(
            vocab_size=bert.vocab_size,
            max_position_embeddings=bert.max_position_embeddings,
            dim=bert.hidden_size,
            hidden_dim=bert.intermediate_size,
            n_heads=bert.num_attention_heads,
            n_layers=len(layers),
            activation=bert.hidden_act,
            dropout=bert.hidden_dropout_prob,
            attention_dropout=bert.attention_probs_dropout_prob,
            initializer_range=bert.initializer_range,
            pad_token_id=bert.pad_token_id,
        )
    )
    source = encoder.state_dict()
    positions = source["embeddings.position_embeddings.weight"]
    state = {
        "embeddings.word_embeddings.weight": source["embeddings.word_embeddings.weight"],
        "embeddings.position_embeddings.weight": positions + source["embeddings.token_type_embeddings.weight"][0],
    }
    renamed = {"embeddings.LayerNorm": "embeddings.LayerNorm"}
    for new, old in enumerate(layers):
        for theirs, ours in _LAYER_NAMES.items():
            renamed[f"encoder.layer.{old}.{theirs}"] = f"transformer.layer.{new}.{ours}"
    for theirs, ours in renamed.items():
        for part in ("weight", "bias"):
            state[f"{ours}.{part}"] = source[f"{theirs}.{part}"]
    student.load_state_dict(state)
    return student


# A layer's modules in BERT and in DistilBERT.
_LAYER_NAMES = {
    "attention.self.query": "attention.q_lin",
    "attention.self.key": "attention.k_lin",
    "attention.self.value": "attention.v_lin",
    "attention.output.dense": "attention.out_lin",
    "attention.output.LayerNorm": "sa_layer_norm",
    "intermediate.dense": "ffn.lin1",
    "output.dense": "ffn.lin2",
    "output.LayerNorm": "output_layer_norm",
}
