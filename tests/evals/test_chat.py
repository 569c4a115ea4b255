"""evals/models/chat.py: training, sampling and scoring read a response by the same tokens, in any template."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import pytest
from jinja2 import TemplateError
from tiny_models import random_model
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import LlamaForCausalLM, LlamaForSequenceClassification, PreTrainedTokenizerFast

from evals.models.chat import ResponseEncoder, chat_text, set_template_keys, turn_end_id
from evals.models.load import prompt_token_ids
from evals.models.sampling import stop_token_ids
from evals.values.conversation import Comparison, Demonstration, Message, Prompt, Response
from evals.values.errors import InputError
from trainers.reward.reward_model_term import RewardModelTerm
from trainers.supervised.reward_model import comparison_rows, train_reward_model
from trainers.supervised.reward_model_config import RewardModelConfig
from trainers.supervised.sft import demonstration_rows, sft
from trainers.supervised.sft_config import SFTConfig


@dataclass(frozen=True)
class Family:
    """A chat template in the form of a published family; `end` is what ends a turn in it."""

    template: str
    eos: str
    end: str
    special: tuple[str, ...] = ()


def by_role(user: str, assistant: str, generation: str, begin: str = "") -> str:
    return (
        f"{begin}{{% for m in messages %}}{{% if m['role'] == 'assistant' %}}{assistant}"
        f"{{% else %}}{user}{{% endif %}}{{% endfor %}}"
        f"{{% if add_generation_prompt %}}{generation}{{% endif %}}"
    )


C = "{{ m['content'] }}"
CHATML = by_role(
    f"<|im_start|>{{{{ m['role'] }}}}\n{C}<|im_end|>\n",
    f"<|im_start|>assistant\n{C}<|im_end|>\n",
    "<|im_start|>assistant\n",
)
LLAMA_3 = by_role(
    f"<|start_header_id|>user<|end_header_id|>\n\n{C}<|eot_id|>",
    "<|start_header_id|>assistant<|end_header_id|>\n\n{{ m['content'] | trim }}<|eot_id|>",
    "<|start_header_id|>assistant<|end_header_id|>\n\n",
    "<|begin_of_text|>",
)
IM = ("<|im_start|>", "<|im_end|>", "<|endoftext|>")
HEADERS = ("<|begin_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>", "<|end_of_text|>")
FAMILIES = {
    "ChatML, EOS ends a turn": Family(CHATML, "<|im_end|>", "<|im_end|>", IM),
    "ChatML, EOS ends a document": Family(CHATML, "<|endoftext|>", "<|im_end|>", IM),
    "ChatML with an empty thought": Family(
        by_role(
            f"<|im_start|>user\n{C}<|im_end|>\n",
            f"<|im_start|>assistant\n<think>\n\n</think>\n\n{C}<|im_end|>\n",
            "<|im_start|>assistant\n",
        ),
        "<|im_end|>",
        "<|im_end|>",
        (*IM, "<think>", "</think>"),
    ),
    "ChatML with a system turn of its own": Family(
        "<|im_start|>system\nYou help.<|im_end|>\n" + CHATML, "<|im_end|>", "<|im_end|>", IM
    ),
    "headers": Family(LLAMA_3, "<|eot_id|>", "<|eot_id|>", HEADERS),
    "headers, EOS ends a document": Family(LLAMA_3, "<|end_of_text|>", "<|eot_id|>", HEADERS),
    "INST": Family(by_role(f"<s>[INST] {C} [/INST]", f" {C} </s>", ""), "</s>", "</s>", ("<s>", "</s>")),
    "INST tokens": Family(
        by_role(f"[INST]{C}[/INST]", f"{C}</s>", "", "<s>"), "</s>", "</s>", ("<s>", "[INST]", "[/INST]")
    ),
    "turns of a model": Family(
        by_role(
            f"<start_of_turn>user\n{C}<end_of_turn>\n",
            f"<start_of_turn>model\n{C}<end_of_turn>\n",
            "<start_of_turn>model\n",
            "<bos>",
        ),
        "<eos>",
        "<end_of_turn>",
        ("<bos>", "<start_of_turn>", "<end_of_turn>"),
    ),
    "roles as tokens": Family(
        by_role(f"<|user|>\n{C}<|end|>\n", f"<|assistant|>\n{C}<|end|>\n", "<|assistant|>\n"),
        "<|endoftext|>",
        "<|end|>",
        ("<|user|>", "<|assistant|>", "<|end|>"),
    ),
    "roles as text, EOS after each turn": Family(
        by_role(f"<|user|>\n{C}</s>\n", f"<|assistant|>\n{C}</s>\n", "<|assistant|>\n"), "</s>", "</s>"
    ),
    "USER and ASSISTANT": Family(by_role(f"USER: {C} ", f"ASSISTANT: {C}</s>", "ASSISTANT:"), "</s>", "</s>"),
    "Instruction and Response": Family(
        by_role(f"### Instruction:\n{C}\n\n", f"### Response:\n{C}\n\n", "### Response:\n"), "</s>", "</s>"
    ),
    "end of a sentence": Family(
        by_role(f"User: {C}\n\n", f"Assistant: {C}<|eos|>", "Assistant:", "<|bos|>"),
        "<|eos|>",
        "<|eos|>",
        ("<|bos|>",),
    ),
    "chatbot turns": Family(
        by_role(
            f"<|TURN|><|USER|>{C}<|END_TURN|>", f"<|TURN|><|BOT|>{C}<|END_TURN|>", "<|TURN|><|BOT|>", "<BOS>"
        ),
        "<EOS>",
        "<|END_TURN|>",
        ("<BOS>", "<|TURN|>", "<|USER|>", "<|BOT|>", "<|END_TURN|>"),
    ),
    "roles between marks": Family(
        by_role(
            f"<|start_of_role|>user<|end_of_role|>{C}<|end_of_text|>\n",
            f"<|start_of_role|>assistant<|end_of_role|>{C}<|end_of_text|>\n",
            "<|start_of_role|>assistant<|end_of_role|>",
        ),
        "<|end_of_text|>",
        "<|end_of_text|>",
        ("<|start_of_role|>", "<|end_of_role|>"),
    ),
    "no template": Family("", "</s>", "</s>"),
}


def tokenizer_of(family: Family) -> PreTrainedTokenizerFast:
    """Bytes, and the family's marks as special tokens."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    core = Tokenizer(models.BPE({letter: i for i, letter in enumerate(alphabet)}, []))
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    made = PreTrainedTokenizerFast(tokenizer_object=core, eos_token=family.eos, pad_token="<pad>")
    made.add_special_tokens({"additional_special_tokens": list(family.special)})
    made.chat_template = family.template or None
    return made


SMALL = {"hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1}
PROMPT = Prompt("a", (Message("user", "How do I bake?"),))


@pytest.fixture(params=FAMILIES.values(), ids=FAMILIES.keys())
def family(request: pytest.FixtureRequest) -> Family:
    found: Family = request.param
    return found


def test_training_and_scoring_read_the_same_tokens(family: Family) -> None:
    """Trained up to `<|im_end|>\\n` and scored at another token: margins halved without a word."""
    tokenizer = tokenizer_of(family)
    model = random_model(LlamaForSequenceClassification, tokenizer, num_labels=1, **SMALL)
    expected = prompt_token_ids(tokenizer, PROMPT.messages)
    expected += tokenizer("Mix it.", add_special_tokens=False)["input_ids"]
    expected += [tokenizer.convert_tokens_to_ids(family.end)]
    (taught,) = demonstration_rows(tokenizer, [Demonstration(PROMPT, "Mix it.")])
    (compared,) = comparison_rows(tokenizer, [Comparison(PROMPT, "Mix it.", "No.")])
    (scored,) = RewardModelTerm(model, tokenizer)._token_ids([Response(PROMPT, "Mix it.")])
    assert taught["input_ids"] == compared["chosen_ids"] == scored == expected
    assert sum(taught["completion_mask"]) == len("Mix it.") + 1


def test_what_ends_a_turn_stops(family: Family) -> None:
    """ChatML with EOS `<|endoftext|>`: no response ever finished."""
    tokenizer = tokenizer_of(family)
    end = tokenizer.convert_tokens_to_ids(family.end)
    assert turn_end_id(tokenizer) == end
    stops = stop_token_ids(SimpleNamespace(generation_config=None), tokenizer)  # type: ignore[arg-type]
    assert stops == sorted({end, tokenizer.eos_token_id})


def test_turns_that_a_template_refuses_are_joined() -> None:
    """A system text, or a second message of the user, ended a run on Gemma, and on Mistral after an hour."""
    refuses = (
        "{% for m in messages %}{% if m['role'] == 'system' or (m['role'] == 'user') != (loop.index0 % 2 == 0) %}"
        "{{ raise_exception('roles must alternate') }}{% endif %}{{ m['role'] + ':' + m['content'] + ';' }}"
        "{% endfor %}"
    )
    tokenizer = tokenizer_of(Family(refuses, "</s>", "</s>"))
    system, first, second = Message("system", "s"), Message("user", "a"), Message("user", "b")
    answer = Message("assistant", "c")
    for messages, expected in (
        ([first, answer, second], "user:a;assistant:c;user:b;"),
        ([system, first], "user:s\n\na;"),
        ([system, first, second], "user:s\n\na\n\nb;"),
    ):
        assert chat_text(tokenizer, messages) == expected
    with pytest.raises(TemplateError, match="roles must alternate"):
        chat_text(tokenizer, [answer])
    tokenizer.chat_template = refuses.replace("m['role'] == 'system' or ", "loop.index0 > 1 or ")
    assert chat_text(tokenizer, [first, second]) == "user:a\n\nb;"


def test_a_template_that_knows_parts_alone_is_given_parts() -> None:
    """Llama Guard 4 judged conversations without a word in them, and found each of them safe."""
    parts = (
        "{% for m in messages %}{{ m['role'] }}: {% for p in m['content'] | selectattr('type', 'equalto', 'text') %}"
        "{{ p['text'] }}{% endfor %}; {% endfor %}"
    )
    turns = (Message("user", "Prune?"), Message("assistant", "Cut."))
    tokenizer = tokenizer_of(Family(parts, "<|im_end|>", "<|im_end|>", IM))
    assert chat_text(tokenizer, turns, generation=False) == "user: Prune?; assistant: Cut.; "
    deaf = tokenizer_of(Family("{{ messages[0]['content'] + '!' }}", "<|im_end|>", "<|im_end|>", IM))
    assert chat_text(deaf, turns, generation=False) == "Prune?!", "what drops a turn is as it was"


def test_keys_of_a_template_are_its_own(tmp_path: Path) -> None:
    """A thinking model was trained with thoughts turned off and asked with them on, by whoever loaded it next."""
    template = "\n{% if fast is defined and fast %}fast {{ name }}{% else %}slow{% endif %}"
    tokenizer = tokenizer_of(Family(template, "</s>", "</s>"))
    assert chat_text(tokenizer, PROMPT.messages) == "\nslow"
    set_template_keys(tokenizer, {"fast": True, "name": 'a "b" \\'}, "model.chat_template")
    tokenizer.save_pretrained(tmp_path)
    loaded = PreTrainedTokenizerFast.from_pretrained(tmp_path)
    assert chat_text(loaded, PROMPT.messages) == '\nfast a "b" \\'
    rows = [{"role": "user", "content": "?"}]
    assert loaded.apply_chat_template(rows, tokenize=False, fast=False) == "\nslow"
    nested = tokenizer_of(Family("{{ what.of.name }} {{ what['it is'] }}", "</s>", "</s>"))
    set_template_keys(nested, {"what": {"of": {"name": "}}%}"}, "it is": 1}}, "model.chat_template")
    assert chat_text(nested, PROMPT.messages) == "}}%} 1"
    for keys, problem in (
        ({"fsat": True}, "has no 'fsat'"),
        ({"fast": [1]}, r"a value \[1\]"),
        ({"fast": {"of": [1]}}, r"a value \[1\]"),
        ({"if x": 1}, "has no 'if x'"),
    ):
        with pytest.raises(InputError, match=rf"field 'model.chat_template'.*{problem}"):
            set_template_keys(loaded, keys, "model.chat_template")
    with pytest.raises(InputError, match="no chat template"):
        set_template_keys(tokenizer_of(FAMILIES["no template"]), {"fast": True}, "model.chat_template")


def test_a_cut_response_has_no_end() -> None:
    """A response that reached the limit was scored as if it had ended there."""
    encode = ResponseEncoder(tokenizer_of(FAMILIES["headers"]))
    whole, cut = encode(["yes", "yes"], [True, False])
    assert whole == [*cut, encode.end]


def test_a_response_can_not_write_the_end_of_its_turn() -> None:
    """A response that spells the mark ended its turn early and went on as somebody else."""
    encode = ResponseEncoder(tokenizer_of(FAMILIES["headers"]))
    (ids,) = encode(["yes<|eot_id|>no"])
    assert ids.count(encode.end) == 1 and ids[-1] == encode.end


def test_comparisons_that_are_too_long_are_counted(tmp_path) -> None:
    """55 of 200 comparisons were trained on, and the stage said 200."""
    tokenizer = tokenizer_of(FAMILIES["headers"])
    rows = [Comparison(PROMPT, "Mix it." * n, "No.") for n in (1, 1, 40)]
    model = random_model(LlamaForSequenceClassification, tokenizer, num_labels=1, **SMALL)
    config = RewardModelConfig(batch_size=2, max_length=120)
    told = train_reward_model(model, tokenizer, rows, config, 0, tmp_path)
    assert (told["comparisons"], told["too_long"]) == (2, 1)
    with pytest.raises(InputError, match="all 3 comparisons are longer than 4 tokens"):
        train_reward_model(model, tokenizer, rows, RewardModelConfig(max_length=4), 0, tmp_path)


def test_demonstrations_that_are_cut_are_counted(tmp_path) -> None:
    """Demonstrations lost their end, and with it what a model learns to stop by, and nothing said so."""
    tokenizer = tokenizer_of(FAMILIES["headers"])
    rows = [Demonstration(PROMPT, "Mix it." * n) for n in (1, 40)]
    model = random_model(LlamaForCausalLM, tokenizer, **SMALL)
    told = sft(model, tokenizer, rows, SFTConfig(batch_size=2, max_length=120, epochs=1), 0, tmp_path)
    assert (told["demonstrations"], told["cut"]) == (2, 1)
    with pytest.raises(InputError, match="no response begins within 4 tokens"):
        sft(model, tokenizer, rows, SFTConfig(max_length=4), 0, tmp_path)
