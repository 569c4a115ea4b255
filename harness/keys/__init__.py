"""Every setting with its meaning, composed by Hydra and checked once."""
