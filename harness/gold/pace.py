"""What a grader costs: time and money for a thousand responses, by what was asked of it here."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from evals.graders import Grader
from evals.graders.cache import CachedGrader
from evals.models.spending import Spending
from evals.statistics.intervals import NAN
from harness.keys.gold import GoldServer

THOUSAND = 1000


@dataclass(frozen=True)
class GradingPace:
    """Of `asked` (response, proposition) pairs, `propositions` a response; NaN where nothing was asked or counted.

    Grades that the cache had cost nothing here, and are not counted. `cost` is in the currency of the prices.
    """

    asked: int
    seconds: float  # of 1,000 responses
    tokens: float  # of 1,000 responses, asked and answered, by a server's count
    cost: float  # of 1,000 responses, by a server's prices

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


def pace_of(grader: Grader, propositions: int, server: GoldServer) -> GradingPace | None:
    """None of a grader whose grades are not asked for here: a file's, and one's own without an identity."""
    if not isinstance(grader, CachedGrader):
        return None
    responses = grader.asked / propositions if propositions else 0.0
    if not responses:
        return GradingPace(0, NAN, NAN, NAN)
    spent: Spending | None = grader.spending
    tokens = cost = NAN
    if spent is not None and spent.tokens and not spent.uncounted:
        tokens = spent.tokens / responses * THOUSAND
        paid = spent.cost(server)
        cost = NAN if paid is None else paid / responses * THOUSAND
    return GradingPace(grader.asked, grader.seconds / responses * THOUSAND, tokens, cost)
