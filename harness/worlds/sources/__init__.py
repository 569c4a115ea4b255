"""Real data sets as the same files: one file each, and `world`, which writes the folder of `data.source=real`."""

from harness.worlds.sources.config import RealConfig

__all__ = ["RealConfig"]
