"""Folders of results, read back."""
