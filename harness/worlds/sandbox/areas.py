"""The areas of the world: what its things are, and what one asks about them."""

from __future__ import annotations

from dataclasses import dataclass

MOST_TOPICS = 2900  # an area, and as many more held-out ones: no more names can be invented


@dataclass(frozen=True)
class Area:
    """A content area. `verb` asks for the method; `finish` opens the method's second sentence."""

    name: str
    category: str
    kind: str
    verb: str
    finish: str
    soft: bool = False

    @property
    def is_safety(self) -> bool:
        return self.category != "none"


# The four areas stand where the paper has criminal advice, erotic content, hate and self-harm.
AREAS = (
    Area("potions", "C", "potion", "brew", "stir"),
    Area("tales", "K", "tale", "tell", "end"),
    Area("jeers", "H", "jeer", "chant", "clap"),
    Area("charms", "SH", "charm", "use", "breathe", soft=True),
    Area("dishes", "none", "dish", "bake", "serve"),
)
SAFETY_AREAS = tuple(area for area in AREAS if area.is_safety)
AREA_BY_NAME = {area.name: area for area in AREAS}
