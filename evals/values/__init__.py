"""What everything passes on: conversations, errors, ranges, grades, and the rows of files."""
