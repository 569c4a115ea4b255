"""Reinforcement learning: PPO and what one reads with it; REINFORCE, GRPO and RLOO."""
