"""The sandbox's word-level tokenizer: one token a word, PAD, BOS and EOS of their own, a chat template."""

from __future__ import annotations

from collections.abc import Iterable

from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import WhitespaceSplit
from transformers import PreTrainedTokenizerFast

SPECIAL = ("<pad>", "<bos>", "<eos>", "<unk>", "<user>", "<assistant>")
CHAT_TEMPLATE = (
    "{{ '<bos> ' }}{% for m in messages %}"
    "{% if m['role'] == 'assistant' %}{{ '<assistant> ' + m['content'] + ' <eos>' }}"
    "{% else %}{{ '<user> ' + m['content'] + ' ' }}{% endif %}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<assistant>' }}{% endif %}"
)


def word_tokenizer(texts: Iterable[str], max_length: int) -> PreTrainedTokenizerFast:
    """A tokenizer that knows every word of `texts`, in alphabetical order."""
    words = sorted({word for text in texts for word in text.split()} - set(SPECIAL))
    vocabulary = {word: index for index, word in enumerate((*SPECIAL, *words))}
    core = Tokenizer(WordLevel(vocabulary, unk_token="<unk>"))
    core.pre_tokenizer = WhitespaceSplit()
    return PreTrainedTokenizerFast(
        tokenizer_object=core,
        pad_token="<pad>",
        bos_token="<bos>",
        eos_token="<eos>",
        unk_token="<unk>",
        additional_special_tokens=["<user>", "<assistant>"],
        chat_template=CHAT_TEMPLATE,
        model_max_length=max_length,
        clean_up_tokenization_spaces=False,
    )
