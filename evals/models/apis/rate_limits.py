"""What an answer's headers say of the limits of requests: `x-ratelimit-*`, which OpenAI's servers send and most copy.

https://platform.openai.com/docs/guides/rate-limits: for requests and for tokens what remains, and the duration after
which all of it is there again.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

LIMITED = ("requests", "tokens")
DURATION = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)")
SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


def exhausted(headers: Mapping[str, str]) -> float:
    """Seconds until what `x-ratelimit-remaining-*` says is spent begins anew; 0 where nothing is."""
    spent = [what for what in LIMITED if headers.get(f"x-ratelimit-remaining-{what}", "").strip() == "0"]
    return max((_duration(headers.get(f"x-ratelimit-reset-{what}", "")) for what in spent), default=0.0)


def number(text: str) -> float:
    """A finite number from 0; 0 for anything else."""
    try:
        value = float(text)
    except ValueError:
        return 0.0
    return value if 0.0 <= value < 1e9 else 0.0


def _duration(text: str) -> float:
    """`1s`, `6m0s`, `20ms`, or a number of seconds."""
    parts = DURATION.findall(text)
    if parts and "".join(n + unit for n, unit in parts) == text.strip():
        return sum(float(n) * SECONDS[unit] for n, unit in parts)
    return number(text)
