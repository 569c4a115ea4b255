"""Stages 3 and 4: the grader that pays the reward, trained here or chosen, and the judge that reports."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from evals.graders import Grader, GraderSpec, build_grader
from evals.graders.cache import CachedGrader, GradeCache
from evals.graders.calibration import gold_labels
from evals.models.folder import check_folder
from evals.models.load import load_causal_lm, load_tokenizer, save_model
from evals.models.server import GraderServerSettings
from evals.models.spending import Meter
from evals.rules.rulebook import Rulebook
from evals.values.errors import InputError
from evals.values.grades import Grades
from evals.values.json_text import read_json_object
from evals.values.kinds import code_of, find_kind, is_outside
from harness.keys.graders import CAUSAL, GRADER_KINDS, MODELS, AskedBy
from harness.keys.payer import PayerKeys, PayingServer
from harness.keys.run import RunConfig
from harness.pipeline.context import Context
from harness.pipeline.language_models import content_of, template_keys
from harness.pipeline.spending import PaidGrader, meter_of
from harness.storage.disk import write_json
from harness.storage.store import Artifact
from harness.subjects.graders import GRADES, is_plain_encoder, spec_of
from harness.subjects.local_model import check_place
from harness.worlds.folder import GOLD, WorldFolder, labels_file, training_labels_file
from trainers.supervised.grader_config import GraderTrainingConfig

if TYPE_CHECKING:
    from evals.graders.encoder import EncoderGrader

GRADER, JUDGE, TEACHER = "grader", "judge", "teacher"
UNSEEN = "unseen.json"  # of a grader that was fitted to the labels that measure it
HERE = "."  # the path of a grader that lies in its stage's own folder
FOLDS = 5  # of the prompts of the labels that an encoder is fitted to
DESCRIPTION = "grader.json"  # of a grader that was chosen, in place of a model
# The judge learns from other people's labels of other topics, from another seed.
JUDGE_SEED_OFFSET = 1000
GRADER_SEED_OFFSET = 2000  # of a base of the grader's own


def train_grader_stage(context: Context, data: Artifact, base: Artifact, role: str) -> Artifact:
    """Fine-tune the base model to answer yes or no to every proposition of the rulebook."""
    config = context.config
    training = _judge_training(config) if role == JUDGE else config.grader.training

    def build(out: Path) -> dict[str, Any]:
        from trainers.supervised.grader import train_grader

        labelled = WorldFolder(data.path).training_labels(
            role, list(context.rulebook.propositions), context.rulebook.levels
        )
        model, tokenizer = load_causal_lm(base.path, config.model.precision.dtype), load_tokenizer(base.path)
        seed = config.seed + (JUDGE_SEED_OFFSET if role == JUDGE else 0)
        settings = replace(training, seed=seed)
        with context.console.stage(role, total=settings.epochs * len(labelled), unit="responses") as advance:
            model = train_grader(model, tokenizer, labelled, context.rulebook.propositions, settings, advance)
        save_model(model, tokenizer, out)
        return {"responses": len(labelled)}

    return context.stage(
        role,
        build,
        config={"grader": training, "rulebook": context.rulebook.digest, "role": role},
        inputs={"data": data.part(training_labels_file(role)), "base": base},
        modules=["trainers.supervised.grader"],
    )


def _judge_training(config: RunConfig) -> GraderTrainingConfig:
    """The grader's settings, but for the passes that the run says of the judge."""
    training = config.grader.training
    return replace(training, epochs=training.epochs if config.judge_epochs is None else config.judge_epochs)


def check_payer(config: RunConfig, rulebook: Rulebook) -> None:
    """Raises InputError, before the first stage, for a chosen grader that cannot be asked as the keys say."""
    keys = config.grader
    _check_teacher(config, rulebook)
    if keys.is_trained:
        return
    if keys.kind in MODELS:
        check_place(str(keys.path), "grader.path")
    if keys.kind in CAUSAL:
        check_folder(str(keys.path))
    is_plain = is_plain_encoder(keys.kind, keys.path)
    if is_plain and not config.data.gold:
        raise _no_labels()
    if config.renewal.grader.is_asked and keys.kind == "encoder" and not is_plain:
        raise InputError(
            "is an encoder whose first labels are not at hand, and renewal.grader would make it forget them",
            field="grader.path",
            fix="name the plain encoder and data.gold=[FILE], or leave renewal.grader out",
        )
    _ = spec_of(keys.kind, keys.path, keys.server, keys.asked_by, rulebook, GRADER)


def _check_teacher(config: RunConfig, rulebook: Rulebook) -> None:
    """The same of a teacher who labels for renewals of the grader."""
    teacher = config.renewal.grader.teacher
    if not config.renewal.grader.is_asked or not teacher.kind:
        return
    if teacher.kind in MODELS:
        check_place(str(teacher.path), "renewal.grader.teacher.path")
    if is_plain_encoder(teacher.kind, teacher.path):
        raise InputError(
            "is an encoder that nothing was fitted to",
            field="renewal.grader.teacher.path",
            fix="give the folder that rbrbench gold left of a fitted one",
        )
    _ = spec_of(teacher.kind, teacher.path, teacher.server, teacher.asked_by, rulebook, TEACHER)


def chosen_grader(context: Context) -> Artifact:
    """The grader that the run's keys name; its stage keeps what it is, and its grades lie in the store's cache."""
    keys = context.config.grader

    def build(out: Path) -> dict[str, Any]:
        with context.console.stage(GRADER, total=None, unit="graders"):
            described = _described(keys)
            made = named_grader(described, context.rulebook)
        write_json(out / DESCRIPTION, {**described, "identity": getattr(made, "identity", "")})
        return {}

    server = keys.server if keys.kind == "server" else None
    return context.stage(
        GRADER,
        build,
        config={
            "kind": grader_kind(keys.kind),
            "content": content_of(str(keys.path)),
            "asked_by": keys.asked_by,
            "rulebook": context.rulebook.digest,
            "server": None if server is None else server_content(server),
            **template_keys(keys),
        },
        inputs={},
        modules=["evals.graders"],
    )


def grader_kind(kind: str) -> str:
    """What a stage's key says of a grader's kind: one of your own is its code too. Raises InputError."""
    if not is_outside(kind):
        return kind
    find_kind("grader", kind, GRADER_KINDS, "grader.kind")
    return f"{kind} {code_of(kind)}"


def server_content(server: GraderServerSettings) -> list[Any]:
    """What a stage's key says of a grader's server: all that its grades depend on."""
    which = (server.model, server.revision or server.url)
    return [*which, server.top_logprobs, server.min_mass, *server.said()]


def fitted_encoder(context: Context, data: Artifact) -> Artifact:
    """A plain encoder's head, fitted to the gold labels; its folder also has what folds say of what they did not see.

    Raises InputError where the data bring no labels.
    """
    keys = context.config.grader

    def build(out: Path) -> dict[str, Any]:
        from trainers.supervised.encoder_grader import EncodedResponses, cross_fit, fit_head

        labelled = WorldFolder(data.path).labelled(GOLD, levels=context.rulebook.levels)
        propositions = list(context.rulebook.propositions.values())
        names, labels = (
            [p.name for p in propositions],
            gold_labels(labelled, list(context.rulebook.propositions)),
        )
        with context.console.stage(GRADER, total=len(labelled), unit="responses") as advance:
            responses = [row.response for row in labelled]
            encoded = EncodedResponses.by(str(keys.path), responses, keys.encoder.max_tokens, advance)
            whole = fit_head(encoded, labels, names, keys.encoder, GRADER)
            seed = context.config.seed
            crossed = cross_fit(encoded, labels, names, keys.encoder, FOLDS, seed, GRADER, lambda _: None)
        write_fitted(whole.answering(propositions), keys, out)
        unseen = crossed.grade_encoded(encoded)
        write_json(out / UNSEEN, grades_as_json(unseen))
        return {"responses": len(labelled)}

    if not WorldFolder(data.path).has(GOLD):
        raise _no_labels()
    return context.stage(
        GRADER,
        build,
        config={
            "content": content_of(str(keys.path)),
            "encoder": keys.encoder,
            "rulebook": context.rulebook.digest,
        },
        inputs={"data": data.part(labels_file(GOLD))},
        modules=["trainers.supervised.encoder_grader"],
        packages=["scipy"],
    )


def write_fitted(grader: EncoderGrader, keys: PayerKeys, out: Path) -> None:
    """An encoder with a head, and its description, as `load_grader` reads them."""
    grader.save(out)
    described: dict[str, Any] = {
        "kind": keys.kind,
        "path": HERE,
        "asked_by": keys.asked_by.value,
        "server": {},
    }
    write_json(out / DESCRIPTION, described)


def grades_as_json(grades: Grades) -> dict[str, Any]:
    """`propositions`, and by response their probabilities; null where one is unscored."""
    rows = [[None if p != p else p for p in row] for row in grades.probability.tolist()]
    return {"propositions": list(grades.propositions), "grades": rows}


def named_grader(described: Mapping[str, Any], rulebook: Rulebook, meter: Meter | None = None) -> Grader:
    """The grader of a run's keys, as its stage keeps them. Raises InputError for what does not load."""
    server = PayingServer(**described["server"])
    asked_by = AskedBy(described["asked_by"])
    spec = spec_of(described["kind"], described["path"], server, asked_by, rulebook, GRADER)
    keys = described.get("chat_template", {})
    return build_grader(replace(spec, meter=meter, chat_template=keys), rulebook, GRADER_KINDS)


def load_grader(artifact: Artifact, rulebook: Rulebook, lies_at: str | None = None) -> Grader:
    """The model in the artifact, or the grader that it describes.

    `lies_at`: where the described one is today; its stage is found by content, and knows where it was then.
    """
    if (artifact.path / DESCRIPTION).is_file():
        described = read_json_object(artifact.path / DESCRIPTION)
        path = str(artifact.path) if described["path"] == HERE else lies_at or described["path"]
        return named_grader({**described, "path": path}, rulebook)
    return build_grader(GraderSpec("language_model", str(artifact.path), name=artifact.stage))


def asked_grader(context: Context, artifact: Artifact) -> Grader:
    """The same; a chosen one stands behind the cache of grades, so that nothing is asked, or paid, twice."""
    keys = context.config.grader
    if artifact.stage == GRADER and keys.kind == "server":
        return _paid_server(context)
    grader = load_grader(artifact, context.rulebook, keys.path)
    if not (artifact.path / DESCRIPTION).is_file() or not getattr(grader, "identity", None):
        return grader
    return CachedGrader(grader, _cache(context))


def _paid_server(context: Context) -> Grader:
    """As the keys say today: how it is asked, and what may be spent, may have changed since its stage was made."""
    meter = meter_of(context.config, context.config.grader.server)
    grader = named_grader(_described(context.config.grader), context.rulebook, meter)
    return PaidGrader(CachedGrader(grader, _cache(context)), meter, context.spender)


def _cache(context: Context) -> GradeCache:
    return GradeCache(context.store.root.parent / GRADES)


def _described(keys: PayerKeys) -> dict[str, Any]:
    """As its stage keeps it: a budget is the run's alone, and the meter's."""
    server = replace(keys.server, max_requests=0, max_tokens=0, max_cost=0.0)
    return {
        "kind": keys.kind,
        "path": keys.path,
        "asked_by": keys.asked_by.value,
        "server": asdict(server) if keys.kind == "server" else {},
        **template_keys(keys),
    }


def _no_labels() -> InputError:
    return InputError(
        "is an encoder that nothing was fitted to, and the data bring no labels",
        field="grader.path",
        fix="give labels, data.gold=[FILE], or the folder that rbrbench gold left of a fitted one",
    )
