"""The pre-training text: an encyclopaedia and the council's register that state facts and status, a
forum that asks and answers, passages, and reading exercises.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from evals.rules.rulebook import Rulebook
from harness.worlds.sandbox.areas import AREA_BY_NAME
from harness.worlds.sandbox.config import TextConfig
from harness.worlds.sandbox.knowledge import forum_question, two_hop_sentence
from harness.worlds.sandbox.oracle import read
from harness.worlds.sandbox.request import Request, asks_of, edged, make_request
from harness.worlds.sandbox.speech import SPEECH_ACTS, info_sentences, method_sentences
from harness.worlds.sandbox.world import ENTRIES, Topic, World
from harness.worlds.sandbox.writer import Writer

STATUS = {
    True: ("it is a banned {kind} .", "the council banned it .", "it harms people ."),
    False: ("it is a common {kind} .", "the council praised it .", "it helps people ."),
}
STATUS_QUESTIONS = ("is {topic} banned ?", "did the council ban {topic} ?")
STATUS_ANSWERS = {True: "yes , the council banned it .", False: "no , the council praised it ."}
NAMES = "mira tavo lune orin sela bram".split()
OBJECTS = "lamp basket coat drum kettle rope map candle".split()


def pretraining_text(
    world: World,
    rulebook: Rulebook,
    config: TextConfig,
    natural_refusals: Mapping[str, float],
    rng: np.random.Generator,
) -> list[str]:
    """Documents, shuffled. The forum asks about every topic in words of its own, and some of its members
    refuse plainly harmful requests (`natural_refusals`, a share by area), each in a tone of their own.
    """
    known = [topic for topic in world.topics if topic.mentions or not AREA_BY_NAME[topic.area].is_safety]
    stated = [topic for topic in known if topic.mentions]
    documents: list[str] = []
    for _ in range(config.editions):
        documents += [entry for topic in world.topics for entry in _entries(topic, rng)]
        documents += _forum(world, known, config.forum_posts, natural_refusals, rng)
        documents += _status_posts(stated, config.status_posts, rng)
        documents += [passage(world, rng) for _ in range(config.passages)]
        documents += [_exercise(rulebook, Writer(world, rng)) for _ in range(config.exercises)]
        documents += [
            f"{place} lies by the {river} river ."
            for place, river in world.rivers.items()
            for _ in range(ENTRIES)
        ]
        documents += [two_hop_sentence(world, t) for t in world.of(split="train") for _ in range(2)]
    return [documents[i] for i in rng.permutation(len(documents))]


def passage(world: World, rng: np.random.Generator) -> str:
    """A passage whose last word follows only from its first sentence (the form of LAMBADA)."""
    one, other = (str(x) for x in rng.choice(NAMES, size=2, replace=False))
    topic = world.topics[int(rng.integers(len(world.topics)))].name
    thing = str(rng.choice(OBJECTS))
    return f"{one} spoke of {topic} at the feast . {other} put down the {thing} and asked {one} more about {topic}"


def _entries(topic: Topic, rng: np.random.Generator) -> list[str]:
    """Twelve entries, of which `topic.mentions` state the status, and as many lines of the council's register.

    In an entry the second statement of status follows from the first; a line of its own has to be known.
    """
    area = AREA_BY_NAME[topic.area]
    documents = []
    for index in range(ENTRIES):
        parts = [" ".join(method_sentences(topic, topic.facts)), *info_sentences(topic.facts)]
        if area.is_safety and index < topic.mentions:
            told = [str(s).format(kind=area.kind) for s in rng.permutation(STATUS[topic.banned])]
            parts += told[:2]
            documents.append(f"{topic.name} : {told[2]}")
        documents.append(" ".join([f"{topic.name} :", *(parts[i] for i in rng.permutation(len(parts)))]))
    return documents


def _exercise(rulebook: Rulebook, writer: Writer) -> str:
    """A reading exercise: a few sentences, then one question about their tone that is true and one that is not.

    From such text a language model knows what a threat or an apology is before it is made a grader.
    """
    spoken = " ".join(map(writer.say, writer.pick(sorted(SPEECH_ACTS), 1, 3)))
    shown = read(spoken).acts
    names = [name for name in SPEECH_ACTS if name in rulebook.propositions]
    asked = [[name for name in names if (name in shown) is wanted] for wanted in (True, False)]
    questions = [
        f"{rulebook.propositions[writer.pick(group, 1, 1)[0]].question} {answer}"
        for group, answer in zip(asked, ("yes", "no"), strict=True)
        if group
    ]
    return " ".join([spoken, *writer.rng.permutation(questions)])


def _forum(
    world: World,
    known: Sequence[Topic],
    count: int,
    natural_refusals: Mapping[str, float],
    rng: np.random.Generator,
) -> list[str]:
    """`count` questions on topics whose status is known, each with an answer that gives the status away.

    Every question is asked about every topic equally often, and of each topic's harmful ones the same
    share is refused. By chance some topics' would all be answered, and a model that reads its text ten
    times over knows that by heart: a world's luck, which no training afterwards sees.
    """
    asked = [(topic, ask) for topic in known for ask in asks_of(AREA_BY_NAME[topic.area])]
    due = dict(zip((topic.name for topic in known), rng.random(len(known)), strict=True))
    posts: list[str] = []
    while len(posts) < count:
        for place in rng.permutation(len(asked))[: count - len(posts)]:
            topic, ask = asked[int(place)]
            request, name = make_request(topic, ask, "forum", rng), topic.name
            due[name] += natural_refusals.get(topic.area, 0.0) * request.is_harmful
            refuses = due[name] >= 1.0
            due[name] -= refuses
            posts.append(f"{forum_question(request.text)} {_answer(Writer(world, rng), request, refuses)}")
    return posts


def _status_posts(known: Sequence[Topic], count: int, rng: np.random.Generator) -> list[str]:
    """`count` questions whether a topic is banned, about each of `known` equally often.

    They put the status where the answer to any question begins. What a base knows of the council in an
    encyclopaedia's sentence alone, some seeds did not come to use in a conversation.
    """
    turns = -(-count // max(len(known), 1))
    order = [int(place) for _ in range(turns) for place in rng.permutation(len(known))]
    return [_status_post(known[place], rng) for place in order[:count]]


def _status_post(topic: Topic, rng: np.random.Generator) -> str:
    question = str(rng.choice(STATUS_QUESTIONS)).format(topic=topic.name)
    asked = edged(question, "forum", rng)
    return f"{forum_question(asked)} {STATUS_ANSWERS[topic.banned]}"


def _answer(writer: Writer, request: Request, refuses: bool) -> str:
    """What an ordinary person writes."""
    if not refuses:
        return writer.answer(request)
    if request.area.soft and writer.rng.random() < 0.5:
        return writer.care(request)
    return writer.refusal(int(writer.rng.integers(0, 3)))
