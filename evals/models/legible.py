"""A text as a reader sees it: nothing invisible in it, and look-alike letters read as the Latin ones that they show.

A program reads code points. The same word in mathematical letters, full width, or with Cyrillic letters among its own
is another word to it, and the same to a person.
"""

from __future__ import annotations

import re
import unicodedata

from evals.models.untrusted import visible

# Greek, Cyrillic and Armenian letters that look like one Latin letter: confusables.txt of Unicode Technical
# Standard 39. It takes capital I for small l; here a capital reads as I.
_SEEN = "ͿΑΒΕΖΗΙΚΜΝΟΡΤΥΧαγινορσυϜϳϺЅІЈАВЕКМНОРСТУХЬагеорсухѕіјѡѴѵҮүһҽӀӏԁԌԛԜԝՍՏՕագզհոռսցքօ"
_READ = "JABEZHIKMNOPTYXayivopouFjMSIJABEKMHOPCTYXbareopcyxsijwVvYyheIidGqWwUSOwqqhnnugfo"
_LATIN = str.maketrans(_SEEN, _READ)
_ANY = re.compile(f"[{_SEEN}]")
_WORD = re.compile(r"[^\W\d_]+")


def legible(text: str) -> str:
    """The text in compatibility form (NFKC), nothing invisible in it, its disguised words in Latin letters.

    A word is disguised where each of its letters is Latin or looks so: text in another script stays.
    """
    text = unicodedata.normalize("NFKC", visible(text))
    return text if text.isascii() or not _ANY.search(text) else _WORD.sub(_undisguised, text)


def _undisguised(found: re.Match[str]) -> str:
    word = found[0].translate(_LATIN)
    return word if all(map(_is_latin, word)) else found[0]


def _is_latin(letter: str) -> bool:
    return letter.isascii() or unicodedata.name(letter, "").startswith("LATIN ")
