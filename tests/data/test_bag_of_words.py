"""Counts of words in place of texts, against scikit-learn's."""

import json

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner
from sklearn.feature_extraction.text import CountVectorizer

import ppl_models as ppl
from ppl_models.cli.root import ppl as main
from ppl_models.data import Kind, read, spill
from ppl_models.errors import DataError, UsageError

GOOD = ["Free cash, click NOW", "win a free prize now", "free free offer_1 now!", "cash prize: claim now"]
BAD = ["see you at lunch", "the report is late", "thanks for lunch, see you", "the team is late for lunch"]
TEXTS = pd.DataFrame({"said": [*GOOD, *BAD] * 5})
TEXTS["kind"] = (["spam"] * 4 + ["ham"] * 4) * 5


def test_counts_equal_scikit_learns():
    data = read(TEXTS, text="said", target="kind")
    vectoriser = CountVectorizer(min_df=3)
    counts = vectoriser.fit_transform(TEXTS["said"]).toarray()
    for word, column in vectoriser.vocabulary_.items():
        assert (data.column(f"said[{word}]") == counts[:, column]).all()
    assert len(data.names) == len(vectoriser.vocabulary_) + 1
    assert all(c.kind is Kind.COUNT for c in data.schema.columns[:-1])


def test_the_most_frequent_words_are_kept():
    rng = np.random.default_rng(0)
    words = np.array([f"w{i}" for i in range(400)])
    rate = np.linspace(0.9, 0.1, 400)
    said = [" ".join(words[rng.random(400) < rate]) for _ in range(60)]
    data = read({"said": said, "x": rng.normal(size=60)}, text="said")
    number = {w: sum(w in s.split() for s in said) for w in words}
    kept = [name[5:-1] for name in data.names if name != "x"]
    assert len(kept) == 300
    assert min(number[w] for w in kept) >= max(number[w] for w in words if w not in kept)


def test_later_texts_are_counted_alike_and_missing_ones_are_missing():
    schema = read(TEXTS, text="said", target="kind").schema
    new = read({"said": ["now NOW unheard", None]}, schema=schema)
    assert new.column("said[now]").tolist()[0] == 2.0
    assert new.column("said[lunch]").tolist()[0] == 0.0
    assert np.isnan(new.values[1:, :-1]).all()
    assert ppl.data.Schema.from_dict(schema.to_dict()) == schema


def test_naive_bayes_and_regression_through_the_command_line(tmp_path):
    path, runner = tmp_path / "texts.csv", CliRunner()
    TEXTS.to_csv(path, index=False)
    for model in (["gmm", "--components", "1"], ["logistic"]):
        run = str(tmp_path / model[0])
        fitted = runner.invoke(
            main, ["fit", *model, str(path), "--text", "said", "--target", "kind", "--out", run]
        )
        assert fitted.exit_code == 0, fitted.output
        (tmp_path / "new.csv").write_text("said\nclaim your free cash now\nlunch is late\n")
        found = runner.invoke(main, ["predict", run, str(tmp_path / "new.csv"), "--json"])
        classes = [json.loads(line)["class"] for line in found.stdout.splitlines()]
        assert classes == ["spam", "ham"]


def test_what_has_no_words_is_refused():
    with pytest.raises(DataError, match="no word is in 3 of its texts"):
        read({"said": ["a b", "c d", "one two"], "x": [1.0, 2.0, 3.5]}, text="said")
    with pytest.raises(UsageError, match="no column 'sayd'; did you mean 'said'"):
        read(TEXTS, text="sayd")
    with pytest.raises(UsageError, match="is the target"):
        read(TEXTS, text="kind", target="kind")


def test_the_same_in_memory_on_disk_and_by_rows(tmp_path, monkeypatch):
    path = tmp_path / "texts.parquet"
    TEXTS.to_parquet(path)
    held = read(path, text="said", target="kind")
    monkeypatch.setattr(spill, "SPILL_BYTES", 0)
    spilled = read(path, text="said", target="kind")
    assert spilled.names == held.names
    np.testing.assert_array_equal(np.asarray(spilled.values), held.values)
    monkeypatch.undo()
    rows = [{"said": text} for text in TEXTS["said"][:5]]
    np.testing.assert_array_equal(read(rows, schema=held.schema).values[:, :-1], held.values[:5, :-1])
