"""The keys of `rbrbench serve`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from evals.models.thoughts import AUTO
from evals.values.errors import InputError
from evals.values.ranges import Range, whole
from harness.keys.shared import Threads, least


@dataclass(kw_only=True)
class ServeConfig(Threads):
    """Who may ask is whoever reaches the address: bind it to others than this machine only in a network of your own."""

    reward: str = ""  # .yaml or .json description, results/FIT, or results/RUN:METHOD:SEED
    host: str = "127.0.0.1"  # the address that is listened at
    port: int = 8089  # 0: a free one, which is printed
    max_batch: int = 512  # responses of one request, beyond which it is refused (413)
    timeout_s: int = 120  # seconds that one request may take, its waiting with it (504)
    thoughts: str = AUTO  # how a thought is marked in responses; the answer alone is paid
    store: str = "results"  # folder in which grades are kept, as other commands keep them in results=

    RANGES: ClassVar[dict[str, Range]] = {"max_batch": least(1), "timeout_s": least(1), "port": whole(0)}

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.reward:
            fix = "give reward=FILE.yaml, results/FIT or results/RUN:METHOD:SEED"
            raise InputError("is not set", field="reward", fix=fix)
        if self.port > 65535:
            raise InputError(f"is {self.port}", field="port", fix="give one from 0 to 65535")
