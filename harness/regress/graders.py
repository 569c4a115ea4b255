"""Graders and reward models that a description names; what needs torch is imported where it is asked for."""

from __future__ import annotations

from pathlib import Path

from evals.grade_cache import CachedGrader, GradeCache
from evals.graders import Grader
from evals.graders.recorded import RecordedGrader
from evals.rulebook import Rulebook
from harness.regress.description import Part
from trainers.reward import Reward, RewardModelTerm


def load_grader(part: Part, cache: Path, rulebook: Rulebook) -> Grader:
    """The grader; one that is a model is kept behind the cache: an edited rule is graded, the rest is found."""
    if part.kind == "recorded":
        return RecordedGrader(part.path, prompt_template=rulebook.prompt_template)
    if part.kind == "oracle":
        return _oracle(part)
    loaders = {"language_model": _language_model, "encoder": _encoder, "server": _server}
    return CachedGrader(loaders[part.kind](part), GradeCache(cache))


def load_reward_model_term(part: Part) -> Reward:
    from evals.models import load_reward_model, load_tokenizer

    no_progress_bars()
    return RewardModelTerm(load_reward_model(part.path), load_tokenizer(part.path), **part.options)


def no_progress_bars() -> None:
    """Keep transformers' own bars out of the gate's output."""
    import transformers

    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()


def _language_model(part: Part) -> Grader:
    from evals.graders.language_model import LanguageModelGrader
    from evals.models import load_causal_lm, load_tokenizer

    no_progress_bars()
    return LanguageModelGrader(load_causal_lm(part.path), load_tokenizer(part.path))


def _encoder(part: Part) -> Grader:
    from evals.graders.encoder import EncoderGrader

    no_progress_bars()
    return EncoderGrader.load(part.path)


def _server(part: Part) -> Grader:
    from evals.graders.server import ServerConfig, ServerGrader

    return ServerGrader(ServerConfig(**part.options))


def _oracle(part: Part) -> Grader:
    """The sandbox's truth, from the world file (`sandbox.json`) that its generator wrote."""
    from evals.graders.oracle import OracleGrader
    from harness.sandbox.oracle import Oracle
    from harness.sandbox.world import World

    return OracleGrader(Oracle(World.load(Path(part.path))).truth)
