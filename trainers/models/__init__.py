"""The models that are trained: sizes, tokeniser, adapters, and the passes that they are quick by."""
