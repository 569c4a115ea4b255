"""Read a rulebook's YAML and check every name in it, each fault in one line with its place."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NoReturn

from evals.rules.propositions import Polarity, Proposition, Wanted
from evals.values.conversation import KINDS, ResponseType
from evals.values.errors import InputError
from evals.values.levels import Levels, LevelsError, levels_of, words_of
from evals.values.located_yaml import LocatedMapping, load_located_yaml

SECTIONS = (
    "prompt_template",
    "response_types",
    "prompt_questions",
    "completion_class_order",
    "completion_classes",
    "derived_propositions",
    "simple_propositions",
)
CLASS_PREFIX = "class:"  # of the features that stand for classes
MOST = {"simple_propositions": 1000, "derived_propositions": 5000, "completion_classes": 500}
QUESTIONS = "prompt_questions"  # the feature that the prompts' own questions are, and the key of its types
OWN_TYPES = "response_types"
DEEPEST = 100  # derived propositions inside each other


def read_parts(path: Path) -> dict[str, Any]:
    """The arguments of a `Rulebook`. Raises InputError with file and line."""
    reader = _Reader(path)
    top = load_located_yaml(path)
    reader.known_keys(top, SECTIONS, "the file")
    simple, derived, classes = (
        reader.section(top, name)
        for name in ("simple_propositions", "derived_propositions", "completion_classes")
    )
    reader.distinct(simple, derived)
    reader.read_levels(simple)
    names = {*simple, *derived}
    types = reader.own_types(top)
    conditions = {name: reader.condition(derived, name, names) for name in derived}
    reader.refuse_circles(conditions, derived)
    by_class = {name: reader.completion_class(classes, name, names, types) for name in classes}
    reader.all_used(top, types, by_class)
    return {
        "propositions": {name: reader.proposition(simple, name) for name in simple},
        "derived": conditions,
        "classes": by_class,
        "class_order": reader.order(top, classes),
        "prompt_template": reader.template(top),
        "prompt_questions": reader.asking(top, types, by_class),
        "path": path,
        "lines": {
            **top.lines,
            **simple.lines,
            **derived.lines,
            **{f"class:{n}": k for n, k in classes.lines.items()},
        },
    }


class _Reader:
    def __init__(self, path: Path) -> None:
        self.path = path
        self.of_levels: dict[str, Levels] = {}  # of the propositions that have any

    def fail(self, problem: str, fix: str, line: int | None, field: str | None = None) -> NoReturn:
        raise InputError(problem, fix=fix, path=self.path, line=line, field=field)

    def known_keys(self, mapping: LocatedMapping, known: tuple[str, ...], place: str) -> None:
        for key in mapping:
            if key not in known:
                self.fail(
                    f"unknown key in {place}", f"use one of {', '.join(known)}", mapping.lines[key], key
                )

    def section(self, top: LocatedMapping, name: str) -> LocatedMapping:
        value = top.get(name)
        if name == "derived_propositions" and value is None:
            return LocatedMapping()
        if not isinstance(value, LocatedMapping) or not value:
            self.fail("is missing or is not a mapping", f"add '{name}:'", top.lines.get(name), name)
        if len(value) > MOST[name]:
            fix = "a grader answers each for each response: keep those that decide"
            self.fail(
                f"has {len(value)} entries, and {MOST[name]} are the most", fix, top.lines.get(name), name
            )
        return value

    def distinct(self, simple: LocatedMapping, derived: LocatedMapping) -> None:
        for name in derived:
            if name in simple:
                self.fail(
                    f"'{name}' is also a simple proposition (line {simple.lines[name]})",
                    "give one of the two another name",
                    derived.lines[name],
                    name,
                )

    def proposition(self, simple: LocatedMapping, name: str) -> Proposition:
        body, line = simple[name], simple.lines[name]
        if name.startswith(CLASS_PREFIX) or name == QUESTIONS:
            is_class = name != QUESTIONS
            self.fail(
                f"'{CLASS_PREFIX}' begins the features of the classes"
                if is_class
                else "it is the feature of the prompts' own questions",
                "give the proposition another name",
                line,
                name,
            )
        if not isinstance(body, LocatedMapping):
            self.fail("the proposition is not a mapping", "write 'prompt: the question' below it", line, name)
        self.known_keys(body, ("prompt", "polarity", "examples", "levels"), f"proposition '{name}'")
        question = body.get("prompt")
        if not isinstance(question, str) or not question.strip():
            self.fail("the proposition has no question", "write 'prompt: the question'", line, name)
        levels = self.of_levels.get(name, ())
        return Proposition(
            name, question, self.examples(body, name, levels), self.polarity(body, name), levels
        )

    def read_levels(self, simple: LocatedMapping) -> None:
        """What conditions may name."""
        for name, body in simple.items():
            if isinstance(body, LocatedMapping) and "levels" in body:
                self.of_levels[name] = self.levels(body, name)

    def levels(self, body: LocatedMapping, name: str) -> Levels:
        found = body["levels"]
        if isinstance(found, LocatedMapping):  # YAML 1.1 reads a bare yes or no as a truth value
            found = {found.written.get(word, word): score for word, score in found.items()}
        try:
            return levels_of(found)
        except LevelsError as error:
            self.fail(str(error), error.fix, body.lines["levels"], f"{name}.levels")

    def polarity(self, body: LocatedMapping, name: str) -> Polarity:
        value = body.get("polarity", Polarity.NEUTRAL.value)
        try:
            return Polarity(value)
        except ValueError:
            known = ", ".join(p.value for p in Polarity)
            self.fail(
                f"unknown polarity {value!r}",
                f"use one of {known}",
                body.lines["polarity"],
                f"{name}.polarity",
            )

    def examples(self, body: LocatedMapping, name: str, levels: Levels) -> tuple[tuple[str, str], ...]:
        rows = body.get("examples", [])
        line = body.lines.get("examples")
        if not isinstance(rows, list):
            self.fail(
                "is not a list", "write '- {response: ..., answer: yes}' lines", line, f"{name}.examples"
            )
        return tuple(self.example(row, name, line, levels) for row in rows)

    def example(self, row: Any, name: str, line: int | None, levels: Levels) -> tuple[str, str]:
        # YAML 1.1 reads a bare yes or no as a truth value.
        answer = row.get("answer") if isinstance(row, dict) else None
        answer = {True: "yes", False: "no"}.get(answer, answer) if isinstance(answer, bool) else answer
        text = row.get("response") if isinstance(row, dict) else None
        answer = str(answer) if levels else answer  # a level may be a number
        known = [level.word for level in levels] or ["yes", "no"]
        if not isinstance(text, str) or answer not in known:
            self.fail(
                f"an example needs a response and the answer {words_of(levels) if levels else 'yes or no'}",
                f"write {{response: ..., answer: {known[-1] if levels else 'yes'}}}",
                line,
                f"{name}.examples",
            )
        return text, answer

    def condition(self, mapping: LocatedMapping, name: str, known: set[str]) -> dict[str, Wanted]:
        body = mapping[name]
        if not isinstance(body, LocatedMapping) or not body:
            self.fail("is not a mapping of propositions", "write 'name: true'", mapping.lines[name], name)
        for key, wanted in body.items():
            if key not in known:
                self.fail(
                    f"unknown proposition '{key}' in '{name}'",
                    "add it to simple_propositions or mend its name",
                    body.lines[key],
                    key,
                )
            if key not in self.of_levels and not isinstance(wanted, bool):
                self.fail(f"is {wanted!r} in '{name}'", "write true or false", body.lines[key], key)
        return {
            key: self.wanted_levels(wanted, key, name, body.lines[key]) if key in self.of_levels else wanted
            for key, wanted in body.items()
        }

    def wanted_levels(self, wanted: Any, key: str, name: str, line: int) -> Wanted:
        """True, false, a level, or a list of neighbours."""
        words = [level.word for level in self.of_levels[key]]
        given = wanted if isinstance(wanted, list) else [wanted]
        truth = next((word for word in given if isinstance(word, bool)), None)
        if truth is not None:
            read = [word for word in words if word.lower() in ("yes", "no", "on", "off", "true", "false")]
            if read or isinstance(wanted, list):
                fix = f'write the level in quotes: "{read[0] if read else words[0]}"'
                self.fail(f"is read as {str(truth).lower()} in '{name}'", fix, line, key)
            return truth
        unknown = next((word for word in given if str(word) not in words), None)
        if unknown is not None or not given:
            fix = f"write {words_of(self.of_levels[key])}, a list of neighbours, true or false"
            self.fail(f"is {wanted!r} in '{name}'", fix, line, key)
        places = sorted({words.index(str(word)) for word in given})
        if places != list(range(places[0], places[-1] + 1)) or len(places) == len(words):
            fix = "name some levels, but not all, without a gap between them"
            self.fail(f"is {wanted!r} in '{name}'", fix, line, key)
        return tuple(words[place] for place in places)

    def refuse_circles(self, conditions: dict[str, dict[str, Wanted]], derived: LocatedMapping) -> None:
        finished: set[str] = set()

        def visit(name: str, trail: tuple[str, ...]) -> None:
            if name in trail:
                circle = " -> ".join((*trail[trail.index(name) :], name))
                self.fail(
                    f"derived propositions go in a circle: {circle}",
                    "remove one of the references",
                    derived.lines[name],
                    name,
                )
            if len(trail) > DEEPEST:
                self.fail(
                    f"derived propositions lie more than {DEEPEST} deep inside each other",
                    "write the conditions out",
                    derived.lines[name] if name in derived else None,
                    name,
                )
            if name in conditions and name not in finished:
                for part in conditions[name]:
                    visit(part, (*trail, name))
                finished.add(name)

        for name in conditions:
            visit(name, ())

    def completion_class(
        self, classes: LocatedMapping, name: str, known: set[str], types: dict[str, ResponseType]
    ) -> dict[ResponseType, dict[str, Wanted]]:
        body = classes[name]
        if not isinstance(body, LocatedMapping):
            self.fail(
                "the class has no response types", "list response types below it", classes.lines[name], name
            )
        by_type: dict[ResponseType, dict[str, Wanted]] = {}
        for key in body:
            by_type[self.response_type(body, key, types)] = self.condition(body, key, known)
        return by_type

    def own_types(self, top: LocatedMapping) -> dict[str, ResponseType]:
        """Types of one's own by name, of `response_types: {NAME: KIND}`."""
        section = top.get(OWN_TYPES)
        if section is None:
            return {}
        if not isinstance(section, LocatedMapping):
            fix = f"write {OWN_TYPES}: {{NAME: KIND}}, KIND one of {', '.join(KINDS)}"
            self.fail("is not a mapping", fix, top.lines[OWN_TYPES], OWN_TYPES)
        found: dict[str, ResponseType] = {}
        for name, kind in section.items():
            line, field = section.lines[name], f"{OWN_TYPES}.{name}"
            if name in {t.value for t in ResponseType}:
                self.fail("is the paper's own", "give yours another name", line, field)
            try:
                found[name] = ResponseType.own(str(name), str(kind))
            except ValueError:
                fix = f"use a name of letters, digits and '_', and a kind of {', '.join(KINDS)}"
                self.fail(f"is {str(kind)[:60]!r}", fix, line, field)
        if len(set(found.values())) < len(found):
            self.fail("a name stands twice", "name each type once", top.lines[OWN_TYPES], OWN_TYPES)
        return found

    def all_used(
        self,
        top: LocatedMapping,
        types: dict[str, ResponseType],
        classes: dict[str, dict[ResponseType, dict[str, Wanted]]],
    ) -> None:
        for name, own in types.items():
            if not any(own in by_type for by_type in classes.values()):
                line = top[OWN_TYPES].lines[name]
                self.fail(f"no completion class has '{name}'", "add it to the classes", line, OWN_TYPES)

    def asking(
        self,
        top: LocatedMapping,
        types: dict[str, ResponseType],
        classes: dict[str, dict[ResponseType, dict[str, Wanted]]],
    ) -> frozenset[ResponseType]:
        """The types of `prompt_questions`; each must have completion classes, which say what is better."""
        names, line = top.get(QUESTIONS, []), top.lines.get(QUESTIONS)
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            self.fail("is not a list of response types", f"write {QUESTIONS}: [hard_refuse]", line, QUESTIONS)
        found = set()
        for name in names:
            own = types.get(name) or next((t for t in ResponseType if t.value == name), None)
            if own is None or not any(own in by_type for by_type in classes.values()):
                fix = "name response types that the completion classes have"
                self.fail(f"no completion class has '{name}'", fix, line, QUESTIONS)
            found.add(own)
        return frozenset(found)

    def response_type(self, body: LocatedMapping, key: str, types: dict[str, ResponseType]) -> ResponseType:
        if key in types:
            return types[key]
        try:
            return ResponseType(key)
        except ValueError:
            known = ", ".join([*(t.value for t in ResponseType), *types])
            fix = f"use one of {known}, or say its kind: {OWN_TYPES}: {{{key}: KIND}}, KIND of {', '.join(KINDS)}"
            self.fail(f"unknown response type '{key}'", fix, body.lines[key], key)

    def order(self, top: LocatedMapping, classes: LocatedMapping) -> tuple[str, ...]:
        field, line = "completion_class_order", top.lines.get("completion_class_order")
        names = top.get(field)
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            self.fail("is missing or is not a list of classes", "list the classes, best first", line, field)
        listed: set[str] = set()
        for name in names:
            if name not in classes:
                self.fail(
                    f"unknown class '{name}'", "add it to completion_classes or mend its name", line, field
                )
            if name in listed:
                self.fail(f"class '{name}' is listed twice", "list each class once", line, field)
            listed.add(name)
        for name in classes:
            if name not in listed:
                self.fail(f"class '{name}' has no place in the order", "list it", classes.lines[name], field)
        return tuple(names)

    def template(self, top: LocatedMapping) -> str | None:
        value = top.get("prompt_template")
        if value is not None and (not isinstance(value, str) or "{question}" not in value):
            self.fail(
                "the template has no place for the question",
                "write {question} where the question goes",
                top.lines["prompt_template"],
                "prompt_template",
            )
        return value
