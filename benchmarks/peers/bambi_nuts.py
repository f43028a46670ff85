"""Bambi on logistic regression: python bambi_nuts.py FILE.csv SAMPLER, its defaults otherwise."""

import json
import logging
import sys
import warnings

import arviz as az
import bambi as bmb
import pandas as pd

if __name__ == "__main__":
    warnings.simplefilter("ignore")
    logging.disable(logging.INFO)
    frame = pd.read_csv(sys.argv[1])
    names = [name for name in frame.columns if name != "y"]
    model = bmb.Model(f"y ~ {' + '.join(names)}", frame, family="bernoulli")
    options = {"progressbar": False} if sys.argv[2] != "nutpie" else {"progress_bar": False}
    run = model.fit(inference_method=sys.argv[2], random_seed=0, **options)
    table = az.summary(run)
    print(json.dumps({"version": f"Bambi {bmb.__version__}", "ess": float(table["ess_bulk"].min())}))
