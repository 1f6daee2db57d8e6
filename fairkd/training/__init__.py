"""Models and what they are trained by: the teacher's and the student's runs, and the exits of a finished student.

Here lives all that knows transformers: encoders and classifiers (`models`), what they say of a data set (`features`),
the `Trainer` with one weight an instance (`trainer`, `callbacks`), and the runs (`teacher`, `student`, `finished`). The
mathematics of exits and weights is below, grids and figures above.

`import transformers` alone is quick: what is written as `transformers.AutoModel` is loaded when it is first used, which
commands and graphs that read runs never do. So annotations are not evaluated here, and `checks` loads `trainer`.
"""

from fairkd.training.checks import check
from fairkd.training.finished import answers_name, distil, evaluate_on, exits_name, student_run
from fairkd.training.first_epoch import plain
from fairkd.training.student import student_name, train_student
from fairkd.training.teacher import fine_tune, teacher_name, teacher_run

__all__ = [
    "answers_name",
    "check",
    "distil",
    "evaluate_on",
    "exits_name",
    "fine_tune",
    "plain",
    "student_name",
    "student_run",
    "teacher_name",
    "teacher_run",
    "train_student",
]
