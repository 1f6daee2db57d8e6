"""What is looked at before any training: the data are loaded, the models' configurations read."""

from fairkd.data import Splits, load
from fairkd.experiment import Experiment
from fairkd.training import models


def check(experiment: Experiment) -> Splits:
    """Load the data and look at the models' configurations, so that what is wrong is said before any training.

    Raises:
        ParameterError: a model that cannot be had or does not fit, an aux_layer that the student does not have.
        DataError: data that cannot be had or are not what their file says.
    """
    splits = load(experiment)
    models.check(experiment, splits.labels)
    return splits
