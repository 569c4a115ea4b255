"""The engine of `rbrbench rank`: rewards against prompts whose better response people know."""
