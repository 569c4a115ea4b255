"""The engine of `rbrbench gold`: graders against labels.

`engine.py` runs it: `labels.py` are read, `graders.py` loaded, `grading.py` asks them and `measure.py` judges them;
`agreement.py` holds a student against its teacher. `files.py` is the record, with what `notes.py` and `pace.py` say.
"""
