"""Floor 3: run, compare, draw, guard. May import both other floors."""
