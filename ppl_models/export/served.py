"""What MLflow executes of an exported fit: it loads the run, and answers by a verb of it."""

from typing import Any

from mlflow.models import set_model
from mlflow.pyfunc.model import PythonModel

import ppl_models as ppl


class Served(PythonModel):
    """A fit behind MLflow's `predict`."""

    def load_context(self, context: Any) -> None:
        """Load the run, with the file of its model where that is user-defined."""
        own = context.artifacts.get("model")
        self.fit = ppl.load(context.artifacts["run"], own and f"{own}:{context.model_config['class']}")

    def predict(self, context, model_input, params=None):  # MLflow takes types for a schema of the rows
        """The table of a verb, `predict` if no other is named, for rows as the fit takes them."""
        return getattr(self.fit, (params or {}).get("verb", "predict"))(model_input)


set_model(Served())
