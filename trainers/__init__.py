"""Floor 2: make a model or a reward. May import evals. Internal: programs import `rbrbench`."""
