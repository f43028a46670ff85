"""ONNX: what a fit predicts at the posterior mean of its parameters, as a graph that onnxruntime runs.

    x (n, P) float64  ↦  probabilities (n, C) | expected (n,) | log_density (n,)
    x (T, P) of a chain's sequence  ↦  filtered (T, K) | log_density (T,)
    x (n, P) of an autoencoder  ↦  latent (n, L) | latent_sd (n, L) | reconstruction (n, O)
    x (n, T) of a transformer's texts, −1 where one begins  ↦  logits (n, V) of what comes next

P columns in the order of the metadata `columns`, labels as the position of the level in it, NaN where a
cell is missing. Plugged in at the mean of θ rather than averaged over its posterior, predictions are a
little surer than those of `predict`. (ONNX, Open Neural Network Exchange, https://onnx.ai.)
"""

import json
import logging
import math
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ppl_models.capabilities import Exports, Graph
from ppl_models.data.schema import Schema
from ppl_models.draws import Draws
from ppl_models.errors import OutputError, Unsupported
from ppl_models.extras import needed
from ppl_models.record import Record
from ppl_models.registry import those

OPSET = 18
"""Version of the operators."""


def to_onnx(fit: Record, path: Path) -> None:
    """Write `path`.

    Raises:
        UsageError: onnx or onnxscript is not installed.
        Unsupported: the model has no graph.
        OutputError: the file cannot be written.
    """
    for name in ("onnx", "onnxscript"):
        needed(name, "onnx", "ONNX is written by")
    if not isinstance(fit.bound, Exports):
        there = those(lambda bound: issubclass(bound, Exports))
        raise Unsupported(f"{fit.name} has no graph for ONNX; {', '.join(there)} have one; see --to mlflow")
    model = proto(fit.bound.graph(at_mean(fit)), fit.data.schema)
    try:
        path.write_bytes(model.SerializeToString())
    except OSError as error:
        raise OutputError(f"{path} cannot be written: {error.strerror or error}") from None


def at_mean(fit: Record) -> Draws:
    """The mean of θ over the posterior, S = 1; nothing of a model without one."""
    return {
        factor: {site: value.double().mean(0, keepdim=True) for site, value in sites.items()}
        for factor, sites in fit.draws.items()
    }


def proto(graph: Graph, schema: Schema) -> Any:
    """The `ModelProto` of a graph, with the columns of a schema as metadata."""
    import onnx

    example = (torch.zeros(3, min(graph.steps, 2) or len(graph.columns), dtype=torch.float64),)
    sizes = {0: torch.export.Dim("rows")}
    if graph.steps:
        sizes[1] = torch.export.Dim("steps", min=1, max=graph.steps)
    with torch.no_grad(), _quiet():
        program = torch.export.export(graph.module.eval(), example, dynamic_shapes=(sizes,))
        program = program.run_decompositions({torch.ops.aten.lgamma.default: log_gamma})
        made = torch.onnx.export(
            program, example, dynamo=True, opset_version=OPSET, input_names=["x"],
            output_names=list(graph.outputs), verbose=False,
        )  # fmt: skip
    assert made is not None
    model = made.model_proto
    columns = [schema.columns[j] for j in graph.columns]
    about: dict[str, Any] = {
        "columns": [{"name": c.name, "kind": str(c.kind), "levels": list(c.levels)} for c in columns]
    }
    if schema.target is not None:
        target = schema.columns[schema.names.index(schema.target)]
        about["target"] = {"name": target.name, "levels": list(target.levels)}
    onnx.helper.set_model_props(model, {name: json.dumps(value) for name, value in about.items()})
    model.producer_name = "ppl_models"
    onnx.checker.check_model(model)
    return model


SHIFT = 10
"""Steps by which an argument is raised to where Stirling's series is good to 10⁻¹²."""

SERIES = (1 / 12, -1 / 360, 1 / 1260, -1 / 1680, 1 / 1188)
"""B_2k / (2k (2k − 1))."""


def log_gamma(x: Tensor) -> Tensor:
    """Log Γ(x), x > 0, in operators that ONNX has.

        log Γ(x) = log Γ(x + 10) − Σ_{i<10} log(x + i)

    and Stirling's series at x + 10 (Abramowitz & Stegun 1964, 6.1.41).
    """
    z = x + SHIFT
    found = (z - 0.5) * z.log() - z + 0.5 * math.log(2 * math.pi)
    for k, b in enumerate(SERIES):
        found = found + b / z ** (2 * k + 1)
    for i in range(SHIFT):
        found = found - (x + i).log()
    return found


@contextmanager
def _quiet() -> Iterator[None]:
    """Without what the exporter says of itself."""
    levels = {name: logging.getLogger(name).level for name in ("torch.onnx", "onnxscript", "onnx_ir")}
    for name in levels:
        logging.getLogger(name).setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for name, level in levels.items():
            logging.getLogger(name).setLevel(level)
