"""Utterances: drawn from templates, repeatable, and split so that test templates are new."""

from __future__ import annotations

from typing import Any

import pytest

pytest.importorskip("hassil", reason="the demo's data packages are not installed")

from daemon.demo.utterances import Sampler

DOCUMENT: dict[str, Any] = {
    "language": "en",
    "intents": {
        "TurnOn": {
            "data": [
                {
                    "sentences": [
                        "(turn|switch) on [the] {name}",
                        "<please> light up the {area}",
                        "start {level} [percent]",
                        "power (up;now) {thing}",
                    ]
                }
            ]
        },
    },
    "lists": {"level": {"range": {"from": 1, "to": 9}}, "thing": {"wildcard": True}},
    "expansion_rules": {"please": "[please|kindly]"},
}


def sampler(seed: int = 0) -> Sampler:
    return Sampler(DOCUMENT, seed)


def test_the_same_seed_draws_the_same_utterances() -> None:
    assert sampler().split("TurnOn", 12, 6) == sampler().split("TurnOn", 12, 6)


def test_another_seed_draws_others() -> None:
    assert sampler(0).split("TurnOn", 12, 6) != sampler(1).split("TurnOn", 12, 6)


def test_utterances_are_different_from_each_other_and_as_many_as_asked_for() -> None:
    train, _ = sampler().split("TurnOn", 12, 6)
    assert len(set(train)) == len(train) == 12


def test_test_utterances_come_from_templates_that_training_does_not_use() -> None:
    def template(text: str) -> str:
        words = text.split()
        if "light" in words:
            return "light"
        return next(word for word in ("start", "power", "on") if word in words)

    for seed in range(5):
        train, test = sampler(seed).split("TurnOn", 12, 6)
        assert test
        assert {template(text) for text in train}.isdisjoint(template(text) for text in test)


def test_an_exhausted_template_gives_what_it_has() -> None:
    document = {**DOCUMENT, "intents": {"Stop": {"data": [{"sentences": ["stop", "halt [now]"]}]}}}
    train, test = Sampler(document, 0).split("Stop", 50, 50)
    assert set(train) | set(test) == {"stop", "halt", "halt now"}


def test_no_utterance_holds_a_sign_of_the_template_language() -> None:
    train, test = sampler().split("TurnOn", 12, 6)
    assert not [text for text in train + test if set(text) & set("()[]{}<>|;")]
