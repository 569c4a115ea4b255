"""Hydra configuration files; a package, so that wheels carry them."""

from pathlib import Path

CONF = Path(__file__).parent
