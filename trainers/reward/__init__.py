"""The rule-based reward: its terms, its weights, how well it ranks, and what each rule does.

`reward.py` is what pays, the sum of terms such as `rule_based_term.py` and `reward_model_term.py`; `weights.py` fits
`reward_weights.py` on `examples.py`, by `hinge_solver.py`. `diagnosis.py` puts together what `ranking.py`,
`rule_effects.py` and `ablations.py` say of a fit, and `ceiling.py` what the reward asks for.
"""
