"""XSTest's released models: their recorded completions with the people's labels, the judges that have verdicts on
them, and what is known of these judges.

The encoder judge judges each model by a fit to the other models' labels alone. Reads the released folder (FILES);
any model whose files have the same columns is taken in.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from evals.judges import Judge, RecordedJudge, RecordedLabel, StringMatchJudge, read_labels
from evals.judges.card import Agreement, JudgeCard, card_of, refusal_agreement
from evals.judges.labelled import REFUSED
from evals.judges.recorded import LABELS
from evals.suites import Suite
from evals.suites.xstest import XSTEST
from evals.values.errors import InputError
from harness.evaluate.judging import judgements_of
from harness.evaluate.measuring import Judged
from harness.evaluate.trust import PEOPLE
from harness.runtime.console import Console
from harness.subjects.outcome import Outcome

if TYPE_CHECKING:
    from evals.judges.refusal_encoder import EncoderJudge
    from trainers.supervised.refusal_encoder import RefusalFit

PREFIX = "xstest_v2_completions_"
FILES = ("xstest_prompts.csv", f"model_completions/{PREFIX}*.csv", f"evaluation/{PREFIX}*_gpteval.csv")
GPT4, ENCODER = "gpt4", "encoder"


@dataclass(frozen=True)
class LabelledModel:
    """One model's completions with the people's labels, and the judges that have verdicts on them, people first."""

    name: str
    suite: Suite
    labels: tuple[RecordedLabel, ...]
    judges: Mapping[str, Judge]

    def judged(self, store: Path, console: Console) -> Judged:
        """Each judge's judgements; those that `store` has are not asked for again."""
        outcomes = tuple(Outcome(x.response.prompt.id, text=x.response.text) for x in self.labels)
        judgements = {
            name: judgements_of(judge, judge.identity, self.suite, outcomes, store, console)
            for name, judge in self.judges.items()
        }
        return Judged(self.name, self.suite, outcomes, judgements)


@dataclass(frozen=True)
class Encoder:
    """The settings chosen for each model, and a judge fitted to the labels of all of them, for models outside."""

    fits: Mapping[str, RefusalFit]
    judge: EncoderJudge


def recorded_models(folder: Path) -> list[LabelledModel]:
    """Every model of the folder, by name. Raises InputError for a folder without completions, and for rows
    that do not answer the suite's prompts.
    """
    suite = XSTEST.load(folder)
    prompts = {prompt.id: prompt for prompt in suite.prompts}
    files = sorted((folder / "model_completions").glob(f"{PREFIX}*.csv"))
    if not files:
        raise InputError(
            f"no {PREFIX}*.csv here", path=folder / "model_completions", fix="give XSTest's folder"
        )
    models = []
    for file in files:
        human = read_labels(file, prompts=prompts)
        judges: list[Judge] = [RecordedJudge.of(PEOPLE, human)]
        verdicts = folder / "evaluation" / f"{file.stem}_gpteval.csv"
        if verdicts.is_file():
            judges.append(RecordedJudge.of(GPT4, read_labels(verdicts, "gpt4_label", prompts)))
        judges.append(StringMatchJudge())
        name = file.stem.removeprefix(PREFIX)
        models.append(LabelledModel(name, suite, tuple(human), {judge.name: judge for judge in judges}))
    return models


def with_encoder(
    models: Sequence[LabelledModel], path: str, advance: Callable[[int], None] | None = None
) -> tuple[list[LabelledModel], Encoder]:
    """Fit the encoder at `path` for each model to the other models' labels, settings included; the models with
    this judge beside the others.

    `advance` is told the responses encoded. Raises InputError for fewer than two models.
    """
    from trainers.supervised.refusal_encoder import RefusalTrainer, leave_one_model_out

    trainer = RefusalTrainer(path)
    encoded = {}
    for model in models:
        refused = [bool(label.refused) for label in model.labels]
        encoded[model.name] = trainer.encode([label.response.text for label in model.labels], refused)
        if advance is not None:
            advance(len(model.labels))
    left_out = leave_one_model_out(trainer, encoded)
    every = list(encoded.values())
    judge = trainer.fit(every, trainer.choose(every))
    extended = [replace(model, judges={**model.judges, ENCODER: left_out[model.name][0]}) for model in models]
    return extended, Encoder({name: fit for name, (_, fit) in left_out.items()}, judge)


def label_rows(models: Sequence[LabelledModel]) -> list[dict[str, object]]:
    """Shares of the three labels on safe and on unsafe prompts (XSTest's own table)."""
    return [
        {"model": model.name, "prompts": kind, **shares}
        for model in models
        for kind, shares in refusal_shares(model).items()
    ]


def refusal_shares(model: LabelledModel) -> dict[str, dict[str, float]]:
    """{"safe" | "unsafe": {label: share}} by the people's labels."""
    shares = {}
    for name, wanted in (("safe", False), ("unsafe", True)):
        chosen = [x for x in model.labels if _to_refuse(x) is wanted]
        shares[name] = {label: sum(x.label == label for x in chosen) / len(chosen) for label in LABELS}
    return shares


def _to_refuse(label: RecordedLabel) -> bool:
    response_type = label.response.prompt.response_type
    return response_type is not None and response_type.is_refusal


def judge_agreement(judged: Judged) -> dict[str, Agreement]:
    """Each judge but the people against the people: refusal, full or partial, against compliance."""
    human = judged.judgements[PEOPLE]
    return {
        name: refusal_agreement(human, said) for name, said in judged.judgements.items() if name != PEOPLE
    }


def agreement_rows(judged: Sequence[Judged]) -> list[dict[str, object]]:
    return [
        {
            "model": one.model,
            "judge": name,
            "n": found.n,
            "n_unscored": found.n_unscored,
            "accuracy": found.accuracy,
            "recall": found.true_positive_rate,
            "specificity": found.true_negative_rate,
            "balanced_accuracy": found.balanced_accuracy,
        }
        for one in judged
        for name, found in judge_agreement(one).items()
    ]


def cards_of(models: Sequence[LabelledModel], judged: Sequence[Judged]) -> dict[str, JudgeCard]:
    """One card a judge, over the responses of all models that it judged."""
    names = dict.fromkeys(name for model in models for name in model.judges if name != PEOPLE)
    return {name: _card(name, models, judged) for name in names}


def _card(name: str, models: Sequence[LabelledModel], judged: Sequence[Judged]) -> JudgeCard:
    theirs = [one for one in judged if name in one.judgements]
    human = [said for one in theirs for said in one.judgements[PEOPLE]]
    found = [said for one in theirs for said in one.judgements[name]]
    identity = " ".join(
        dict.fromkeys(model.judges[name].identity for model in models if name in model.judges)
    )
    return card_of(name, identity, f"xstest ({len(theirs)} models)", REFUSED, human, found)
