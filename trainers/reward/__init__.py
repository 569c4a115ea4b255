"""The rule-based reward: its terms, its weights, how well it ranks, and what each rule does."""
