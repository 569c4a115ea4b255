"""What is evaluated or compared: a model, a server, recorded responses, a grader, a reward."""
