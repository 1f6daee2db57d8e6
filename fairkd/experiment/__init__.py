"""A run's parameters, all checked before anything is computed: from a notebook, a profile, or a student's entry.

What data, exits, methods, posteriors and generators read is declared beside them; here it is put together. Nothing is
computed here, and no model or table is opened.
"""

from fairkd.experiment.experiment import Experiment
from fairkd.experiment.profiled import Profiled
from fairkd.experiment.students import entry, read_student, title

__all__ = ["Experiment", "Profiled", "entry", "read_student", "title"]
