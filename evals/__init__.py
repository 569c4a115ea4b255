"""Floor 1: judge a response or a model. Imports neither of the other floors."""
