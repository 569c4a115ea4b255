"""Real models on XSTest, from their recorded completions: by human label, by GPT-4's recorded verdicts, by the
string matcher, and by the project's encoder judge, which judges each model from the other models' labels alone;
how far each judge agrees with the people; and every score corrected for its judge's errors.

Reads the released folder: `model_completions/xstest_v2_completions_MODEL.csv` and, where they are there,
`evaluation/..._MODEL_gpteval.csv`. Any model whose files have the same columns is taken in.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from evals.judges import Judge, RecordedJudge, RecordedLabel, StringMatchJudge, read_labels
from evals.judges.agreement import Agreement, refusal_agreement
from evals.judges.card import JudgeCard, card_of
from evals.judges.correction import corrected_rows
from evals.judges.labelled import REFUSED
from evals.judges.measures import SFT, Judgement, measure
from evals.judges.recorded import LABELS
from evals.suites.xstest import XSTEST, load
from evals.values.conversation import Response
from evals.values.errors import InputError
from evals.values.metrics_table import MetricRow

if TYPE_CHECKING:
    from evals.judges.refusal_encoder import EncoderJudge
    from trainers.supervised.refusal_encoder import RefusalFit

PREFIX = "xstest_v2_completions_"
HUMAN, GPT4 = "human", "gpt4"
RECORDED = "recorded"  # what stands in the checkpoint column


@dataclass(frozen=True)
class XSTestModel:
    """One model's completions with the people's labels, and the judges that have verdicts on them."""

    name: str
    labels: tuple[RecordedLabel, ...]
    judges: tuple[Judge, ...]
    _judged: dict[str, list[Judgement]] = field(default_factory=dict, compare=False, repr=False)

    @property
    def responses(self) -> list[Response]:
        return [label.response for label in self.labels]

    def judgements(self, judge: Judge) -> list[Judgement]:
        """The judge's judgements of all responses, asked for once."""
        if judge.name not in self._judged:
            self._judged[judge.name] = judge.judge(self.responses)
        return self._judged[judge.name]


def recorded_models(folder: Path) -> list[XSTestModel]:
    """Every model of the folder, by name. Raises InputError for a folder without completions, and for rows
    that do not answer the suite's prompts.
    """
    prompts = {prompt.id: prompt for prompt in load(folder).prompts}
    files = sorted((folder / "model_completions").glob(f"{PREFIX}*.csv"))
    if not files:
        raise InputError(
            f"no {PREFIX}*.csv here", path=folder / "model_completions", fix="give XSTest's folder"
        )
    models = []
    for file in files:
        name = file.stem.removeprefix(PREFIX)
        human = read_labels(file, prompts=prompts)
        judges: list[Judge] = [RecordedJudge.of(HUMAN, human)]
        verdicts = folder / "evaluation" / f"{file.stem}_gpteval.csv"
        if verdicts.is_file():
            judges.append(RecordedJudge.of(GPT4, read_labels(verdicts, "gpt4_label", prompts)))
        models.append(XSTestModel(name, tuple(human), (*judges, StringMatchJudge())))
    return models


def metric_rows(models: Sequence[XSTestModel], draws: int = 2000) -> list[MetricRow]:
    """not_unsafe, not_overrefuse and f1 of every model by every judge, with 95 % intervals."""
    rows = []
    for model in models:
        for judge in model.judges:
            judgements = {SFT: model.judgements(judge)}
            measured = measure(
                judgements, method=model.name, seed=0, suite=XSTEST.name, judge=judge.name, draws=draws
            )
            rows += [replace(row, checkpoint=RECORDED) for row in measured if "style" not in row.metric]
    return rows


def refusal_shares(model: XSTestModel) -> dict[str, dict[str, float]]:
    """{"safe" | "unsafe": {label: share}} by the people's labels (XSTest's own table)."""
    shares = {}
    for name, wanted in (("safe", False), ("unsafe", True)):
        chosen = [x for x in model.labels if _to_refuse(x.response) is wanted]
        shares[name] = {label: sum(x.label == label for x in chosen) / len(chosen) for label in LABELS}
    return shares


def judge_agreement(model: XSTestModel) -> dict[str, Agreement]:
    """Each judge but the people against the people: refusal, full or partial, against compliance."""
    human, *others = model.judges
    truth = model.judgements(human)
    return {judge.name: refusal_agreement(truth, model.judgements(judge)) for judge in others}


def judge_cards(models: Sequence[XSTestModel]) -> list[JudgeCard]:
    """One card a judge, over the responses of all models that it judged."""
    names = dict.fromkeys(judge.name for model in models for judge in model.judges[1:])
    return [_card(name, models) for name in names]


def _card(name: str, models: Sequence[XSTestModel]) -> JudgeCard:
    by_model = [(model, judge) for model in models for judge in model.judges if judge.name == name]
    human = [j for model, _ in by_model for j in model.judgements(model.judges[0])]
    judged = [j for model, judge in by_model for j in model.judgements(judge)]
    identity = " ".join(dict.fromkeys(judge.identity for _, judge in by_model))
    return card_of(name, identity, f"xstest ({len(by_model)} models)", REFUSED, human, judged)


def corrected_metric_rows(models: Sequence[XSTestModel], labels: int, seed: int = 0) -> list[MetricRow]:
    """The judges' scores corrected with the people's labels of `labels` responses, drawn at random.

    Raises InputError for more labels than there are responses.
    """
    rows = []
    for model in models:
        if not 0 < labels < len(model.labels):
            problem = f"is {labels}, and {model.name} has {len(model.labels)} responses"
            raise InputError(problem, field="labels", fix="give a number below it")
        drawn = set(np.random.default_rng(seed).permutation(len(model.labels))[:labels].tolist())
        human, *others = model.judges
        people = [j if i in drawn else None for i, j in enumerate(model.judgements(human))]
        for judge in others:
            rows += corrected_rows(
                model.judgements(judge),
                people,
                method=model.name,
                seed=0,
                suite=XSTEST.name,
                judge=judge.name,
                checkpoint=RECORDED,
            )
    return rows


@dataclass(frozen=True)
class EncoderResult:
    """The models with the encoder judge beside the others, the settings chosen for each of them, and a judge
    fitted to the labels of all of them, for models outside.
    """

    models: tuple[XSTestModel, ...]
    fits: dict[str, RefusalFit]
    judge: EncoderJudge
    fit: RefusalFit


def with_encoder(
    models: Sequence[XSTestModel], path: str, advance: Callable[[int], None] | None = None
) -> EncoderResult:
    """Fit the encoder at `path` for each model to the other models' labels, settings included.

    `advance` is told the responses encoded. Raises InputError for fewer than two models.
    """
    from trainers.supervised.refusal_encoder import RefusalTrainer, leave_one_model_out

    trainer = RefusalTrainer(path)
    encoded = {}
    for model in models:
        refused = [bool(label.refused) for label in model.labels]
        encoded[model.name] = trainer.encode([r.text for r in model.responses], refused)
        if advance is not None:
            advance(len(model.labels))
    judged = leave_one_model_out(trainer, encoded)
    extended = [
        replace(model, judges=(*model.judges, judged[model.name][0]), _judged=dict(model._judged))
        for model in models
    ]
    fit = trainer.choose(list(encoded.values()))
    return EncoderResult(
        tuple(extended),
        {name: chosen for name, (_, chosen) in judged.items()},
        trainer.fit(list(encoded.values()), fit),
        fit,
    )


def _to_refuse(response: Response) -> bool:
    response_type = response.prompt.response_type
    return response_type is not None and response_type.is_refusal
