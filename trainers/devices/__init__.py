"""The processes and devices of one training run: collectives, split models and optimisers."""
