"""A pre-trained encoder as grader: one output per proposition, all of them in one pass.

The cheap grader for reinforcement learning: every proposition is a logistic regression on features of
the encoded response (`evals.graders.encoder_features`). The encoder itself stays as it is, since a few
hundred labelled responses are too few to train it. `trainers.supervised.encoder_grader` fits the regressions, to
labels or to another grader's grades.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file
from transformers import AutoConfig, AutoModel, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

from evals.graders import GraderSpec
from evals.graders.encoder_features import READING, EncoderFeatures, WordViews, stack_blocks, token_states
from evals.graders.recorded import OTHER_QUESTION
from evals.models.folder import check_folder
from evals.models.load import check_loaded
from evals.rules.propositions import Proposition
from evals.rules.rulebook import Rulebook
from evals.values.conversation import Response
from evals.values.errors import InputError
from evals.values.grades import Grades, Unscored
from evals.values.json_text import read_json_object

HEAD, SETTINGS = "grader_head.safetensors", "grader_head.json"
UNUSED = "pooler."  # of an encoder: a head that no feature is read from
UNLEARNED = "the encoder was fitted to no label of this proposition"


@dataclass(frozen=True)
class EncoderHead:
    """Logistic regressions; see `arrays` for their shapes. `questions` are the digests of those it answers."""

    propositions: tuple[str, ...]
    words: WordViews
    # weight [features, propositions], bias [propositions], mean and deviation [states]; the bias of a
    # proposition without any label is NaN: what was never learned is unscored
    arrays: dict[str, np.ndarray]
    questions: Mapping[str, str] = field(default_factory=dict)


class EncoderGrader:
    """Grades with a fitted head. Raises InputError for a proposition that it was not fitted to.

    It reads labels, never the question: one that was edited since the fit is unscored where the head
    knows what it answers (`answering`).
    """

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        features: EncoderFeatures,
        head: EncoderHead,
        name: str = "encoder",
        batch_tokens: int = 4096,
    ) -> None:
        self.name = name
        self.model, self.tokenizer, self.features, self.head = model.eval(), tokenizer, features, head
        self._batch_tokens = batch_tokens

    @property
    def identity(self) -> str:
        """A digest of encoder, head and settings: what the grades depend on besides their inputs."""
        digest = hashlib.sha256(repr((READING, asdict(self.features), self.head.propositions)).encode())
        digest.update(repr(self.head.words.vocabularies()).encode())
        digest.update(repr(sorted(self.tokenizer.get_vocab().items())).encode())
        # A loaded head's arrays hold the word weights already, a fitted one's do not.
        for _, value in sorted((self.head.arrays | self.head.words.weights()).items()):
            digest.update(np.ascontiguousarray(value).tobytes())
        for _, tensor in sorted(self.model.state_dict().items()):
            digest.update(tensor.detach().cpu().contiguous().view(torch.uint8).numpy().tobytes())
        return f"encoder:{digest.hexdigest()[:16]}"

    def grade(self, responses: Sequence[Response], propositions: Sequence[Proposition]) -> Grades:
        """Grades [responses, propositions]. A long response's end reaches the head through its words only."""
        columns = [self._column(p.name) for p in propositions]
        names = [p.name for p in propositions]
        if not responses:
            return Grades.of(names, [])
        states = token_states(self.model, self.tokenizer, self.features, responses, self._batch_tokens)
        probability = self.probabilities(states, responses)[:, columns]
        silent = [self._silent(p) for p in propositions]
        rows = [
            [Unscored(why) if why else _grade(p) for p, why in zip(row, silent, strict=True)]
            for row in probability
        ]
        return Grades.of(names, rows)

    def answering(self, propositions: Sequence[Proposition]) -> EncoderGrader:
        """The same grader, its labels being answers to these questions as they are worded."""
        questions = {p.name: p.question_digest for p in propositions}
        head = replace(self.head, questions=questions)
        return EncoderGrader(self.model, self.tokenizer, self.features, head, self.name, self._batch_tokens)

    def _silent(self, proposition: Proposition) -> str:
        """Why no response gets a grade of this proposition; "" where it does."""
        answered = self.head.questions.get(proposition.name)
        if answered not in (None, proposition.question_digest):
            return OTHER_QUESTION
        learned = np.isfinite(self.head.arrays["bias"][self._column(proposition.name)])
        return "" if learned else UNLEARNED

    def probabilities(self, states: np.ndarray, responses: Sequence[Response]) -> np.ndarray:
        """P(true) [responses, all propositions of the head] from pooled states [responses, states]."""
        scaled = (
            (states - self.head.arrays["mean"]) / self.head.arrays["deviation"] / np.sqrt(states.shape[1])
        )
        words = self.head.words.transform([r.text for r in responses], self.features)
        inputs = stack_blocks(self.features, scaled, words, responses)
        logits = inputs @ self.head.arrays["weight"] + self.head.arrays["bias"]
        return 1 / (1 + np.exp(-np.clip(logits, -700, 700)))

    def _column(self, name: str) -> int:
        if name not in self.head.propositions:
            raise InputError(
                f"the encoder grader has no output for proposition {name!r}",
                field="grader",
                fix="fit it to labels that have this proposition",
            )
        return self.head.propositions.index(name)

    def save(self, folder: Path | str) -> None:
        """Write a folder: the encoder in Hugging Face format, and the head beside it (safetensors, JSON)."""
        self.model.save_pretrained(str(folder), safe_serialization=True)
        self.tokenizer.save_pretrained(str(folder))
        arrays = {
            k: np.ascontiguousarray(v) for k, v in (self.head.arrays | self.head.words.weights()).items()
        }
        save_file(arrays, str(Path(folder) / HEAD))
        settings = {
            "features": asdict(self.features),
            "propositions": self.head.propositions,
            "vocabularies": self.head.words.vocabularies(),
            "questions": dict(self.head.questions),
        }
        (Path(folder) / SETTINGS).write_text(json.dumps(settings, ensure_ascii=False), encoding="utf-8")

    @classmethod
    def load(cls, folder: Path | str, name: str = "encoder") -> EncoderGrader:
        """Raises InputError for a folder without encoder or head."""
        path = Path(folder)
        try:
            settings = read_json_object(path / SETTINGS)
            arrays = load_file(str(path / HEAD))
            features = EncoderFeatures(
                **settings["features"] | {"layers": tuple(settings["features"]["layers"])}
            )
            words = WordViews.of(settings["vocabularies"], arrays)
            questions = dict(settings.get("questions", {}))
            head = EncoderHead(tuple(settings["propositions"]), words, arrays, questions)
        except (OSError, ValueError, KeyError, TypeError, SafetensorError) as error:
            raise InputError(
                f"no fitted encoder grader ({type(error).__name__}: {SETTINGS}, {HEAD})",
                path=path,
                fix="name a folder that EncoderGrader.save wrote",
            ) from None
        return cls(load_encoder(path), load_encoder_tokenizer(path), features, head, name)


def load_encoder(path: Path | str, layers: int | None = None) -> PreTrainedModel:
    """A Hugging Face encoder from safetensors, in evaluation mode, cut after `layers` layers if given."""
    options: dict[str, Any] = {} if layers is None else {"num_hidden_layers": layers}
    options |= {"use_safetensors": True, "dtype": torch.float32, "output_loading_info": True}
    model, told = _load(AutoModel, path, **options)
    # What is left over may be a head of the training before, or layers that are cut off.
    missing = [name for name in told["missing_keys"] if not name.startswith(UNUSED)]
    check_loaded(model, {"missing_keys": missing}, path)
    encoder: PreTrainedModel = model.eval()
    return encoder


def load_encoder_tokenizer(path: Path | str) -> PreTrainedTokenizerBase:
    return _load(AutoTokenizer, path)


def encoder_depth(path: Path | str) -> int:
    """Number of layers."""
    return int(_load(AutoConfig, path).num_hidden_layers)


def _load(kind: Any, path: Path | str, **options: Any) -> Any:
    try:
        check_folder(path)
        return kind.from_pretrained(str(path), trust_remote_code=False, **options)
    except InputError as error:
        problem = f"no encoder could be loaded ({error.problem})"
        raise InputError(problem, path=error.path, field=error.field, fix=error.fix) from None
    except Exception as error:  # the folder is a stranger's, and the libraries raise of all kinds
        raise InputError(
            f"no encoder could be loaded ({type(error).__name__})",
            path=path,
            fix="name a Hugging Face folder or hub id with a tokenizer and safetensors weights",
        ) from None


def _grade(probability: float) -> float | Unscored:
    return float(probability) if np.isfinite(probability) else Unscored("the encoder's answer is not finite")


def build(spec: GraderSpec, rulebook: Rulebook | None) -> EncoderGrader:
    """The fitted encoder in the folder `spec.path`. Raises InputError for what does not load."""
    return EncoderGrader.load(spec.path, spec.name or spec.kind)
