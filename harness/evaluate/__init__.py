"""`rbrbench evaluate`: any model's responses, stored first and judged after, to tables with intervals."""
