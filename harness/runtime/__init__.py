"""A running program: its lines on the terminal, its threads, the processes that it starts."""
