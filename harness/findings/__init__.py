"""What results say: points and differences, claims, verdicts, and the words for them."""
