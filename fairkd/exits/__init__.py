"""Exits: a linear head on the features of one layer, its mode, and what its posterior says. Tensors in, tensors out.

Here lives the mathematics: features by chunks, dense or sparse (`design`), the exit at its MAP (`linear`, by `newton`),
hidden layers below it (`hidden`), the curvature (`kronecker`, `dense`), the posteriors (`posterior`, `laplace`), the
predictive (`predictive`), and how all of them are asked for together (`head`). No transformers, no files, no
experiment.
"""

from fairkd.exits.dense import Dense, DenseLaplace
from fairkd.exits.head import ExitOptions, Exits, Head, HeadPosterior
from fairkd.exits.laplace import Kronecker, KroneckerLaplace, select_prior_precision
from fairkd.exits.linear import LinearExit
from fairkd.exits.posterior import POSTERIORS, LaplacePosterior, Posterior, register_posterior

__all__ = [
    "POSTERIORS",
    "Dense",
    "DenseLaplace",
    "ExitOptions",
    "Exits",
    "Head",
    "HeadPosterior",
    "Kronecker",
    "KroneckerLaplace",
    "LaplacePosterior",
    "LinearExit",
    "Posterior",
    "register_posterior",
    "select_prior_precision",
]
