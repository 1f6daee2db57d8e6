"""Parameters of a notebook that has a profile beside its own."""

from contextlib import suppress
from typing import Any, Self

from pydantic import Field, field_validator

from fairkd.experiment.experiment import Experiment
from fairkd.experiment.parts import own_names
from fairkd.experiment.profiles import profile_parameters
from fairkd.parameters import ParameterError, Parameters, nearest, stated


class Profiled(Parameters):
    """Parameters that start from a profile: a file of params/, with some of its parameters changed."""

    profile: str = Field("demo", description="file of params/ without .yaml, or the path of one")
    changes: dict[str, Any] = Field({}, description="parameters of the profile to change")

    @field_validator("profile")
    @classmethod
    def _read(cls, profile: str) -> str:
        """Import the profile's modules, which register what other fields name; `experiment` tells what is wrong."""
        with suppress(ParameterError):
            profile_parameters(profile, {})
        return profile

    @classmethod
    def from_notebook(cls, namespace: dict[str, Any]) -> Self:
        """The parameters of a notebook, as `Experiment.from_notebook`; what is not among them changes the profile."""
        declared, injected = stated(namespace)
        return cls.of(declared | injected)

    @classmethod
    def of(cls, values: dict[str, Any]) -> Self:
        """The parameters `values`; what is not among those of this class changes the profile."""
        profile_parameters(values.get("profile", cls.model_fields["profile"].default), {})  # its modules name some
        own = {name: value for name, value in values.items() if name in cls.model_fields}
        further = {name: value for name, value in values.items() if name not in cls.model_fields}
        known = cls.model_fields.keys() | Experiment.model_fields.keys() | own_names()
        for name in sorted(further.keys() - known):
            raise ParameterError(f"{name}: there is no such parameter; {nearest(name, known)}")
        return cls(**(own | ({"changes": cls(**own).changes | further} if further else {})))

    @property
    def experiment(self) -> Experiment:
        """The profile, changed.

        Raises:
            ParameterError: there is no such profile, or a change is wrong, or none of the students reads it.
        """
        found = Experiment.of_students(profile_parameters(self.profile, self.changes))
        return found.read_by_students(self.changes, self.entries(found))

    def entries(self, experiment: Experiment) -> list[str]:
        """The entries of the students that the notebook makes."""
        return experiment.students
