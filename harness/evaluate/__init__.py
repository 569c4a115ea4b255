"""The engine of `rbrbench evaluate`: respond, judge, measure, compare.

`engine.py` runs it, in the order of `respond.py`, `judging.py`, `measuring.py`, `capability.py`; `comparing.py` holds
two models against each other, as far as `comparable.py` lets it, and `requirements.py` one against a file. `trust.py`
says how far judges can be relied on. `notes.py` and `manifest.py` are what the record says of itself; `xstest.py` and
`side_by_side.py` are the engines of `rbrbench xstest` and `rbrbench compare`.
"""
