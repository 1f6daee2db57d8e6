"""The design matrix, dense and sparse: the same rows by hand, and the same exits and posteriors from either."""

import pytest
import torch

from fairkd import LinearExit
from fairkd.exits import POSTERIORS, ExitOptions, Exits, design, select_prior_precision
from fairkd.exits.newton import contrast_hessian


def bag(n=200, d=30, seed=0, dtype=torch.float64):
    """Features of which nine in ten are 0, one row of them all, labels that depend on them, and weights."""
    generator = torch.Generator().manual_seed(seed)
    features = torch.rand(n, d, generator=generator, dtype=dtype)
    features[torch.rand(n, d, generator=generator) > 0.1] = 0
    features[n // 2] = 0
    scores = features.double() @ torch.randn(d, 3, generator=generator, dtype=torch.float64) * 4
    labels = torch.multinomial(scores.softmax(1), 1, generator=generator).squeeze(1)
    return features, labels, 2 * torch.rand(n, generator=generator, dtype=torch.float64)


@pytest.fixture(params=[200, 2**19], ids=["rows in chunks", "all at once"])
def chunk(request, monkeypatch):
    monkeypatch.setattr(design, "CHUNK", request.param)
    monkeypatch.setattr(design, "SPARSE", 5)


@pytest.mark.parametrize("layout", ["dense", "sparse"])
def test_rows_by_hand(chunk, layout):
    features, labels, weights = bag()
    x = torch.cat([features, torch.ones(len(features), 1, dtype=torch.float64)], dim=1)
    errors, matrix = x[:, :3] - 0.1, x[:31].T.contiguous()
    transposed, gram, norms, products = torch.zeros(3, 31).double(), torch.zeros(31, 31).double(), [], []
    for rows, part in design.chunks(features if layout == "dense" else features.to_sparse()):
        part.add_transposed(transposed, errors[rows])
        part.add_gram(gram, weights[rows] - 0.5)
        norms.append(part.squared_norms())
        products.append(part.times(matrix.T))
    torch.testing.assert_close(transposed, errors.T @ x)
    torch.testing.assert_close(gram.tril(), (x.T @ ((weights - 0.5)[:, None] * x)).tril())
    torch.testing.assert_close(torch.cat(norms), x.square().sum(1))
    torch.testing.assert_close(torch.cat(products), x @ matrix.T)
    assert design.feature_norm(features.to_sparse()) == pytest.approx(x.norm().item())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("kind", POSTERIORS)
def test_exit_and_posterior_are_the_same_of_sparse_features(chunk, kind, dtype):
    features, labels, _ = bag(dtype=dtype)
    exits = Exits(posterior=POSTERIORS[kind](), options=ExitOptions(prior_precision=0.3))
    found = []
    for given in (features, features.to_sparse()):
        head = exits.head(given, labels)
        posterior = exits.uncertain(head, given, labels)
        asked = design.selected(given, torch.arange(150, 90, -1))
        found.append(
            {
                "weight": head.exit.stacked, "logits": head.logits(asked),
                "probabilities": posterior.probabilities(asked), "variance": posterior.contrast_variance(asked),
                "information": posterior.mutual_information(asked),
                "covariance": posterior.posterior.logit_covariance(asked),
                "dimension": torch.tensor(posterior.posterior.effective_dimension),
            }
        )  # fmt: skip
    dense, sparse = found
    for name, values in dense.items():
        tight = {"rtol": 1e-6, "atol": 1e-8} if values.dtype == torch.float64 else {}
        torch.testing.assert_close(sparse[name], values, msg=lambda said, name=name: f"{name}: {said}", **tight)


def test_weights_hidden_layers_and_evidence_are_the_same_of_sparse_features(chunk):
    features, labels, weights = bag()
    sparse = features.to_sparse()
    torch.testing.assert_close(
        LinearExit.fit(sparse, labels, weights=weights).stacked,
        LinearExit.fit(features, labels, weights=weights).stacked, rtol=1e-6, atol=1e-8,
    )  # fmt: skip
    taus = [select_prior_precision(given, labels)[1] for given in (features, sparse)]
    assert taus[1] == pytest.approx(taus[0], rel=1e-3)
    hidden = Exits(options=ExitOptions(exit_hidden=[5]))
    logits = [hidden.head(given, labels).logits(given) for given in (features, sparse)]
    torch.testing.assert_close(logits[1], logits[0], rtol=1e-4, atol=1e-4)
    probs = LinearExit.fit(features, labels).logits(features).softmax(1)
    hessians = [contrast_hessian(probs, given, weights) for given in (features, sparse)]
    torch.testing.assert_close(*hessians)


@pytest.mark.filterwarnings("ignore:Sparse")
def test_sparse_features_are_refused_that_are_not_finite_or_of_another_layout():
    features, labels, _ = bag()
    with pytest.raises(ValueError, match="features have layout torch.sparse_csr; they must be dense or COO"):
        LinearExit.fit(features.to_sparse_csr(), labels)
    features[3, 4] = float("nan")
    with pytest.raises(ValueError, match="features hold NaN or infinity"):
        LinearExit.fit(features.to_sparse(), labels)
