"""Losses that take in a biased reader, against their papers' formulas in NumPy."""

import numpy as np
import pytest
import torch

from fairkd.weighting import METHODS, Adjustment
from fairkd.weighting.loss import distillation_terms

GENERATOR = torch.Generator().manual_seed(0)
STUDENT, TEACHER, READER = (2 * torch.randn(20, 3, generator=GENERATOR, dtype=torch.float64) for _ in range(3))
LABELS = torch.randint(3, (20,), generator=GENERATOR)
PROBS = READER.softmax(-1)


def softmax(z):
    e = np.exp(z - z.max(1, keepdims=True))
    return e / e.sum(1, keepdims=True)


@pytest.mark.parametrize("temperature", [1.0, 2.0])
def test_confreg_distils_the_teachers_powers_normalised(temperature):
    """Utama et al. 2020: s_j = p_j^(1 - beta) / sum_k p_k^(1 - beta), beta what the reader gives the label."""
    adjusted = METHODS["confreg"]().adjustment(PROBS, LABELS)
    ce, kd = distillation_terms(STUDENT, TEACHER, LABELS, temperature, adjusted)
    beta = PROBS.numpy()[range(20), LABELS.numpy()]
    powers = softmax(TEACHER.numpy() / temperature) ** (1 - beta)[:, None]
    soft = powers / powers.sum(1, keepdims=True)
    p = softmax(STUDENT.numpy() / temperature)
    cross, entropy = -(soft * np.log(p)).sum(1), -(soft * np.log(soft)).sum(1)
    np.testing.assert_allclose(kd, temperature**2 * (cross - entropy), atol=1e-12)
    assert torch.equal(ce, distillation_terms(STUDENT, TEACHER, LABELS, temperature)[0])


def test_confreg_is_published_without_a_labels_term_and_without_a_temperature():
    method = METHODS["confreg"]()
    assert (method.kd_weight, method.temperature, method.uses_teacher) == (1.0, 1.0, True)
    assert "weight_cap" not in type(method).model_fields and "use_teacher" not in type(method).model_fields


def test_poe_trains_the_product_on_the_labels_and_the_student_alone_on_the_teacher():
    """Clark et al. 2019, "bias product": softmax(log p + log p_b); He et al. 2019."""
    adjusted = METHODS["poe"]().adjustment(PROBS, LABELS)
    ce, kd = distillation_terms(STUDENT, TEACHER, LABELS, 2.0, adjusted)
    product = softmax(STUDENT.numpy()) * PROBS.numpy()
    product /= product.sum(1, keepdims=True)
    np.testing.assert_allclose(ce, -np.log(product[range(20), LABELS.numpy()]), atol=1e-12)
    assert torch.equal(kd, distillation_terms(STUDENT, TEACHER, LABELS, 2.0)[1])
    assert METHODS["poe"](use_teacher=False).uses_teacher is False


def test_a_reader_that_knows_nothing_changes_nothing_of_poe_and_one_that_rules_out_a_class_leaves_a_number():
    flat = METHODS["poe"]().adjustment(torch.full((20, 3), 1 / 3, dtype=torch.float64), LABELS)
    plain = distillation_terms(STUDENT, TEACHER, LABELS, 2.0)[0]
    torch.testing.assert_close(distillation_terms(STUDENT, TEACHER, LABELS, 2.0, flat)[0], plain)
    sure = METHODS["poe"]().adjustment(torch.tensor([[1.0, 0.0, 0.0]]), torch.tensor([1]))
    assert distillation_terms(STUDENT[:1].float(), TEACHER[:1], torch.tensor([1]), 2.0, sure)[0].isfinite().all()
    assert distillation_terms(STUDENT, TEACHER, LABELS, 2.0, Adjustment())[0].equal(plain)


@pytest.mark.parametrize("method", ["confreg", "poe"])
def test_a_reader_of_other_rows_is_refused(method):
    with pytest.raises(ValueError, match="labels has shape"):
        METHODS[method]().adjustment(PROBS, LABELS[:-1])
