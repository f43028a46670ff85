"""Each rule of recommend(), and the facts that they look at."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import ppl_models as ppl
from ppl_models.comparison.advice import RULES, Facts, checked_words, decide, facts_of

ALL = "gmm hmm vae gan transformer logistic glm svm mlp cnn rnn".split()
BASE = Facts("x.csv", 1000, 8)
CLASSES = replace(BASE, target="y", classes=2, rarest=0.4)
NUMBER = replace(BASE, target="y")
CASES = {
    "text": replace(BASE, text=True),
    "images to predict": replace(CLASSES, image=True),
    "images": replace(BASE, image=True),
    "sequences to predict": replace(CLASSES, sequences=30),
    "sequences": replace(BASE, in_time=True),
    "labels missing": replace(CLASSES, unlabelled=0.9),
    "cells missing": replace(CLASSES, missing=0.2),
    "counts": replace(NUMBER, counts=True),
    "few numbers": replace(NUMBER, rows=100),
    "numbers": NUMBER,
    "few rows of a class": replace(CLASSES, rows=60),
    "few columns": CLASSES,
    "many rows": replace(CLASSES, rows=20_000),
    "classes": replace(CLASSES, labelled=3),
    "much to generate": replace(BASE, question="generate", rows=9_000),
    "rows": BASE,
}


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.name)
def test_a_rule_decides_where_it_should(rule):
    assert decide(CASES[rule.name], ALL) is rule


def test_a_rule_whose_systems_are_not_installed_is_passed_over():
    assert decide(CASES["text"], ["gmm", "vae"]).name == "rows"


def test_every_word_of_the_rules_can_be_meant():
    assert len(checked_words()) >= 8


def test_values_of_many_rows_are_set_apart_by_joint_models():
    rng = np.random.default_rng(0)
    gain = np.where(rng.random(200) < 0.6, 0.0, rng.normal(50, 10, 200))
    advice = ppl.recommend(pd.DataFrame({"gain": gain, "b": rng.normal(size=200)}))
    assert advice.facts.spiked == ("gain",)
    assert advice.first == "gmm:marginals=auto"
    assert advice.commands[0] == "ppl fit gmm DATA --marginals auto"
    assert any("gain" in note for note in advice.notes)


def test_the_facts_of_a_table():
    rng = np.random.default_rng(0)
    table = pd.DataFrame({"a": rng.normal(size=50), "b": ["u", "v"] * 25, "y": ["n"] * 45 + ["p"] * 5})
    table.loc[:9, "a"] = np.nan
    facts = facts_of(ppl.read(table, target="y"))
    assert (facts.rows, facts.columns, facts.labelled, facts.classes) == (50, 2, 1, 2)
    assert facts.missing == pytest.approx(0.1)
    assert facts.rarest == pytest.approx(0.1)
    advice = ppl.recommend(table, "y")
    assert advice.commands[-1].startswith(f"ppl compare DATA --target y {advice.first} {advice.second}")


def test_to_predict_a_target_is_needed():
    with pytest.raises(ppl.UsageError, match="say which column"):
        ppl.recommend(pd.DataFrame({"a": [1.5, 2.0, 3.1]}), question="predict")


def test_the_rules_are_in_the_docs_in_their_order():
    page = (Path(__file__).parents[2] / "docs" / "compare.md").read_text(encoding="utf-8")
    rows = [line.split(" | ") for line in page.partition("| rule |")[2].splitlines()[2:] if line[:1] == "|"]
    said = [(row[0].strip("| "), row[2].strip("`"), row[3].strip("`"), row[4].rstrip("| ")) for row in rows]
    assert said == [(rule.name, rule.first, rule.second, rule.why) for rule in RULES]
