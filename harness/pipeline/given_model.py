"""The model that `model.path` names, looked at before the first stage: what a run needs of it, beyond its loading."""

from __future__ import annotations

from pathlib import Path

from jinja2 import TemplateError
from transformers import AutoConfig, AutoModelForSequenceClassification, PreTrainedTokenizerBase

from evals.models.load import prompt_token_ids
from evals.values.conversation import Message
from evals.values.errors import InputError
from harness.keys.run import RunConfig
from harness.runtime.console import Console
from trainers.models.sizes import given_tokenizer

PLAIN = "model.path has no chat template: turns are written as plain User: and Assistant: lines"


def check_given_model(config: RunConfig, console: Console) -> None:
    """Raises InputError where the model at `model.path` cannot be trained, or be a reward model.

    Says that turns are written plainly where the model has no chat template. A hub's name is looked at when it
    is fetched.
    """
    path = config.model.path
    if path is None or not Path(path).expanduser().is_dir():
        return
    tokenizer = given_tokenizer(config.model)
    _check_template(tokenizer, path)
    try:
        kind = type(AutoConfig.from_pretrained(path, trust_remote_code=False))
    except Exception as error:  # the folder is a stranger's, and the libraries raise of all kinds
        reason = " ".join(str(error).split())[:200]
        raise InputError(
            f"is no configuration ({reason})",
            path=path,
            field="model.path",
            fix="restore the model's config.json",
        ) from None
    if kind not in AutoModelForSequenceClassification._model_mapping:
        raise InputError(
            f"a {kind.model_type} has no form with one output, which reward model and critic need",
            path=path,
            field="model.path",
            fix="take another kind of model",
        )
    if not tokenizer.chat_template:
        console.say(PLAIN)


def _check_template(tokenizer: PreTrainedTokenizerBase, path: str) -> None:
    """A template is a program of the model's author, and may raise anything."""
    try:
        prompt_token_ids(tokenizer, [Message("user", "?")])
    except Exception as error:
        reason = str(error) if isinstance(error, TemplateError) else type(error).__name__
        raise InputError(
            f"its chat template cannot write a question ({' '.join(reason.split())[:200]})",
            path=path,
            field="chat_template",
            fix="mend it, or take the template out: turns are then plain lines",
        ) from None
