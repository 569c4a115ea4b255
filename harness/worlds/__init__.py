"""Where prompts, demonstrations and comparisons come from: the sandbox, or real data sets."""
