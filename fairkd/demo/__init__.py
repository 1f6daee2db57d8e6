"""The embedded demo: a generated corpus of sentence pairs and two tiny encoders pretrained on it."""

from typing import Annotated, Any

from pydantic import Field, field_validator

from fairkd.data import DataError, DataOptions, Generator, register_generator
from fairkd.demo import corpus
from fairkd.parameters import Count, Fraction, ParameterError, parameter

# A minute or two, and a gigabyte.
_MOST = 1_000_000


@register_generator
class Demo(Generator):
    """The demo corpus as a data set: a natural training sample, held-out splits with as many rows in every group."""

    name = "demo"

    negation_rates: Annotated[list[Fraction], Field(min_length=3, max_length=3)] = parameter(
        list(corpus.NEGATION_RATES), "P(negation | entailment, neutral, contradiction) in training", "MultiNLI"
    )
    evaluation_per_group: Count = parameter(650, "evaluation pairs in each of the six groups")

    @field_validator("negation_rates")
    @classmethod
    def _of_both_kinds(cls, rates: list[float]) -> list[float]:
        if max(rates) == 0 or min(rates) == 1:
            raise ParameterError("training has pairs with a negation and pairs without; a rate lies between 0 and 1")
        return rates

    def splits(self, options: DataOptions) -> dict[str, list[dict[str, Any]]]:
        """Rows of train, evaluation and validation; raises `DataError` for sizes that it cannot make."""
        train, validation, seed = options.train_examples, options.validation_examples, options.data_seed
        if train is None or validation % 6:
            raise DataError(
                f"train_examples = {train}, validation_examples = {validation}: the demo corpus is generated, so these "
                "are numbers, and the second a multiple of 6 (its groups)"
            )
        if max(train, validation) > _MOST:
            raise DataError(
                f"train_examples = {train}, validation_examples = {validation}: the demo corpus is generated, at most "
                f"{_MOST:,} pairs of each"
            )
        return {
            "train": corpus.generate(train, seed=seed, negation_rates=tuple(self.negation_rates)),
            "evaluation": corpus.generate_by_group(self.evaluation_per_group, seed=seed),
            "validation": corpus.generate_by_group(validation // 6, seed=seed, split="train"),
        }
