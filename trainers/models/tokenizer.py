"""A byte-level BPE tokenizer trained from text, with a chat template and PAD, BOS and EOS of their own.

Byte-level BPE (Radford et al., 2019) starts from the 256 bytes, so any text, in any script, comes back
unchanged and nothing is unknown.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from evals.values.errors import InputError

PAD, BOS, EOS = "<|pad|>", "<|bos|>", "<|eos|>"
ROLES = ("<|system|>", "<|user|>", "<|assistant|>")
SPECIAL = (PAD, BOS, EOS, *ROLES)

# EOS closes the assistant's turns only: to the model it says "my answer ends here" and nothing else.
# `<|` inside a message is taken apart, so that no text can forge another turn.
CHAT_TEMPLATE = (
    "{{ bos_token }}{% for m in messages %}"
    "{{ '<|' + m['role'] + '|>' + (m['content'] | replace('<|', '< |')) }}"
    "{% if m['role'] == 'assistant' %}{{ eos_token }}{% endif %}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
)


def train_tokenizer(texts: Iterable[str], vocab_size: int, context: int) -> PreTrainedTokenizerFast:
    """Train on `texts`; `context` becomes the tokenizer's `model_max_length`, in tokens.

    Same texts, same tokenizer. The vocabulary has at most `vocab_size` entries, special tokens and the 256
    bytes among them; fewer when the texts run out of pairs to merge. Raises InputError for a vocabulary
    too small for the bytes, or no text.
    """
    least = len(SPECIAL) + 256
    if vocab_size < least:
        raise InputError(
            f"a vocabulary of {vocab_size} is too small", field="vocab_size", fix=f"give {least} or more"
        )
    core = Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=list(SPECIAL),
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    core.train_from_iterator(_some_text(texts), trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=core,
        pad_token=PAD,
        bos_token=BOS,
        eos_token=EOS,
        additional_special_tokens=list(ROLES),
        chat_template=CHAT_TEMPLATE,
        model_max_length=context,
        padding_side="left",
        clean_up_tokenization_spaces=False,
    )


def _some_text(texts: Iterable[str]) -> Iterator[str]:
    empty = True
    for text in texts:
        empty &= not text.strip()
        yield text
    if empty:
        raise InputError("there is no text to train a tokenizer on", fix="give pre-training text")
