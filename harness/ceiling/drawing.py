"""`rbrbench samples`: a versioned set of sampled responses, each graded and judged once.

What lies in the folder then:

- samples.jsonl.gz    see `harness.subjects.sample_set`
- recorded.jsonl.gz   what the reward's grader and reward model say of them, and of the completions to fit weights on
- fitting.jsonl.gz    those completions, labels only; rulebook.yaml, reward.yaml: the reward on what is recorded
- manifest.json       what made it, digests, and the training's settings where a run has them

The last four are there where a reward was named. A killed command goes on from what was answered, judged and graded.
"""

from __future__ import annotations

import shlex
import shutil
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from evals.graders import grade_in_batches
from evals.judges import Judge, Judgement, RulebookJudge
from evals.rules.rulebook import Rulebook, load_rulebook
from evals.suites import Suite
from evals.suites.suite import make_suite
from evals.values.conversation import LabelledResponse
from evals.values.errors import InputError, UndecidableError
from evals.values.json_text import read_json_object
from evals.values.jsonl_rows import prompt_as_json, read_prompts, write_jsonl
from evals.values.located_yaml import load_located_yaml
from harness.ceiling.proposals import FromProposal, check_proposals, proposals
from harness.ceiling.rewards import run_settings
from harness.ceiling.weighing import response_log_probs_of
from harness.evaluate.judging import asked_judges, judgements_of
from harness.evaluate.respond import responses_of
from harness.evaluate.spending import asked_meters, keep_spending, spending_record
from harness.gate.freeze import FITTING, FITTING_PROMPTS, RECORDED, first_prompts, said_rows, without_class
from harness.gate.gate import open_source
from harness.gate.rewards import LiveReward, used_propositions
from harness.keys.compose import rulebook_path
from harness.keys.samples import PromptPart, SamplesConfig
from harness.keys.subject import DecodingKeys
from harness.record.finished_run import RunAddress, RunStages
from harness.record.run import spending_part
from harness.runtime.console import Console
from harness.storage.digest import digest, file_digest
from harness.storage.disk import write_json, writing
from harness.storage.provenance import git_commit
from harness.storage.store import Artifact
from harness.storage.whole_folder import DIGESTS
from harness.subjects.completions import RULEBOOK, CompletionFile
from harness.subjects.graders import GRADES
from harness.subjects.model import Model
from harness.subjects.sample_set import SAMPLES, SET_MANIFEST, chosen_prompts
from harness.subjects.sample_table import TRAINING
from harness.worlds.folder import SAFETY, SYNTHETIC, WorldFolder
from trainers.reward.reward import Breakdown

REWARD = "reward.yaml"


def draw_samples(config: SamplesConfig, command: Sequence[str], console: Console) -> dict[str, Any]:
    """Write the set; returns what its manifest says. Raises InputError where `out` holds a set of that name."""
    out, results = Path(config.out), Path(config.results)
    _check_is_new(out, config.set)
    config = _as_trained(config)
    data = _run_data(config)
    suite = _prompts(config, data)
    judges = _judges(config, data)
    reward = _reward(config, results / GRADES)
    store = results / ".store"
    asked = proposals(config, suite)
    meters = asked_meters([one.model for one in asked], judges)
    keep_spending(meters, results, config.set, digest({"samples": str(out.resolve())}))
    check_proposals(asked)
    drawn = [FromProposal(one, responses_of(one.model, suite, store / "responses", console)) for one in asked]
    missing = Counter(o.reason for one in drawn for o in one.outcomes if o.text is None)
    every = sum(len(one.outcomes) for one in drawn)
    if missing.total() == every:
        raise UndecidableError(f"the model gave none of {every} responses: {missing.most_common(1)[0][0]}")
    rows = _rows(config, suite, drawn, judges, store, console)
    with writing(out):
        out.mkdir(parents=True, exist_ok=True)
        write_jsonl(out / SAMPLES, rows)
        files = [SAMPLES]
        if reward is not None:
            files += _record(config, out, reward, suite, drawn, data, console)
        counted: dict[str, Any] = {
            "missing": missing.total(),
            "log_probs": sum("log_prob" in row for row in rows),
        }
        counted |= spending_part(spending_record(meters))
        manifest = _manifest(config, command, suite, asked[0].model, judges, files, counted)
        write_json(out / SET_MANIFEST, manifest)
    return manifest


def _check_is_new(out: Path, name: str) -> None:
    if out.is_file():
        raise InputError("is a file", path=out, fix="name a folder")
    if (out / SET_MANIFEST).is_file() and read_json_object(out / SET_MANIFEST).get("set") == name:
        problem = f"holds the set {name!r}, and a set is never changed"
        raise InputError(problem, path=out, fix="give the new set its own name")


def _as_trained(config: SamplesConfig) -> SamplesConfig:
    """Of a run's model responses may be as long as its training's, where no other limit is told."""
    told = run_settings(RunAddress.parse(config.run)).get("max_new_tokens") if config.run else None
    if told is None or config.decoding.max_new_tokens != DecodingKeys().max_new_tokens:
        return config
    return replace(config, decoding=replace(config.decoding, max_new_tokens=int(told)))


# --- the run that is named ---------------------------------------------------------------------


def _run_data(config: SamplesConfig) -> Artifact | None:
    """The data of the named run."""
    if not config.run:
        return None
    stages = RunStages(RunAddress.parse(config.run).folder)
    seed = RunAddress.parse(config.run).seed
    found = {row["key"]: row for row in stages.having("data") if seed in (None, row.get("seed"))}
    if len(found) != 1:
        fix = f"name method and seed: {stages.folder}:METHOD:SEED"
        raise InputError(f"the run has {len(found)} data sets", path=stages.folder, fix=fix)
    (row,) = found.values()
    return stages.find("data", str(row["key"]))


def _prompts(config: SamplesConfig, data: Artifact | None) -> Suite:
    """All of them, or `limit`, chosen by the digests of their ids within each response type."""
    if config.prompts is not None:
        name, path, prompts = Path(config.prompts).name, Path(config.prompts), read_prompts(config.prompts)
    else:
        assert data is not None
        folder, path = WorldFolder(data.path), data.path
        name = f"{RunAddress.parse(str(config.run)).folder.name}-{config.part.value}"
        prompts = folder.prompts(SAFETY) if config.part is PromptPart.TRAINING else folder.eval_prompts()
    typed = [prompt for prompt in prompts if prompt.response_type is not None]
    return make_suite(name, path, chosen_prompts(typed, config.limit, config.seed))


def _judges(config: SamplesConfig, data: Artifact | None) -> dict[str, Judge]:
    if config.judges:
        return asked_judges(config.judging)
    assert data is not None
    world = WorldFolder(data.path).sandbox
    if not world.is_file():
        raise InputError("no judge is named", field="judges", fix="give judges=[NAME]")
    from harness.worlds.sandbox.oracle import oracle_grader

    folder = RunAddress.parse(str(config.run)).folder
    rules = load_rulebook(rulebook_path(str(load_located_yaml(folder / "config.yaml")["rulebook"])))
    return {"oracle": RulebookJudge(rules, oracle_grader(world), "oracle")}


def _reward(config: SamplesConfig, cache: Path) -> LiveReward | None:
    """The named reward, else that of the run; None where there is none, or it has several and none is named."""
    given = config.reward
    if given is None and config.run:
        address = RunAddress.parse(config.run)
        if not RunStages(address.folder).having("weights"):
            return None
        given = str(address.folder) + (f"::{address.seed}" if address.seed is not None else "")
    if given is None:
        return None
    source = open_source(given, "reward", cache, CompletionFile(Path(config.out) / SAMPLES, None))
    if source.live is None:
        fix = "name a description or a run"
        raise InputError(
            "is recorded: it can say nothing of new samples", path=given, field="reward", fix=fix
        )
    return source.live


# --- rows ------------------------------------------------------------------------------------------


def _rows(
    config: SamplesConfig,
    suite: Suite,
    drawn: Sequence[FromProposal],
    judges: Mapping[str, Judge],
    store: Path,
    console: Console,
) -> list[dict[str, Any]]:
    prompts = {prompt.id: prompt for prompt in suite.prompts}
    outcomes = [outcome for one in drawn for outcome in one.outcomes]
    labels = [one.proposal.label for one in drawn for _ in one.outcomes]
    said: dict[str, list[Judgement]] = {
        name: judgements_of(judge, judge.identity, suite, outcomes, store / "judgements", console)
        for name, judge in judges.items()
    }
    given = [(i, r) for i, o in enumerate(outcomes) if (r := o.response(prompts[o.prompt_id])) is not None]
    told = response_log_probs_of(drawn, [r for _, r in given], store / "likelihoods", console)
    place = {i: at for at, (i, _) in enumerate(given)}
    shares = np.array([len(one.outcomes) for one in drawn]) / max(1, len(outcomes))
    numbers: dict[str, int] = {}
    rows = []
    for i, outcome in enumerate(outcomes):
        number = numbers[outcome.prompt_id] = numbers.get(outcome.prompt_id, -1) + 1
        row: dict[str, Any] = {**prompt_as_json(prompts[outcome.prompt_id]), "sample": number}
        row |= {"response": outcome.text, "finished": outcome.finished}
        if outcome.text is None:
            rows.append(row | {"reason": outcome.reason or "no response"})
            continue
        row["judgements"] = {name: _verdicts(of[i]) for name, of in said.items()}
        if labels[i] is not None:
            row["proposal"] = labels[i]
        own = np.full(len(drawn), np.nan) if told is None else told.values[place[i]]
        row |= _weight(own, shares, "" if told is None else told.reasons.get(place[i], ""))
        rows.append(row)
    return rows


def _weight(own: np.ndarray, shares: np.ndarray, reason: str) -> dict[str, Any]:
    """What a row says of how likely the reference and the mixture write its response; `own` [proposals].

    A sample of several proposals that cannot be weighed is as good as missing, and says why.
    """
    if np.isfinite(own[0]) and not np.isnan(own).any():
        told = {"log_prob": round(float(min(own[0], 0.0)), 5)}
        if len(own) > 1:
            mixture = float(np.logaddexp.reduce(own + np.log(shares)))
            told["proposal_log_prob"] = round(min(mixture, 0.0), 5)
        return told
    if len(own) == 1:
        return {}
    if np.isneginf(own[0]):
        reason = "the reference draws among the likeliest tokens alone, and never writes it"
    return {"response": None, "reason": reason or "no log-probability: the server does not tell it"}


def _verdicts(judgement: Judgement) -> dict[str, Any]:
    said: dict[str, Any] = {
        name: getattr(judgement, name) for name in ("disallowed", "refused", "ideal_style")
    }
    return said | ({"reason": judgement.reason} if judgement.reason else {})


# --- the reward on them ------------------------------------------------------------------------------


def _record(
    config: SamplesConfig,
    out: Path,
    reward: LiveReward,
    suite: Suite,
    drawn: Sequence[FromProposal],
    data: Artifact | None,
    console: Console,
) -> list[str]:
    """Grades and scores, asked once; returns the names of the files."""
    prompts = {prompt.id: prompt for prompt in suite.prompts}
    every = [r for one in drawn for o in one.outcomes if (r := o.response(prompts[o.prompt_id])) is not None]
    fitting = _fitting(data, reward.rulebook)
    responses = list({(r.prompt.messages, r.text): r for r in every}.values())
    responses += [row.response for row in fitting]
    propositions = used_propositions(reward.rulebook)
    with console.stage("grade", total=len(responses), unit="responses") as advance:
        grades = grade_in_batches(reward.grader, responses, propositions, progress=advance)
    scores = (
        Breakdown(np.zeros(len(responses)), {})
        if reward.reward_model is None
        else reward.reward_model(responses)
    )
    asked = reward.grader.name, reward.template
    labelled = [LabelledResponse(r) for r in responses]
    write_jsonl(out / RECORDED, said_rows(labelled, propositions, asked, grades, scores))
    shutil.copyfile(str(reward.rulebook.path), out / RULEBOOK)
    files = [RECORDED, RULEBOOK]
    description: dict[str, Any] = {"rulebook": RULEBOOK, "grader": {"kind": "recorded", "path": RECORDED}}
    if fitting:
        write_jsonl(out / FITTING, map(without_class, fitting))
        files.append(FITTING)
        settings = reward.weights().config
        kept = {
            k: settings[k] for k in ("method", "fixed", "l2", "margin", "sign_constraints") if k in settings
        }
        description["weights"] = {"data": FITTING, "holdout": 0.0, **kept}
    else:
        from trainers.reward.reward_weights import save_weights

        save_weights(reward.weights(), out / "weights.json")
        files.append("weights.json")
        description["weights"] = "weights.json"
    if reward.reward_model is not None:
        description["reward_model"] = {"kind": "recorded", "path": RECORDED}
    (out / REWARD).write_text(yaml.safe_dump(description, sort_keys=False), encoding="utf-8")
    return [*files, REWARD]


def _fitting(data: Artifact | None, rulebook: Rulebook) -> list[LabelledResponse]:
    """Of a run whose data bring completions: those that its weights were fitted on, the first of them."""
    if data is None or not WorldFolder(data.path).has(SYNTHETIC):
        return []
    return first_prompts(WorldFolder(data.path).labelled(SYNTHETIC, levels=rulebook.levels), FITTING_PROMPTS)


def _manifest(
    config: SamplesConfig,
    command: Sequence[str],
    suite: Suite,
    model: Model,
    judges: Mapping[str, Judge],
    files: Sequence[str],
    counted: Mapping[str, Any],
) -> dict[str, Any]:
    out = Path(config.out)
    digests = {name: file_digest(out / name) for name in files}
    training = run_settings(RunAddress.parse(config.run)) if config.run else {}
    kept = ("kl_coef", "score_clip", "missing_eos_penalty")
    return {
        "set": config.set,
        "command": shlex.join(["rbrbench", *command]),
        "commit": git_commit(),
        "digest": digest(digests),
        DIGESTS: digests,
        "model": config.run or model.name,
        "template": model.template,
        "decoding": dict(model.decoding),
        "prompts": len(suite.prompts),
        "samples": config.decoding.samples * (1 + len(config.temperatures) + len(config.others)),
        **counted,
        "suite": {"name": suite.name, "version": suite.version},
        "judges": {name: judge.identity for name, judge in judges.items()},
        TRAINING: {name: training[name] for name in kept if name in training},
    }
