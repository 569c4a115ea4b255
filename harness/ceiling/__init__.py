"""What a reward asks for, before anything is trained on it: the engine of `rbrbench ceiling`, and of its samples.

`rewards.py` opens any reward, a method without rules too; `predict.py` has the curves and comparisons, pure;
`engine.py` runs them; `files.py` is the record. `drawing.py` makes a set of samples, which `proposals.py` draw and
`weighing.py` weighs.
"""
