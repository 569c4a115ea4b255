"""What is kept on disk: the store of stages, digests, locks, whole-or-nothing writing, provenance."""
