"""Write a Llama model with the sandbox's word-level tokenizer as GGUF, the file that llama.cpp serves."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

LAYER_NAMES = {
    "input_layernorm": "attn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "post_attention_layernorm": "ffn_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}

SPACES = b"\t\n\r"  # beside the space itself


def write_gguf(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, path: Path) -> None:
    """All weights in 32-bit floats, so that nothing but the order of sums differs."""
    writer = gguf.GGUFWriter(str(path), "llama")
    _write_shape(writer, model.config)
    _write_tokenizer(writer, tokenizer)
    for name, tensor in model.state_dict().items():
        if name != "lm_head.weight" or not model.config.tie_word_embeddings:
            writer.add_tensor(_tensor_name(name), _tensor(name, tensor.float(), model.config))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _write_shape(writer: Any, config: Any) -> None:
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_dimension_count(config.hidden_size // config.num_attention_heads)
    writer.add_rope_freq_base(config.rope_parameters["rope_theta"])
    writer.add_vocab_size(config.vocab_size)
    writer.add_file_type(gguf.LlamaFileType.ALL_F32)


def _write_tokenizer(writer: Any, tokenizer: PreTrainedTokenizerBase) -> None:
    """As a unigram vocabulary of whole words: each is one piece, and no other piece can make it up."""
    special = set(tokenizer.all_special_ids)
    words = sorted(tokenizer.get_vocab().items(), key=lambda item: item[1])
    kinds = {True: gguf.TokenType.CONTROL, False: gguf.TokenType.NORMAL}
    types = [kinds[index in special] for _, index in words]
    types[tokenizer.unk_token_id] = gguf.TokenType.UNKNOWN
    writer.add_tokenizer_model("t5")
    writer.add_token_list([word if index in special else f"▁{word}" for word, index in words])
    writer.add_token_scores([-1.0] * len(words))
    writer.add_token_types(types)
    writer.add_precompiled_charsmap(spaces_map())
    writer.add_add_space_prefix(True)
    writer.add_remove_extra_whitespaces(True)
    writer.add_add_bos_token(False)
    writer.add_add_eos_token(False)
    writer.add_bos_token_id(tokenizer.bos_token_id)
    writer.add_eos_token_id(tokenizer.eos_token_id)
    writer.add_unk_token_id(tokenizer.unk_token_id)
    writer.add_pad_token_id(tokenizer.pad_token_id)
    writer.add_chat_template(tokenizer.chat_template)


def spaces_map() -> bytes:
    """A normalizer of SentencePiece that makes each of SPACES a space, as the tokenizer's own splitting does.

    Without it llama.cpp splits at spaces alone, and a new line is a letter that no word has. It is a size, so many
    bytes of a double array of 32-bit units (Darts), and the replacements, of which there is one, at 0. The root's
    children stand at their own byte: a unit with it as label, marked as a leaf, and the offset to their values.
    """
    leaf, values = 1 << 8, 256
    units = [0] * (values + 256)
    for space in SPACES:
        units[space] = space | leaf | values << 10
    return struct.pack("<I", 4 * len(units)) + struct.pack(f"<{len(units)}I", *units) + b" \0"


def _tensor_name(name: str) -> str:
    whole = {"model.embed_tokens": "token_embd", "model.norm": "output_norm", "lm_head": "output"}
    stem = name.removesuffix(".weight")
    if stem in whole:
        return f"{whole[stem]}.weight"
    _, _, layer, part = stem.split(".", 3)
    return f"blk.{layer}.{LAYER_NAMES[part]}.weight"


def _tensor(name: str, tensor: torch.Tensor, config: Any) -> np.ndarray:
    """llama.cpp rotates neighbouring pairs of a head's columns, transformers its two halves."""
    heads = {"q_proj": config.num_attention_heads, "k_proj": config.num_key_value_heads}
    for part, count in heads.items():
        if part in name:
            rows, columns = tensor.shape
            tensor = tensor.view(count, 2, rows // count // 2, columns).transpose(1, 2).reshape(rows, columns)
    return tensor.contiguous().numpy()
