"""Reinforcement learning: one loop and what one reads with it; PPO, GRPO, RLOO, REINFORCE, A2C and TRPO."""
