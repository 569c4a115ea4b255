"""Chat completions, in whose words all questions are asked and all answers read.

https://platform.openai.com/docs/api-reference/chat, with the fields of vLLM and llama.cpp that OpenAI's has not.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from evals.models.apis import LIMIT, ChatApi, Turns

TAKES = (
    *("temperature", "seed", "top_p", "top_k", "min_p", "logprobs", "top_logprobs"),
    *("prompt_logprobs", "return_token_ids", "add_generation_prompt", "continue_final_message"),
)


def question(messages: Turns, options: Mapping[str, Any]) -> dict[str, Any]:
    return {"messages": [dict(message) for message in messages], **options}


def as_it_is(answer: Mapping[str, Any]) -> Mapping[str, Any]:
    return answer


# Models that reason take the second name alone.
API = ChatApi("chat/completions", (LIMIT, "max_completion_tokens"), frozenset(TAKES), question, as_it_is)
