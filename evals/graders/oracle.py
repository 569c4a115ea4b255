"""The oracle as grader: the truth of a world that knows it, as 0 or 1, or a level's score."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from evals.rules.propositions import Proposition
from evals.values.conversation import Prompt, Response
from evals.values.grades import Grades, Unscored
from evals.values.levels import Label

Truth = Callable[[Prompt, str], Mapping[str, Label]]


class OracleGrader:
    """Wraps `truth(prompt, text) -> {proposition: label}`; what it does not answer is unscored."""

    def __init__(self, truth: Truth, name: str = "oracle") -> None:
        self.name = name
        self._truth = truth

    def grade(self, responses: Sequence[Response], propositions: Sequence[Proposition]) -> Grades:
        """Grades [responses, propositions], each 0, 1, a level's score or unscored."""
        names = tuple(p.name for p in propositions)
        return Grades.of(names, [self._row(response, names) for response in responses])

    def _row(self, response: Response, names: Sequence[str]) -> list[float | Unscored]:
        truth = self._truth(response.prompt, response.text)
        return [
            float(truth[name]) if name in truth else Unscored(f"the oracle does not know {name!r}")
            for name in names
        ]
