"""A reward behind HTTP: what it is asked and answers, and the server."""
