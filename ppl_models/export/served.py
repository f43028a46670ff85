"""What MLflow executes of an exported fit: it loads the run, and answers by a verb of it."""

from typing import Any

from mlflow.models import set_model
from mlflow.pyfunc.model import PythonModel

import ppl_models as ppl
from ppl_models.errors import UsageError
from ppl_models.verbs import VERBS

ASKED = [name for name, verb in VERBS.items() if verb.takes_data]
"""Verbs that say something of rows that are given."""


class Served(PythonModel):
    """A fit behind MLflow's `predict`."""

    def load_context(self, context: Any) -> None:
        """Load the run, with the file of its model where that is user-defined."""
        own = context.artifacts.get("model")
        self.fit = ppl.load(context.artifacts["run"], own and f"{own}:{context.model_config['class']}")

    def predict(self, context, model_input, params=None):  # MLflow takes types for a schema of the rows
        """The table of a verb, `predict` if no other is named, for rows as the fit takes them.

        Raises:
            UsageError: there is no such verb; nothing else of the fit can be called from outside.
        """
        verb = (params or {}).get("verb", "predict")
        if verb not in ASKED:
            raise UsageError(f"there is no verb {verb!r}; there are {', '.join(ASKED)}")
        return getattr(self.fit, verb)(model_input)


set_model(Served())
