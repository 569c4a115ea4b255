"""What people read: every record's document as a page, a summary and tables on the terminal; plots; exports.

`of_*.py` describe a record each as a `document.py`, by parts that stand in files of their own (`judged.py`,
`claims.py`, `gate_checks.py`, ...); `page.py` and `terminal.py` draw it. `redraw.py` finds who draws a folder.
"""
