"""A rulebook as data: propositions, classes, its file, its check, what differs between two, and features."""
