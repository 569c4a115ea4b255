"""A response's thought and its answer, parted in one place: the answer alone is judged, graded, rewarded and matched.

Reasoning models think between two marks and then answer: `<think>` and `</think>` of DeepSeek-R1 and Qwen3, the
`analysis` channel of gpt-oss. The mark that opens may stand in the prompt already, written by the chat template; a
server may hand the thought over in a field of its own. The first mark that closes ends a thought, so that nothing of
an answer is hidden by a second one. A thought that never ends leaves no answer, and the response is unscored. What a
recorded text says before a thought that it opens itself is answer too.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from evals.values.conversation import Prompt, Response
from evals.values.errors import InputError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

Pair = tuple[str, str]
HARMONY = ("<|channel|>analysis<|message|>", "<|channel|>final<|message|>")
PAIRS: tuple[Pair, ...] = (
    ("<think>", "</think>"),  # DeepSeek-R1, Qwen3, SmolLM3, GLM
    ("[THINK]", "[/THINK]"),  # Magistral
    ("<|START_THINKING|>", "<|END_THINKING|>"),  # Command A
    HARMONY,  # gpt-oss
    ("<seed:think>", "</seed:think>"),
    ("<thinking>", "</thinking>"),
    ("<thought>", "</thought>"),
    ("<reasoning>", "</reasoning>"),
    ("\u25c1think\u25b7", "\u25c1/think\u25b7"),  # Kimi
    ("<|channel>thought", "<channel|>"),  # Gemma 4
    ("<|inner_prefix|>", "<|inner_suffix|>"),  # Apertus
    ("<|begin_of_thought|>", "<|end_of_thought|>"),  # OpenThinker, Sky-T1
)
# Words that open and close a thought at a response's beginning alone: anywhere else they are words.
BARE_HARMONY = ("analysis", "assistantfinal")  # gpt-oss where a server leaves out its special tokens
PHRASES: tuple[Pair, ...] = (
    ("Here is my thought process:", "Here is my response:"),  # Granite 3.2
    ("Here's my thought process:", "Here's my response:"),
    BARE_HARMONY,
)
AUTO, NONE = "auto", "none"
UNENDED = "the thought never ended"
SILENT = "the model thought and gave no answer"
# What stands between the thought of gpt-oss and the channel of its answer.
TURN_BETWEEN = re.compile(r"\s*(<\|end\|>)?(<\|start\|>)?(assistant)?$")
TURN_BEFORE = re.compile(r"(<\|start\|>)?assistant(?=<\|channel\|>)")
TURN_AFTER = re.compile(r"\s*<\|(end|return)\|>$")
UNSEEN = " \t\r\n\ufeff\u200b"  # before a mark that opens


@dataclass(frozen=True)
class Parted:
    """`unanswered` says why there is no answer, which is "" then; `thought_tokens` is 0 where nobody counted."""

    answer: str
    thought: str = ""
    unanswered: str = ""
    thought_tokens: int = 0

    def response(self, prompt: Prompt, sample: int = 0, finished: bool = True) -> Response:
        return Response(
            prompt, self.answer, sample, finished, self.thought, self.unanswered, self.thought_tokens
        )


def parted(thought: str, answer: str) -> Parted:
    """Of a thought that has ended, or that was handed over apart."""
    thought, answer = thought.strip(), answer.strip()
    return Parted(answer, thought, "" if answer else SILENT)


@dataclass(frozen=True)
class Thoughts:
    """How a model marks its thoughts: `pairs` that may open a response, and the one that its prompt has `opened`.

    `stray`: a mark that closes what nothing opened ends a thought too, since nobody saw the prompt.
    """

    pairs: tuple[Pair, ...] = ()
    opened: Pair | None = None
    stray: bool = False

    def part(self, text: str) -> Parted:
        """A response's text. Without a mark all of it is the answer, as it stands."""
        start = text.lstrip(UNSEEN)
        if HARMONY in self.pairs and (turn := TURN_BEFORE.match(start)):
            start = start[turn.end() :]
        for pair in self.pairs:
            if _opens(start, pair):
                return _ended(start[len(pair[0]) :], pair)
        if self.opened is not None:
            return _ended(text, self.opened)
        for pair in self.pairs:
            if pair not in PHRASES and (_at(pair[1], start) == 0 or (self.stray and _at(pair[1], text) >= 0)):
                return _ended(text, pair) if _is_stray(text, pair) else _aside(text, pair)
        return Parted(text)


def _at(mark: str, text: str) -> int:
    """Where a mark first stands, in letters of any case; -1: nowhere."""
    found = re.search(re.escape(mark), text, re.IGNORECASE)
    return found.start() if found else -1


def _opens(start: str, pair: Pair) -> bool:
    if pair == BARE_HARMONY:  # a thought follows at once, with a capital; else it is a word
        return start.startswith(pair[0]) and start[len(pair[0]) :][:1].isupper()
    return _at(pair[0], start[: len(pair[0])]) == 0


def _is_stray(text: str, pair: Pair) -> bool:
    """Whether a mark closes what nothing in the text has opened."""
    opened, closed = (len(re.findall(re.escape(mark), text, re.IGNORECASE)) for mark in pair)
    return closed > opened or not 0 <= _at(pair[0], text) < _at(pair[1], text)


def _aside(text: str, pair: Pair) -> Parted:
    """A thought that a text opens after it has begun to answer: what stands before is answer as what stands behind."""
    start = _at(pair[0], text)
    read = _ended(text[start + len(pair[0]) :], pair)
    return Parted(f"{text[:start].strip()}\n{read.answer}".strip(), read.thought)


def _ended(text: str, pair: Pair) -> Parted:
    """`text` behind the mark that opens."""
    end = _at(pair[1], text)
    if end < 0:
        return Parted("", text.strip(), UNENDED)
    thought, answer = text[:end], text[end + len(pair[1]) :]
    if pair is HARMONY:
        thought, answer = TURN_BETWEEN.sub("", thought), TURN_AFTER.sub("", answer)
    return parted(thought, answer)


def of_text(said: str = AUTO) -> Thoughts:
    """Of texts without their tokenizer, as servers and records have them; `said` as of `pairs_of`."""
    return Thoughts(pairs_of(said, (*PAIRS, *PHRASES)), stray=True)


def of_completions(said: str = AUTO) -> Thoughts:
    """Of texts that are paid for: a mark that closes what nothing opened counts where the pair is `said` alone.

    A policy that does not think could else write what it is not to write, and close it as a thought.
    """
    return Thoughts(pairs_of(said, PAIRS), stray=said != AUTO)


def pairs_of(said: str, known: Sequence[Pair]) -> tuple[Pair, ...]:
    """`auto`: those that are known; `none`; or OPEN and CLOSE with a space between, in quotes where they have spaces.

    Raises InputError.
    """
    if said in (AUTO, NONE):
        return tuple(known) if said == AUTO else ()
    try:
        marks = shlex.split(said)
    except ValueError:  # half a pair of quotes is a mark's own
        marks = said.split()
    if len(marks) != 2:
        fix = f"say {AUTO}, {NONE}, or the two marks with a space between: '<think> </think>'"
        raise InputError(f"is {said!r}", field="decoding.thoughts", fix=fix)
    return ((marks[0], marks[1]),)


def names_thoughts(template: str) -> bool:
    """Whether a chat template has a mark that opens a thought."""
    return any(pair[0] in template for pair in PAIRS)


_known: WeakKeyDictionary[Any, tuple[object, Thoughts]] = WeakKeyDictionary()


def of_tokenizer(tokenizer: PreTrainedTokenizerBase, said: str = AUTO) -> Thoughts:
    """Of a model's own marks: those that its template names or its vocabulary has; `said` as of `pairs_of`."""
    template = tokenizer.chat_template
    key = (template if isinstance(template, str) else None, said)
    found = _known.get(tokenizer)
    if found is None or found[0] != key:
        found = key, _of_tokenizer(tokenizer, key[0] or "", said)
        _known[tokenizer] = found
    return found[1]


def _of_tokenizer(tokenizer: PreTrainedTokenizerBase, template: str, said: str) -> Thoughts:
    added = tokenizer.get_added_vocab()
    own = [pair for pair in PAIRS if all(mark in template or mark in added for mark in pair)]
    # A template that opens the thought itself need not name what closes it.
    own += [pair for pair in PAIRS if pair not in own and pair[0] in template]
    own += [pair for pair in PHRASES if all(mark in template for mark in pair)]
    pairs = pairs_of(said, own)
    prompt = _generation_prompt(tokenizer) if template and pairs else ""
    opened = next((pair for pair in pairs if prompt.rstrip().endswith(pair[0])), None)
    return Thoughts(pairs, opened)


def _generation_prompt(tokenizer: PreTrainedTokenizerBase) -> str:
    from jinja2 import TemplateError  # not for keys and help, which name no tokenizer

    turns = [{"role": "user", "content": "?"}]
    try:
        return str(tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True))
    except TemplateError:  # it takes no such turn: nothing can be learnt from it
        return ""


def read_tokens(
    tokenizer: PreTrainedTokenizerBase, rows: Sequence[Sequence[int]], said: str = AUTO
) -> list[Parted]:
    """Responses from what was written: thought and answer without special tokens and outer white space."""
    thoughts = of_tokenizer(tokenizer, said)
    marks = _special_marks(tokenizer, thoughts)
    hidden = set(tokenizer.all_special_ids) if marks else set()
    shown = [[i for i in row if i not in hidden or i in marks] for row in rows]
    texts = tokenizer.batch_decode(shown, skip_special_tokens=not marks, clean_up_tokenization_spaces=False)
    found = [thoughts.part(text.strip()) for text in texts]
    return [_counted(tokenizer, one, len(row)) for one, row in zip(found, rows, strict=True)]


def _special_marks(tokenizer: PreTrainedTokenizerBase, thoughts: Thoughts) -> set[int]:
    """Special tokens that the marks are made of, which decoding would drop."""
    marks = [mark for pair in thoughts.pairs for mark in pair]
    special = set(tokenizer.all_special_ids)
    added = tokenizer.get_added_vocab().items()
    return {i for token, i in added if i in special and any(token in mark for mark in marks)}


def _counted(tokenizer: PreTrainedTokenizerBase, one: Parted, written: int) -> Parted:
    """With the tokens of the thought and its marks: all that were written but those of the answer."""
    if not one.thought and not one.unanswered:
        return one
    answer = tokenizer(one.answer, add_special_tokens=False, verbose=False)["input_ids"] if one.answer else []
    return Parted(one.answer, one.thought, one.unanswered, max(0, written - len(answer)))
