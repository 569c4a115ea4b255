"""The engine of `rbrbench evaluate`: respond, judge, measure, compare."""
