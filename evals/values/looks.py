"""What a file of text looks like by its first line, where it is not what its reader wants, and what to do then."""

from __future__ import annotations

import re

PAGE = re.compile(r"\s*<(!doctype|!--|html|\?xml|head|body|script)", re.IGNORECASE)
WORD = r"\s*[\w. \-]{1,80}\s*"  # of a header, quoted or not
SEPARATORS = {",": "CSV", "\t": "a table separated by tabs", ";": "a table separated by semicolons"}
ONE_A_LINE = "write one object a line"

Look = tuple[str, str]  # what it is, and what to do


def as_page(line: str) -> Look | None:
    if PAGE.match(line):
        return "a web page", "download the raw file, not the page that shows it"
    return None


def as_no_jsonl(line: str) -> Look | None:
    """Of a file whose first line is no JSON object; None where that line is merely broken."""
    text = line.strip()
    if text.startswith("["):
        return "one JSON array", f"{ONE_A_LINE}: jq -c '.[]' FILE"
    if text.startswith("{") and text[-1] in "{[,":
        return (
            "JSON over several lines",
            f"{ONE_A_LINE}: jq -c . FILE, or jq -c '.[]' FILE where a list holds them",
        )
    if re.match(r"\{\s*'", text):
        return "Python's way to write a dict", f"{ONE_A_LINE}, with json.dumps"
    return as_page(line) or as_table(text) or as_yaml(text)


def as_no_csv(line: str) -> Look | None:
    """Of a file whose first line is no header of CSV."""
    if line.lstrip().startswith(("{", "[")):
        return (
            "JSON",
            "where its reader takes JSONL, name it .jsonl with one object a line, or write it as CSV",
        )
    return as_page(line)


def as_table(line: str) -> Look | None:
    """A header: two names or more between separators."""
    for separator, name in SEPARATORS.items():
        words = line.split(separator)
        if len(words) > 1 and all(re.fullmatch(f'"?{WORD}"?', word) for word in words):
            fix = "where its reader takes CSV, name it .csv, or write it as JSONL: pandas has DataFrame.to_json(FILE, "
            return name, fix + "orient='records', lines=True)"
    return None


def as_yaml(line: str) -> Look | None:
    if re.match(r"(---|- |[A-Za-z_]\w*:(\s|$))", line):
        return "YAML", f"{ONE_A_LINE}, as JSON"
    return None
