"""The main job: the stages of a run, their order, and what they made as one record.

`run.py` is a run and `sweep.py` a sweep of them; `order.py` has the stages one after the other, each a function of a
file named by what it makes (its first line says which number it has). `collect.py` reads what they made and
`collected.py` writes it as tables. `training.py` puts a training together, `worker.py` does it in several processes.
"""
