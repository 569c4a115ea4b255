"""A language model at hand: loading, prompts as tokens, sampling, prefixes read once, a chat server."""
