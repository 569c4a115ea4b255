"""harness/runtime/libraries.py: a command's own threads end with it."""

from __future__ import annotations

import pytest
import torch

from harness.runtime.libraries import own_threads, set_threads


def test_threads_are_given_back() -> None:
    """A run of two threads left them to what the program did next, whose sums then had other bits."""
    before = torch.get_num_threads()
    with own_threads():
        set_threads(before + 2)
        set_threads(before + 1)
        assert torch.get_num_threads() == before + 1
    assert torch.get_num_threads() == before


def test_threads_are_given_back_after_an_error_and_from_inside_another() -> None:
    """Only the outermost command, or only one that succeeded, gave them back."""
    before = torch.get_num_threads()
    with own_threads():
        set_threads(before + 1)
        with pytest.raises(RuntimeError, match="inside"), own_threads():
            set_threads(before + 2)
            raise RuntimeError("inside")
        assert torch.get_num_threads() == before + 1
    assert torch.get_num_threads() == before


def test_where_nothing_was_set_nothing_is_given_back() -> None:
    """A count set by the program itself, inside, was undone."""
    before = torch.get_num_threads()
    with own_threads():
        torch.set_num_threads(before + 1)
    assert torch.get_num_threads() == before + 1
    torch.set_num_threads(before)
