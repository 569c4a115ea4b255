"""The engine of `rbrbench gold`: graders against labels."""
