"""How often is the first advice of `recommend` within noise of the best of several systems?

    python benchmarks/recommend.py [DATA]

DATA is a directory as for benchmarks/compare.py; without it only the data sets of scikit-learn are
used. A set of more than 600 rows is cut to 600 at random, so that all of it takes minutes. Only targets
that are classes are tried.
"""

import sys
import warnings
from pathlib import Path

import pandas as pd
from compare import all_sets

import ppl_models as ppl
from ppl_models.comparison.result import _markdown

SYSTEMS = ["gmm:components=1,restarts=1", "logistic", "svm"]
PEERS = ["sklearn:RandomForestClassifier"]


def main(where: Path | None) -> None:
    """Print a row for each data set."""
    sets = {name: (table, [*SYSTEMS, *PEERS]) for name, table in all_sets(where).items()}
    sets.pop("digits")
    rows = []
    for name, (table, others) in sets.items():
        table = table.sample(min(len(table), 600), random_state=0).sort_index()
        advice = ppl.recommend(table, "y")
        models = list(dict.fromkeys([advice.first, *others]))
        found = ppl.compare(table, models, "y", folds=3, checks=False)
        gap = found.table.loc[advice.first]
        rows.append(
            {"data": name, "rows": len(table), "rule": advice.rule, "first": advice.first, "best": found.best}
            | {"difference": gap["difference"], "±": gap["standard_error"]}
            | {"within noise": advice.first in found.within_noise}
        )
        print(f"{name} done", file=sys.stderr, flush=True)
    table = pd.DataFrame(rows)
    print(_markdown(table))
    within = table["within noise"].sum()
    print(f"\nThe first advice was within noise of the best on {within} of {len(table)} sets.")


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else None)
