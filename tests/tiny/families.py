"""Eight families of language models at width 32: architecture, special tokens and chat template; random weights.

The templates are the published ones less their tools: to the letter those of Llama 3, Gemma 2, Phi-3-mini and SmolLM2,
by what they write those of Mistral 7B Instruct v0.3, Qwen2.5 and Qwen3.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import transformers as hf
from tiny_models import random_model
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors


@dataclass(frozen=True)
class Family:
    """`template` as published, less tools, with `keys` of it; `marks` are added tokens by their ids, after the bytes.

    `end` ends a turn, `stops` stand in the model's generation settings. With `adds_bos` the tokenizer writes `bos`
    before a text that it reads by itself. `spare` rows of the embedding have no token.
    """

    kind: type[hf.PreTrainedModel]
    template: str | None
    marks: tuple[str, ...]
    eos: str
    end: str
    bos: str | None = None
    pad: str | None = None
    adds_bos: bool = False
    stops: tuple[str, ...] = ()
    spare: int = 0
    settings: Mapping[str, Any] = field(default_factory=dict)
    keys: Mapping[str, Any] = field(default_factory=dict)


IM = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
LLAMA_3 = (
    "{% set loop_messages = messages %}{% for message in loop_messages %}{% set content = '<|start_header_id|>' + "
    "message['role'] + '<|end_header_id|>\n\n'+ message['content'] | trim + '<|eot_id|>' %}"
    "{% if loop.index0 == 0 %}{% set content = bos_token + content %}{% endif %}{{ content }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{% endif %}"
)
QWEN_2_5 = (
    "{%- if messages[0]['role'] == 'system' %}{{- '<|im_start|>system\n' + messages[0]['content'] + '<|im_end|>\n' }}"
    "{%- else %}{{- '<|im_start|>system\nYou are Qwen, created by Alibaba Cloud. You are a helpful assistant."
    "<|im_end|>\n' }}{%- endif %}{%- for message in messages %}{%- if (message.role == 'user') or (message.role == "
    "'system' and not loop.first) or (message.role == 'assistant' and not message.tool_calls) %}"
    "{{- '<|im_start|>' + message.role + '\n' + message.content + '<|im_end|>' + '\n' }}{%- endif %}{%- endfor %}"
    "{%- if add_generation_prompt %}{{- '<|im_start|>assistant\n' }}{%- endif %}"
)
QWEN_3 = (
    "{%- if messages[0].role == 'system' %}{{- '<|im_start|>system\n' + messages[0].content + '<|im_end|>\n' }}"
    "{%- endif %}{%- set ns = namespace(last_query_index=messages|length - 1) %}{%- for message in messages[::-1] %}"
    "{%- set index = (messages|length - 1) - loop.index0 %}{%- if message.role == 'user' and not ns.found %}"
    "{%- set ns.last_query_index = index %}{%- set ns.found = true %}{%- endif %}{%- endfor %}"
    "{%- for message in messages %}{%- if (message.role == 'user') or (message.role == 'system' and not loop.first) %}"
    "{{- '<|im_start|>' + message.role + '\n' + message.content + '<|im_end|>' + '\n' }}"
    "{%- elif message.role == 'assistant' %}{%- set content = message.content %}{%- set reasoning_content = '' %}"
    "{%- if '</think>' in message.content %}{%- set content = message.content.split('</think>')[-1].lstrip('\n') %}"
    "{%- set reasoning_content = message.content.split('</think>')[0].rstrip('\n').split('<think>')[-1].lstrip('\n') "
    "%}{%- endif %}{%- if loop.index0 > ns.last_query_index and (loop.last or reasoning_content) %}"
    "{{- '<|im_start|>' + message.role + '\n<think>\n' + reasoning_content.strip('\n') + '\n</think>\n\n' + "
    "content.lstrip('\n') }}{%- else %}{{- '<|im_start|>' + message.role + '\n' + content }}{%- endif %}"
    "{{- '<|im_end|>\n' }}{%- endif %}{%- endfor %}{%- if add_generation_prompt %}{{- '<|im_start|>assistant\n' }}"
    "{%- if enable_thinking is defined and enable_thinking is false %}{{- '<think>\n\n</think>\n\n' }}{%- endif %}"
    "{%- endif %}"
)
GEMMA_2 = (
    "{{ bos_token }}{% if messages[0]['role'] == 'system' %}{{ raise_exception('System role not supported') }}"
    "{% endif %}{% for message in messages %}{% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('Conversation roles must alternate user/assistant/user/assistant/...') }}{% endif %}"
    "{% if (message['role'] == 'assistant') %}{% set role = 'model' %}{% else %}{% set role = message['role'] %}"
    "{% endif %}{{ '<start_of_turn>' + role + '\n' + message['content'] | trim + '<end_of_turn>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{'<start_of_turn>model\n'}}{% endif %}"
)
MISTRAL = (
    "{%- if messages[0]['role'] == 'system' %}{%- set system_message = messages[0]['content'] %}"
    "{%- set loop_messages = messages[1:] %}{%- else %}{%- set loop_messages = messages %}{%- endif %}"
    "{{- bos_token }}{%- for message in loop_messages %}{%- if (message['role'] == 'user') != (loop.index0 % 2 == 0) "
    "%}{{- raise_exception('After the optional system message, conversation roles must alternate "
    "user/assistant/user/assistant/...') }}{%- endif %}{%- if message['role'] == 'user' %}{%- if loop.last and "
    "system_message is defined %}{{- '[INST] ' + system_message + '\n\n' + message['content'] + '[/INST]' }}"
    "{%- else %}{{- '[INST] ' + message['content'] + '[/INST]' }}{%- endif %}"
    "{%- elif message['role'] == 'assistant' %}{{- ' ' + message['content']|trim + eos_token}}"
    "{%- else %}{{- raise_exception('Only user and assistant roles are supported, with the exception of an initial "
    "optional system message!') }}{%- endif %}{%- endfor %}"
)
PHI_3 = (
    "{% for message in messages %}{% if message['role'] == 'system' %}"
    "{{'<|system|>\n' + message['content'] + '<|end|>\n'}}{% elif message['role'] == 'user' %}"
    "{{'<|user|>\n' + message['content'] + '<|end|>\n'}}{% elif message['role'] == 'assistant' %}"
    "{{'<|assistant|>\n' + message['content'] + '<|end|>\n'}}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>\n' }}{% else %}{{ eos_token }}{% endif %}"
)
SMOLLM_2 = (
    "{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}{{ '<|im_start|>system\n"
    "You are a helpful AI assistant named SmolLM, trained by Hugging Face<|im_end|>\n' }}{% endif %}"
    "{{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n'}}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
GROUPED = {"num_key_value_heads": 1}
TIED = {"tie_word_embeddings": True}
WINDOW = {"sliding_window": 24}  # shorter than most prompts of the test

FAMILIES: dict[str, Family] = {
    "Llama 3": Family(
        hf.LlamaForCausalLM,
        LLAMA_3,
        ("<|begin_of_text|>", "<|end_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"),
        eos="<|eot_id|>",
        end="<|eot_id|>",
        bos="<|begin_of_text|>",
        adds_bos=True,
        stops=("<|end_of_text|>", "<|eot_id|>"),
        settings=GROUPED,
    ),
    "Qwen2.5": Family(
        hf.Qwen2ForCausalLM,
        QWEN_2_5,
        IM,
        eos="<|im_end|>",
        end="<|im_end|>",
        pad="<|endoftext|>",
        stops=("<|im_end|>", "<|endoftext|>"),
        spare=5,
        settings=GROUPED | TIED,
    ),
    "Qwen3": Family(
        hf.Qwen3ForCausalLM,
        QWEN_3,
        (*IM, "<think>", "</think>"),
        eos="<|im_end|>",
        end="<|im_end|>",
        pad="<|endoftext|>",
        stops=("<|im_end|>", "<|endoftext|>"),
        spare=5,
        settings=GROUPED | TIED | {"head_dim": 16},
        keys={"enable_thinking": False},
    ),
    "Gemma 2": Family(
        hf.Gemma2ForCausalLM,
        GEMMA_2,
        ("<pad>", "<eos>", "<bos>", "<start_of_turn>", "<end_of_turn>"),
        eos="<eos>",
        end="<end_of_turn>",
        bos="<bos>",
        pad="<pad>",
        adds_bos=True,
        stops=("<eos>", "<end_of_turn>"),
        settings=GROUPED | TIED | WINDOW | {"head_dim": 16},
    ),
    "Mistral": Family(
        hf.MistralForCausalLM,
        MISTRAL,
        ("<s>", "</s>", "[INST]", "[/INST]"),
        eos="</s>",
        end="</s>",
        bos="<s>",
        adds_bos=True,
        stops=("</s>",),
        settings=GROUPED | WINDOW,
    ),
    "Phi-3": Family(
        hf.Phi3ForCausalLM,
        PHI_3,
        ("<s>", "<|endoftext|>", "<|assistant|>", "<|system|>", "<|end|>", "<|user|>", "<|placeholder1|>"),
        eos="<|endoftext|>",
        end="<|end|>",
        bos="<s>",
        pad="<|endoftext|>",
        stops=("<|endoftext|>", "<|assistant|>", "<|end|>"),
        spare=3,
        settings=WINDOW,
    ),
    "SmolLM2": Family(
        hf.LlamaForCausalLM,
        SMOLLM_2,
        (*IM, "<repo_name>"),
        eos="<|im_end|>",
        end="<|im_end|>",
        bos="<|im_start|>",
        pad="<|im_end|>",
        stops=("<|im_end|>",),
        settings=GROUPED | TIED,
    ),
    "GPT-2": Family(
        hf.GPT2LMHeadModel,
        None,
        ("<|endoftext|>",),
        eos="<|endoftext|>",
        end="<|endoftext|>",
        bos="<|endoftext|>",
        settings=TIED,
    ),
}


def tokenizer_of(family: Family) -> hf.PreTrainedTokenizerFast:
    """Bytes and the family's marks."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    core = Tokenizer(models.BPE({letter: i for i, letter in enumerate(alphabet)}, []))
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    names = {"bos_token": family.bos, "eos_token": family.eos, "pad_token": family.pad}
    made = hf.PreTrainedTokenizerFast(tokenizer_object=core)
    made.add_special_tokens({"additional_special_tokens": list(family.marks)})
    for name, token in names.items():
        setattr(made, name, token)
    if family.adds_bos:
        bos = (family.bos, made.bos_token_id)
        core = made.backend_tokenizer
        core.post_processor = processors.TemplateProcessing(f"{family.bos} $A", special_tokens=[bos])
    made.chat_template = family.template
    return made


def save_family(family: Family, folder: Path) -> Path:
    """A folder as the hub has it: weights, the model's own generation settings, tokenizer."""
    tokenizer = tokenizer_of(family)
    names = {"pad_token_id", "bos_token_id", "eos_token_id"}
    special = {name: getattr(tokenizer, name) for name in names}
    settings = special | {"max_position_embeddings": 320} | family.settings
    model = random_model(family.kind, len(tokenizer) + family.spare, **settings)
    if family.stops:
        model.generation_config.eos_token_id = [tokenizer.convert_tokens_to_ids(t) for t in family.stops]
        model.generation_config.do_sample, model.generation_config.temperature = True, 0.7
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder
