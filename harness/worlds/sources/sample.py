"""Which rows of a file are taken: a seeded sample, in the order of the file."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

from evals.values.errors import InputError

Item = TypeVar("Item")


def sample(items: Sequence[Item], limit: int | None, seed: int) -> list[Item]:
    """`limit` of the items drawn without replacement, in their own order; all of them when there are fewer.

    Raises InputError for a limit below 1.
    """
    if limit is not None and limit < 1:
        raise InputError(
            f"a limit of {limit} rows leaves no data", fix="give 1 or more, or none for all rows"
        )
    if limit is None or limit >= len(items):
        return list(items)
    import numpy as np  # not for keys and help, which draw nothing

    chosen = np.random.default_rng([seed, len(items)]).choice(len(items), size=limit, replace=False)
    return [items[i] for i in sorted(chosen)]
