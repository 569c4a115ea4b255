"""A grader against human labels: how often it is right, how honest its grades are, and who can talk to it."""
