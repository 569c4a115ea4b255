"""Reinforcement learning: one loop and what one reads with it; PPO, GRPO, RLOO, REINFORCE, A2C and TRPO.

`loop.py` reads top to bottom: `rollout.py` samples, `experience.py` judges tokens, `objectives.py` are stepped along,
`formulas.py` has the mathematics. An algorithm is a file by its name, with a `recipe.py`. `checkpoint.py` and
`saved_state.py` are what a run writes and goes on from; `monitor.py` looks at held-out prompts and `alarm.py` warns;
`renewal.py` and its two kinds train parts of the reward anew on the way.
"""
