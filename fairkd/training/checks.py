"""What is looked at before any training: the data are loaded, the models' configurations read."""

import logging

import transformers

from fairkd import provenance, ranks
from fairkd.data import Splits, generator_of, load
from fairkd.exits.posterior import QUADRATURE_CLASSES
from fairkd.experiment import Experiment
from fairkd.parameters import ParameterError, nearest
from fairkd.training import models
from fairkd.training.arithmetic import choose_instructions

log = logging.getLogger("fairkd")


def check(experiment: Experiment) -> Splits:
    """Load the data and look at the models' configurations, so that what is wrong is said before any training.

    Raises:
        ParameterError: a model that cannot be had or does not fit, an aux_layer that the student does not have,
            quadrature over too many classes, a tracker that is not installed, a batch that several processes cannot
            share evenly, validation rows of one class that are to choose an epoch.
        DataError: data that cannot be had or are not what their file says.
    """
    choose_instructions(experiment)
    _load_trainer()
    ranks.join()
    _check_processes(experiment.batch_size)
    _check_tracker(experiment.report_to)
    splits = load(experiment)
    if experiment.stops_early and splits.validation["label"].nunique() < 2:
        raise ParameterError(
            f"kept_epoch = {experiment.kept_epoch!r}: all validation rows are of one class; set validation_examples "
            f"above {experiment.validation_examples}, or kept_epoch = 'last epoch'"
        )
    models.check(experiment, splits.labels)
    _check_vocabulary(experiment)
    if len(splits.labels) > QUADRATURE_CLASSES:
        _check_integration(experiment, len(splits.labels))
    return splits


def _load_trainer() -> None:
    """Load what trains: it takes transformers seconds, which `import fairkd` alone does without.

    Here, since it is to be loaded before a run is named by its code.
    """
    from fairkd.training import trainer

    provenance.remember(trainer.__name__)


def _check_processes(batch_size: int) -> None:
    """Refuse a batch that the processes which train together cannot share evenly; say how they share it."""
    processes = ranks.count()
    if batch_size % processes:
        raise ParameterError(
            f"batch_size = {batch_size}: {processes} processes share every batch evenly; choose a multiple of "
            f"{processes}, such as {batch_size + -batch_size % processes}, or fewer processes"
        )
    if processes > 1:
        log.info("%d processes share every batch of %d rows, %d each", processes, batch_size, batch_size // processes)


def _check_vocabulary(experiment: Experiment) -> None:
    """Warn of the demo's encoder, the default, where the data are not the demo's."""
    default = Experiment.model_fields["teacher_model"].default
    if experiment.teacher_model == default and generator_of(experiment.dataset) is None:
        log.warning(
            "teacher_model = %s: knows the words of the demo's sentences, not those of %s; state teacher_model and "
            "student_model, such as bert-base-uncased and distilbert-base-uncased",
            default,
            experiment.dataset,
        )


def _check_tracker(name: str) -> None:
    """Refuse a tracker that transformers does not know or that is not installed here."""
    installed = ["none", "all", *sorted(transformers.integrations.get_available_reporting_integrations())]
    if name not in installed:
        what = "is not installed" if name in transformers.integrations.INTEGRATION_TO_CALLBACK else "is not known"
        raise ParameterError(f"report_to = {name!r}: {what}; {nearest(name, installed)} ({', '.join(installed)})")


def _check_integration(experiment: Experiment, n_classes: int) -> None:
    """Say that the predictive of many classes is sampled; refuse another way."""
    for options in (experiment.exit_options, experiment.finished().options):
        if options.predictive == "quadrature":
            raise ParameterError(
                f"predictive = 'quadrature': at most {QUADRATURE_CLASSES} classes, and the data have {n_classes}; "
                "choose auto, or mc"
            )
    samples = experiment.n_samples
    log.info(
        "%d classes: an exit's predictive is integrated by Monte Carlo, %d samples an instance", n_classes, samples
    )
