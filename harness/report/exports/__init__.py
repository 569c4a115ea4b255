"""Results and suites in other programs' formats."""
