"""Real data sets, one file each, and the world folder that is made of them."""

from harness.worlds.sources.config import RealConfig
from harness.worlds.sources.world import real_digest, write_real_world

__all__ = ["RealConfig", "real_digest", "write_real_world"]
