"""Training by examples: pre-training, SFT, reward model, grader, encoders."""
