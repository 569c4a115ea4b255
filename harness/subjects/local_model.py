"""A model in Hugging Face format, from a folder or the hub."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from evals.models.folder import check_folder
from evals.models.thoughts import names_thoughts
from evals.suites import Suite
from evals.values.conversation import Prompt
from evals.values.errors import InputError
from evals.values.json_text import parse_json
from harness.keys.subject import DecodingKeys, LocalKeys
from harness.runtime.libraries import no_progress_bars, set_threads
from harness.storage.digest import MODEL_FILES, digest, digest_model
from harness.subjects.model import Keep, every_sample
from harness.subjects.outcome import Outcome

log = logging.getLogger(__name__)


class LocalModel:
    """Weights are loaded when the first response is missing; a finished evaluation loads none.

    `threads` None: torch computes by as many as the caller has set.
    """

    def __init__(
        self, name: str, keys: LocalKeys, decoding: DecodingKeys, seed: int, threads: int | None
    ) -> None:
        self.name, self._decoding, self._seed, self._threads = name, decoding, seed, threads
        self._precision, self._template_keys = keys.precision, dict(keys.chat_template)
        self.folder = local_folder(str(keys.path))
        check_folder(self.folder)

    @cached_property
    def identity(self) -> Mapping[str, Any]:
        """The files' contents: the same model in another folder is the same model."""
        keys = {"chat_template": self._template_keys} if self._template_keys else {}
        return {"files": digest_model(self.folder), "precision": self._precision} | keys

    @cached_property
    def template(self) -> str:
        keys = f" with {json.dumps(self._template_keys)}" if self._template_keys else ""
        return template_of(self.folder) + keys

    @property
    def decoding(self) -> Mapping[str, Any]:
        """Of a model that thinks, as answers without their thoughts: before, the two were one response."""
        apart = {"thoughts": "apart"} if names_thoughts(template_text(self.folder)) else {}
        return apart | self._decoding.identity(self._seed)

    def expected(self, suite: Suite) -> list[tuple[Prompt, int]]:
        return every_sample(suite, self._decoding.samples)

    def respond(self, suite: Suite, missing: Sequence[tuple[Prompt, int]], keep: Keep) -> None:
        from evals.models.load import context_length, prompt_token_ids
        from evals.models.sampling import Decoding, sample_pairs

        model, tokenizer = self.loaded
        room = context_length(model) - self._decoding.max_new_tokens
        reasons: dict[str, str] = {}
        for prompt in {prompt.id: prompt for prompt, _ in missing}.values():
            try:
                length = len(prompt_token_ids(tokenizer, prompt.messages))
            except Exception as error:  # a template is a program of the model's author and may raise anything
                reasons[prompt.id] = f"the model's chat template refuses the prompt ({type(error).__name__})"
                continue
            if length > room:
                reasons[prompt.id] = f"the prompt has {length} tokens, the model's room for prompts is {room}"
        keep([Outcome(p.id, s, None, False, reasons[p.id]) for p, s in missing if p.id in reasons])
        decoding = Decoding(
            self._decoding.max_new_tokens,
            self._decoding.temperature,
            self._decoding.samples,
            self._decoding.batch_size,
            self._seed,
            self._decoding.thoughts,
        )
        asked = [(prompt, sample) for prompt, sample in missing if prompt.id not in reasons]
        sample_pairs(model, tokenizer, asked, decoding, lambda done: keep(list(map(Outcome.of, done))))

    def check_weights(self) -> None:
        """Raises InputError where the weights are not the model's; where their headers raise no doubt, none is read."""
        from evals.models.load import seems_whole

        if not seems_whole(self.folder):
            _ = self.loaded
            self.unload()

    @cached_property
    def loaded(self) -> tuple[Any, Any]:
        """(model, tokenizer); both are kept for the next suite."""
        import torch

        from evals.models.chat import set_template_keys
        from evals.models.load import load_causal_lm, load_tokenizer

        no_progress_bars()
        if self._threads is not None:
            set_threads(self._threads)
        dtype = {"float32": torch.float32, "bfloat16": torch.bfloat16}[self._precision]
        tokenizer = load_tokenizer(self.folder, needs_padding=False)
        set_template_keys(tokenizer, self._template_keys, "subject.chat_template")
        return load_causal_lm(self.folder, dtype), tokenizer

    def unload(self) -> None:
        """Give the memory back before the next model is loaded."""
        self.__dict__.pop("loaded", None)


def local_folder(path: str) -> Path:
    """The folder itself, or that of a hub name: fetched whole, without pickles, where the hub is reached.

    Raises InputError for a name that is neither.
    """
    folder = Path(path).expanduser()
    if folder.is_dir():
        return folder
    check_place(path, "subject.path")
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(path, allow_patterns=list(MODEL_FILES)))
    except Exception as error:  # the hub's many errors, a refused name and no network among them
        raise InputError(
            f"neither a folder nor a model that the hub gives ({type(error).__name__})",
            path=path,
            field="subject.path",
            fix="check the name; offline, give a folder or a model that was fetched before",
        ) from None


def check_place(path: str, field: str) -> None:
    """Raises InputError for what is written as a folder and is none; a hub name is left alone."""
    folder = Path(path).expanduser()
    written = folder.is_absolute() or path.startswith((".", "~")) or path.count("/") > 1
    if written and not folder.is_dir():
        raise InputError("no such folder", path=path, field=field, fix="name a folder or a hub name")


def template_of(folder: Path) -> str:
    """A digest of a model's chat template."""
    found = template_text(folder)
    return f"chat template {digest(found)}" if found else "plain User: and Assistant: lines"


def template_text(folder: Path) -> str:
    """A model's chat template, read from its files so that no library has to be loaded; "" without one."""
    for name in ("chat_template.jinja", "tokenizer_config.json"):
        file = folder / name
        found = file.read_text(encoding="utf-8") if file.is_file() else ""
        if name.endswith(".json"):
            found = _template_in(file, found)
        if found:
            return found
    return ""


def _template_in(file: Path, text: str) -> str:
    try:
        template = parse_json(text or "{}").get("chat_template")
    except (ValueError, AttributeError):
        raise InputError("is not a JSON object", path=file, fix="restore the tokenizer's files") from None
    return "" if template is None else str(template)
