"""Utterances drawn from Home Assistant's sentence templates by random walks.

A template such as `turn (on|off) [the] {area} lights` stands for up to millions of sentences; enumerating
them takes half a minute, walking through it and choosing at every fork takes microseconds.
"""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any

from hassil.expression import (
    Alternative,
    Expression,
    Group,
    ListReference,
    RuleReference,
    Sentence,
    Sequence,
    TextChunk,
)
from hassil.intents import Intents, RangeSlotList, SlotList, TextSlotList, WildcardSlotList
from hassil.util import normalize_whitespace

if TYPE_CHECKING:
    from collections.abc import Mapping

_OWN_LISTS = {  # every home has its own; the package leaves them open
    "area": ("kitchen", "bedroom", "garage", "living room"),
    "floor": ("first floor", "basement"),
    "name": ("lamp", "heater", "fan", "speaker", "blinds"),
}
_ANYTHING = ("milk", "pizza", "jazz", "dinner", "the garden", "laundry")  # for {wildcards}
_TRIES = 20  # walks for each utterance wanted, before a template counts as exhausted
_TEST_SHARE = 4  # one template in this many is kept for testing


class Sampler:
    """Draws different utterances of an intent, the same ones for the same seed."""

    def __init__(self, document: Mapping[str, Any], seed: int) -> None:
        self._parsed = Intents.from_dict(dict(document))
        self._lists: dict[str, SlotList] = dict(self._parsed.slot_lists)
        for name, values in _OWN_LISTS.items():
            self._lists.setdefault(name, TextSlotList.from_strings(values))
        self._seed = seed

    def intents(self) -> list[str]:
        """Names of all intents, sorted."""
        return sorted(self._parsed.intents)

    def num_templates(self, intent: str) -> int:
        """How many templates an intent has."""
        return len(self._templates(intent))

    def split(self, intent: str, num_train: int, num_test: int) -> tuple[list[str], list[str]]:
        """Utterances to train on and, from other templates, to test on; disjoint."""
        rng = random.Random(f"{self._seed} {intent}")  # noqa: S311 - a reproducible draw of sentences
        templates = self._templates(intent)
        rng.shuffle(templates)
        cut = max(1, len(templates) // _TEST_SHARE)
        test = self._draw(templates[:cut], num_test, rng)
        train = self._draw(templates[cut:], num_train, rng)
        known = set(train)
        return train, [text for text in test if text not in known]

    def _templates(self, intent: str) -> list[tuple[Sentence, dict[str, Sentence]]]:
        rules = self._parsed.expansion_rules
        return [
            (sentence, {**rules, **block.expansion_rules})
            for block in self._parsed.intents[intent].data
            for sentence in block.sentences
        ]

    def _draw(
        self,
        templates: list[tuple[Sentence, dict[str, Sentence]]],
        num: int,
        rng: random.Random,
    ) -> list[str]:
        found: dict[str, None] = {}  # a set that keeps the order of the draw
        for turn in range(num * _TRIES):
            if len(found) == num:
                break
            sentence, rules = templates[turn % len(templates)]
            text = normalize_whitespace(self._walk(sentence.expression, rules, rng)).strip()
            found.setdefault(text)
        return list(found)

    def _walk(self, at: Expression, rules: Mapping[str, Sentence], rng: random.Random) -> str:
        """One sentence of an expression: at every fork one way is taken."""
        if isinstance(at, TextChunk):
            return at.original_text
        if isinstance(at, RuleReference):
            return self._walk(rules[at.rule_name].expression, rules, rng)
        if isinstance(at, ListReference):
            return self._fill(self._lists[at.list_name], rules, rng)
        assert isinstance(at, Group), f"hassil made an expression of unknown type {type(at)}"  # noqa: S101
        if isinstance(at, Alternative):
            return self._walk(rng.choice(at.items), rules, rng)
        parts = [self._walk(item, rules, rng) for item in at.items]
        if isinstance(at, Sequence):
            return "".join(parts)
        rng.shuffle(parts)  # a permutation: all parts, in any order
        return " ".join(parts)

    def _fill(self, values: SlotList, rules: Mapping[str, Sentence], rng: random.Random) -> str:
        if isinstance(values, TextSlotList):
            return self._walk(rng.choice(values.values).text_in, rules, rng)
        if isinstance(values, RangeSlotList):
            return str(rng.choice(list(values.get_numbers())))
        assert isinstance(values, WildcardSlotList), f"unknown list {type(values)}"  # noqa: S101
        return rng.choice(_ANYTHING)
