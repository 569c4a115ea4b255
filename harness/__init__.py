"""Floor 3: run, compare, draw, guard. May import evals and trainers. Internal: programs import `rbrbench`."""
