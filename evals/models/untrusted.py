"""Keep a response from talking to its grader.

A response may hold the text of special tokens, role markers or fences. Each such marker is broken
by a space before its last character, so that it stays readable and is no marker any more. The
template's own tokens are made apart from the content, so nothing in the content can change them.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


# Unicode's Default_Ignorable_Code_Point, interlinear marks and control characters but tab, newline and return.
# A marker hidden by them may reappear in a tokenizer's normaliser; words split by them escape a word count.
INVISIBLE = re.compile(
    "[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f"
    "\u202a-\u202e\u2060-\u206f\u3164\ufe00-\ufe0f\ufeff\uffa0\ufff0-\ufffb"
    "\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e0fff]"
)


def visible(text: str) -> str:
    """The text without the characters that nobody sees."""
    return INVISIBLE.sub("", text)


def neutralise(text: str, markers: re.Pattern[str] | None) -> str:
    """Drop invisible characters and break each marker, also those that the breaking of another forms."""
    text = visible(text)
    while markers is not None and markers.search(text):
        text = markers.sub(lambda found: f"{found[0][:-1]} {found[0][-1]}", text)
    return text


def marker_pattern(markers: Iterable[str]) -> re.Pattern[str] | None:
    """A case-blind pattern for all markers of two characters or more; None where there is none."""
    known = sorted({m.strip() for m in markers if len(m.strip()) > 1}, key=lambda m: (-len(m), m))
    return re.compile("|".join(map(re.escape, known)), re.IGNORECASE) if known else None


def control_tokens(tokenizer: PreTrainedTokenizerBase) -> dict[str, int]:
    """Added tokens that steer a model: the special ones and those that its chat template writes."""
    template = tokenizer.chat_template if isinstance(tokenizer.chat_template, str) else ""
    special = set(tokenizer.all_special_ids) - {tokenizer.unk_token_id}
    return {
        token: index
        for token, index in tokenizer.get_added_vocab().items()
        if index != tokenizer.unk_token_id and (index in special or (len(token) > 1 and token in template))
    }


class ContentEncoder:
    """Tokenizes untrusted text so that no control token can come out of it."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, extra_markers: Iterable[str] = ()) -> None:
        self._tokenizer = tokenizer
        controls = control_tokens(tokenizer)
        self._controls = frozenset(controls.values())
        self.markers = marker_pattern([*controls, *extra_markers])

    def __call__(self, texts: Sequence[str]) -> list[list[int]]:
        """Token ids of each text, its markers broken."""
        return self.tokenize([neutralise(text, self.markers) for text in texts])

    def tokenize(self, texts: Sequence[str]) -> list[list[int]]:
        """Token ids of texts whose markers are broken already.

        A normaliser may still turn characters into a control token; its ids are dropped.
        """
        if not texts:
            return []
        rows = self._tokenizer(list(texts), add_special_tokens=False, verbose=False)["input_ids"]
        return [
            row if self._controls.isdisjoint(row) else [i for i in row if i not in self._controls]
            for row in rows
        ]
