"""What of a configuration decides what its run makes, and so whose results a folder has."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, fields

from evals.models.server import SAID, WHICH, Budgeted, ServerSettings
from evals.values.clusters import AUTO
from harness.keys.data import DataSource
from harness.keys.run import RunConfig
from harness.storage.digest import canonical, digest
from trainers.rl.config import PPOConfig

# They say where results go and what a sweeper is told, not what they are. Threads stay: they change sums.
NOT_CONTENT = ("name", "results", "objective", "at_once")
# Of `evaluation`: they change no response and no judgement.
AFTERWARDS = ("baseline", "compare_anyway", "to_label")
# Of a server: how it is asked, and what may be spent on it.
HOW_ASKED = {f.name for kind in (ServerSettings, Budgeted) for f in fields(kind)} - {*WHICH}
IN_WORDS = ("reads", "samples", "temperature", "answer_tokens")  # of a server that grades in words


def owner_of(configs: Sequence[RunConfig]) -> str:
    """The digest of whose results a folder has."""
    return digest([content_of(config) for config in configs])


def content_of(config: RunConfig) -> dict[str, object]:
    """The configuration as JSON values, without what changes no result: how a server is asked, where results go."""
    values = canonical(asdict(config))
    assert isinstance(values, dict)
    values["evaluation"] = {k: v for k, v in values["evaluation"].items() if k not in AFTERWARDS}
    for role in (values["grader"], values["writer"]):
        said = {key: role["server"][key] for key in SAID if role["server"][key]}
        role["server"] = {key: value for key, value in role["server"].items() if key not in HOW_ASKED} | said
    if not config.grader.server.in_words():
        server = values["grader"]["server"]
        values["grader"]["server"] = {key: value for key, value in server.items() if key not in IN_WORDS}
    for place in _as_before(config):
        group, _, key = place.rpartition(".")
        del (values[group] if group else values)[key]
    return {key: value for key, value in values.items() if key not in NOT_CONTENT}


def _as_before(config: RunConfig) -> list[str]:
    """Keys that say what was done before they were there: results from then keep their owner."""
    sandbox, evaluation = config.sandbox, config.evaluation
    is_as_before = {
        "evaluation.cluster": evaluation.cluster == AUTO,
        "evaluation.monitored_by": evaluation.monitored_by is None,
        "evaluation.ceiling_samples": not evaluation.ceiling_samples,
        "evaluation.ceiling_prompts": not evaluation.ceiling_samples,
        "writer.chat_template": not config.writer.chat_template,
        "fitted_prompts": config.fitted_prompts is None,
        # The judge of a world from scratch had the run's base: results from before are another configuration's.
        "judge_width": config.judge_width is None
        and bool(config.model.path or config.data.source is DataSource.FILES),
        "judge_epochs": config.judge_epochs is None,
        "rl_prompts": config.rl_prompts.as_they_are,
        "ppo.alarm_style": config.ppo.alarm_style == PPOConfig.alarm_style,
        "ppo.alarm_gap": config.ppo.alarm_gap == PPOConfig.alarm_gap,
        "grader.width": config.grader.width is None,
        "renewal.grader": not config.renewal.grader.is_asked,
        "sandbox.matched_labels": sandbox.matched_labels is None,
        "sandbox.held_out_topics": config.data.source is not DataSource.SANDBOX,  # it decides nothing there
        "sandbox.judge_answers": config.data.source is not DataSource.SANDBOX,  # likewise
        "sandbox.gold_error": not sandbox.gold_error,
        "sandbox.response_type_error": not sandbox.response_type_error,
    }
    return [place for place, is_so in is_as_before.items() if is_so]
