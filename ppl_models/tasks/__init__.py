"""The verbs, as functions of a fit: each takes data, read against the fit's schema, and gives a table."""

from ppl_models.tasks.prediction import predict, score, transform
from ppl_models.tasks.simulation import forecast, impute, sample
from ppl_models.tasks.summaries import states_table, summary

__all__ = ["forecast", "impute", "predict", "sample", "score", "states_table", "summary", "transform"]
