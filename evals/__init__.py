"""Floor 1: judge a response or a model. Imports no other floor. Internal: programs import `rbrbench`."""
