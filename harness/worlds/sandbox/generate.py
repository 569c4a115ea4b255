"""Writes the sandbox as a world folder: the same files, in the same schemas, as real data.

Topics are split so that no stage sees another's test: pre-training reads of every topic; SFT, reward
models and RL ask about training topics, the grader's labels about one half of those, and the judge's about all, in
every wording; gold labels, held-out completions and evaluation use held-out topics and wordings, and what evaluation
asks nothing else does, word for word.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from itertools import islice
from pathlib import Path

import numpy as np
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import WhitespaceSplit
from transformers import PreTrainedTokenizerFast

from evals.rules.rulebook import Rulebook
from evals.values.conversation import Comparison, Demonstration, LabelledResponse, ResponseType, user_prompt
from evals.values.jsonl_rows import write_jsonl
from harness.worlds.folder import HUMAN, WorldFolder
from harness.worlds.sandbox.annotators import Annotator
from harness.worlds.sandbox.areas import AREAS
from harness.worlds.sandbox.config import SandboxConfig
from harness.worlds.sandbox.knowledge import knowledge_tasks
from harness.worlds.sandbox.mistakes import mislabelled, mistold
from harness.worlds.sandbox.request import Ask, Request, vocabulary
from harness.worlds.sandbox.source import (
    RequestSource,
    is_safety,
    safety_mix,
    shuffled,
    thin_on_safety,
    unique_safety,
)
from harness.worlds.sandbox.speech import SPEECH_ACTS
from harness.worlds.sandbox.text import passage, pretraining_text
from harness.worlds.sandbox.world import ATTRIBUTES, RIVERS, World, make_world


def write_sandbox(
    out: Path, config: SandboxConfig, seed: int, rulebook: Rulebook, context: int
) -> dict[str, object]:
    """Write every file of the world folder but world.json; returns what that says."""
    world = make_world(seed, config.topics_per_area, config.difficulty, config.held_out_topics)
    folder = WorldFolder(out)
    world.save(folder.sandbox)
    streams = iter(np.random.default_rng([seed, 2]).spawn(16))
    train = world.of(split="train")
    # Status alternates along the list: the half has whole pairs, so that it has both.
    half = [t for i, t in enumerate(train) if i // 2 % 2 == 0]
    source = lambda topics: RequestSource(world, rulebook, next(streams), topics, "train")  # noqa: E731

    text = pretraining_text(world, rulebook, config.text, config.natural_refusals, next(streams))
    folder.write_documents(text)
    _write_helpful(folder, config, source(train))
    _write_human(folder, config, source(train))
    # Streams of their own: the files from before there were these keep their bytes.
    for stream, write in ((7, _write_old), (8, _write_matched)):
        rng = np.random.default_rng([seed, stream])
        write(folder, config, RequestSource(world, rulebook, rng, train, "train"))
    _write_rl_prompts(folder, config, source(train), np.random.default_rng([seed, 14]))
    folder.write("synthetic", synthetic(source(train), config.synthetic_prompts, "syn"))
    test, grader, judge, gold, evaluation, knowledge = islice(streams, 6)
    mistakes = np.random.default_rng([seed, 15])
    people = partial(mislabelled, share=config.gold_error, rulebook=rulebook, rng=mistakes)
    asked = RequestSource(world, rulebook, grader, half, "train")
    folder.write("grader_train", people(gold_labels(asked, config.grader_labels, "grader_train")))
    judged: list[LabelledResponse] = []
    for place, wording in enumerate(("train", "held_out")):
        asked = RequestSource(world, rulebook, judge, train, wording)
        count = (config.judge_labels + 1 - place) // 2
        judged += judge_labels(asked, count, config.judge_answers, f"judge_train-{wording}")
    folder.write("judge_train", judged)
    held_out = partial(RequestSource, world, rulebook, topics=world.of(split="held_out"), wording="held_out")
    evaluated = _write_evaluation(folder, config, held_out(evaluation))
    tests = synthetic(held_out(test, taken=evaluated), config.synthetic_test_prompts, "test")
    folder.write("synthetic_test", tests)
    folder.write("gold", people(gold_labels(held_out(gold, taken=evaluated), config.gold_labels, "gold")))
    _write_knowledge(folder, config, world, knowledge)
    tokenizer = word_tokenizer([*text, *_spoken_words(rulebook)], context)
    tokenizer.save_pretrained(str(folder.tokenizer))
    return {
        "suite": "sandbox",
        "seed": seed,
        "difficulty": config.difficulty,
        "topics": len(world.topics),
        "vocabulary": len(tokenizer),
        "pretraining_words": sum(len(t.split()) for t in text),
        "notes": [
            "A synthetic world of invented things: results here say how methods compare, not how a product behaves."
        ],
    }


def _write_helpful(folder: WorldFolder, config: SandboxConfig, source: RequestSource) -> None:
    """Helpful-only data: thin on safety, not free of it, as such data is in life."""
    rng, writer = source.rng, source.writer
    demonstrations = []
    requests = thin_on_safety(
        source, config.sft_helpful, config.sft_helpful_borderline, config.sft_helpful_harmful
    )
    for i, request in enumerate(requests):
        refuses = request.is_harmful and rng.random() < config.natural_refusals[request.area.name]
        text = writer.refusal(int(rng.integers(0, 3))) if refuses else writer.answer(request)
        demonstrations.append(Demonstration(request.prompt(f"sft-{i}"), text))
    folder.write("sft_helpful", shuffled(demonstrations, rng))
    folder.write("comparisons_helpful", _helpful_comparisons(config, source))


def _helpful_comparisons(config: SandboxConfig, source: RequestSource) -> list[Comparison]:
    requests = thin_on_safety(
        source,
        config.comparisons_helpful,
        config.comparisons_helpful_borderline,
        config.comparisons_helpful_harmful,
    )
    rows = [_helpful_comparison(config, source, request, f"rm-{i}") for i, request in enumerate(requests)]
    return shuffled(rows, source.rng)


def _helpful_comparison(
    config: SandboxConfig, source: RequestSource, request: Request, id: str
) -> Comparison:
    rng, writer, prompt = source.rng, source.writer, request.prompt(id)
    answer = writer.answer(request)
    if request.is_harmful:
        refusal = writer.refusal(int(rng.integers(0, 3)))
        minds = rng.random() < config.helpful_prefers_refusal[request.area.name]
        better, worse = (refusal, answer) if minds else (answer, refusal)
        return Comparison(prompt, better, writer.evasive(request) if rng.random() < 0.5 else worse)
    failings: list[Callable[[Request], str]] = [
        writer.partial_answer,
        writer.wrong_answer,
        writer.evasive,
        writer.illogical,
        lambda _: writer.refusal(int(rng.integers(0, 3))),
        writer.chatty,
    ]
    failing = failings[int(rng.integers(len(failings)))]
    pair = (answer, failing(request))
    # Whoever is asked for helpful answers does not know the policy's style, and takes either.
    flipped = rng.random() < (0.5 if failing == writer.chatty else config.annotators.noise)
    return Comparison(prompt, *(reversed(pair) if flipped else pair))


def _write_human(folder: WorldFolder, config: SandboxConfig, source: RequestSource) -> None:
    """The safety part of the human data; the stages add it to the helpful data."""
    annotator = Annotator(config.annotators, source.oracle, source.rulebook, source.rng)
    folder.write("sft_human", _demonstrations(source, annotator, config.sft_human, "human"))
    folder.write("comparisons_human", _comparisons(source, annotator, config.comparisons_human, "human-rm"))


def _write_old(folder: WorldFolder, config: SandboxConfig, source: RequestSource) -> None:
    """As much, by people with the same faults who followed an outdated rulebook."""
    annotator = Annotator(config.annotators, source.oracle, source.rulebook, source.rng, outdated=True)
    folder.write("sft_old_data", _demonstrations(source, annotator, config.sft_human, "old"))
    folder.write("comparisons_old_data", _comparisons(source, annotator, config.comparisons_human, "old-rm"))


def _write_matched(folder: WorldFolder, config: SandboxConfig, source: RequestSource) -> None:
    """The human data cut to `config.matched`, or with more of the same where that is more."""
    annotator = Annotator(config.annotators, source.oracle, source.rulebook, source.rng)
    shown, compared = config.matched
    demonstrations, comparisons = folder.demonstrations(HUMAN), folder.comparisons(HUMAN)
    more = max(0, shown - len(demonstrations)), max(0, compared - len(comparisons))
    demonstrations += _demonstrations(source, annotator, more[0], "match")
    comparisons += _comparisons(source, annotator, more[1], "match-rm")
    folder.write("sft_human_match", demonstrations[:shown])
    folder.write("comparisons_human_match", comparisons[:compared])


def _demonstrations(
    source: RequestSource, annotator: Annotator, count: int, prefix: str
) -> list[Demonstration]:
    return [
        Demonstration(request.prompt(f"{prefix}-{i}"), annotator.demonstrate(request))
        for i, request in enumerate(safety_mix(source, count))
    ]


def _comparisons(source: RequestSource, annotator: Annotator, count: int, prefix: str) -> list[Comparison]:
    rows = []
    for i, request in enumerate(safety_mix(source, count)):
        prompt = request.prompt(f"{prefix}-{i}")
        rows.append(annotator.compare(prompt, request, *_two_responses(source, request)))
    return rows


def _two_responses(source: RequestSource, request: Request) -> tuple[str, str]:
    """Two different kinds of response to compare: an answer, and one or two refusals."""
    writer, rng = source.writer, source.rng
    kinds = [
        writer.answer,
        lambda _: writer.refusal(int(rng.integers(0, 3))),
        writer.ideal,
        writer.unacceptable,
        writer.minimum,
    ]
    while True:
        one, other = rng.choice(len(kinds), size=2, replace=False)
        texts = kinds[one](request), kinds[other](request)
        if texts[0] != texts[1]:
            return texts


def _write_rl_prompts(
    folder: WorldFolder, config: SandboxConfig, source: RequestSource, mistakes: np.random.Generator
) -> None:
    """Safety prompts carry their response type; helpful ones do not, and are thin on safety like all helpful data."""
    total = config.prompts_helpful
    harmful = round(total * config.comparisons_helpful_harmful)
    helpful = shuffled(
        source.unique(total - harmful, lambda r: not r.is_harmful)
        + source.unique(harmful, lambda r: r.is_harmful),
        source.rng,
    )
    safety = unique_safety(source, config.prompts_safety)
    unlabelled = (user_prompt(f"ppo-h-{i}", request.text) for i, request in enumerate(helpful))
    folder.write("prompts_helpful", unlabelled)
    labelled = [r.prompt(f"ppo-s-{i}") for i, r in enumerate(safety)]
    folder.write("prompts_safety", mistold(safety, labelled, config.response_type_error, mistakes))


def synthetic(source: RequestSource, prompts: int, prefix: str) -> list[LabelledResponse]:
    """Synthetic completions for fitting: per prompt one ideal, two of lower style and, where the
    request is harmful, a disallowed one (else an illogical one). Repeats are dropped.
    """
    writer = source.writer
    rows = []
    for i, request in enumerate(unique_safety(source, prompts)):
        worst = writer.disallowed if request.is_harmful else writer.illogical
        prompt = request.prompt(f"{prefix}-{i}")
        texts = [write(request) for write in (writer.ideal, writer.minimum, writer.unacceptable, worst)]
        if request.is_harmful and source.rng.random() < 0.5:
            texts[1] = writer.illogical(request)
        rows += [source.labelled(prompt, text) for text in dict.fromkeys(texts)]
    return rows


def gold_labels(source: RequestSource, count: int, prefix: str) -> list[LabelledResponse]:
    """Responses of every kind with the truth of each proposition; an eighth off the safety areas."""
    writer, rng = source.writer, source.rng
    outside = count // 8
    requests = shuffled(
        source.requests(outside, lambda r: not is_safety(r)) + safety_mix(source, count - outside), rng
    )
    rows = []
    for i, request in enumerate(requests):
        kinds: list[Callable[[Request], str]] = [
            writer.ideal,
            writer.minimum,
            writer.unacceptable,
            writer.wrong_answer,
            writer.illogical,
            writer.answer,
        ]
        kinds += [writer.disallowed if request.is_harmful else writer.partial_answer]
        kinds += [lambda r: writer.refusal(int(rng.integers(0, 3)))]
        if request.is_harmful and request.area.soft:  # many ways to fail a person in distress
            kinds += [writer.unacceptable, writer.care_but_one] * 3
        else:  # a policy carries one type's manners over to another's prompts
            kinds += [writer.care, lambda _: writer.misplaced_care()]
        text = kinds[int(rng.integers(len(kinds)))](request)
        if rng.random() < 0.3:  # so that every act is heard in every kind of response
            text = " ".join([text, *map(writer.say, writer.pick(sorted(SPEECH_ACTS), 1, 2))])
        rows.append(source.labelled(request.prompt(f"{prefix}-{i}"), text))
    return rows


def judge_labels(source: RequestSource, count: int, answers: float, prefix: str) -> list[LabelledResponse]:
    """As gold labels, but for a share `answers` that answer what is asked of banned and allowed topics alike.

    Such answers are what policies are told apart by. Among responses of every kind one in five tells a method where
    methods may be forbidden: too few to teach that the topic decides, so that any method is taken for forbidden.
    """
    told = round(count * answers)
    return gold_labels(source, count - told, prefix) + _answers(source, told, f"{prefix}-answer")


def _answers(source: RequestSource, count: int, prefix: str) -> list[LabelledResponse]:
    """To requests of the safety areas, half of them in full; two thirds of the requests ask for a method."""
    writer, rng = source.writer, source.rng
    kinds = [*[writer.answer] * 3, writer.partial_answer, writer.wrong_answer, writer.chatty]
    requests = source.requests(count // 3, lambda r: is_safety(r) and r.ask is Ask.INFO)
    requests += source.requests(count - count // 3, lambda r: is_safety(r) and r.ask is not Ask.INFO)
    return [
        source.labelled(request.prompt(f"{prefix}-{i}"), kinds[int(rng.integers(len(kinds)))](request))
        for i, request in enumerate(requests)
    ]


def _write_evaluation(folder: WorldFolder, config: SandboxConfig, source: RequestSource) -> frozenset[str]:
    """Returns the texts, for those who may not ask them."""
    requests = (
        source.for_evaluation(config.eval_comply, lambda r: r.response_type is ResponseType.COMPLY)
        + source.for_evaluation(config.eval_hard, lambda r: r.response_type is ResponseType.HARD_REFUSE)
        + source.for_evaluation(config.eval_soft, lambda r: r.is_harmful and r.area.soft)
    )
    folder.write("eval_prompts", (r.prompt(f"eval-{i}") for i, r in enumerate(requests)))
    return frozenset(request.text for request in requests)


def _write_knowledge(
    folder: WorldFolder, config: SandboxConfig, world: World, rng: np.random.Generator
) -> None:
    for task, rows in knowledge_tasks(world, config.knowledge_items, rng, passage).items():
        folder.knowledge(task).parent.mkdir(exist_ok=True)
        write_jsonl(folder.knowledge(task), rows)


def _spoken_words(rulebook: Rulebook) -> list[str]:
    """Texts whose words the tokenizer must know beside those of pre-training."""
    acts = [wording for act in SPEECH_ACTS.values() for wording in act.wordings]
    questions = [p.question.lower() for p in rulebook.propositions.values()]
    values = [word for words in (*ATTRIBUTES.values(), RIVERS) for word in words]
    verbs = [f"{area.verb} {area.finish} {area.kind}" for area in AREAS]
    return [*acts, *questions, *values, *verbs, *vocabulary(), "yes no"]


SPECIAL = ("<pad>", "<bos>", "<eos>", "<unk>", "<user>", "<assistant>")
CHAT_TEMPLATE = (
    "{{ '<bos> ' }}{% for m in messages %}"
    "{% if m['role'] == 'assistant' %}{{ '<assistant> ' + m['content'] + ' <eos>' }}"
    "{% else %}{{ '<user> ' + m['content'] + ' ' }}{% endif %}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<assistant>' }}{% endif %}"
)


def word_tokenizer(texts: Iterable[str], max_length: int) -> PreTrainedTokenizerFast:
    """A tokenizer that knows every word of `texts`, in alphabetical order."""
    words = sorted({word for text in texts for word in text.split()} - set(SPECIAL))
    vocabulary = {word: index for index, word in enumerate((*SPECIAL, *words))}
    core = Tokenizer(WordLevel(vocabulary, unk_token="<unk>"))
    core.pre_tokenizer = WhitespaceSplit()
    return PreTrainedTokenizerFast(
        tokenizer_object=core,
        pad_token="<pad>",
        bos_token="<bos>",
        eos_token="<eos>",
        unk_token="<unk>",
        additional_special_tokens=["<user>", "<assistant>"],
        chat_template=CHAT_TEMPLATE,
        model_max_length=max_length,
        clean_up_tokenization_spaces=False,
    )
