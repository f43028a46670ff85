"""The façade: `Fit` with its verbs, and fit(), select(), load() and resume(), which give one."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import fields
from functools import cache
from inspect import Parameter, Signature, signature
from typing import TYPE_CHECKING, Any, Literal, final

from ppl_models import engine, runs
from ppl_models.annotations import hints
from ppl_models.checks import Report
from ppl_models.data import read, reading_options
from ppl_models.data.messages import Change
from ppl_models.errors import UsageError, warn
from ppl_models.inference.loop import Course, Progress
from ppl_models.inference.settings import every_setting
from ppl_models.model import Model
from ppl_models.record import Record
from ppl_models.report.text import fit_text
from ppl_models.threads import in_turn
from ppl_models.verbs import Verbs

if TYPE_CHECKING:
    from ppl_models.report.plot import Drawn


@final
class Fit(Verbs, Record):
    """A model fitted to data: what was learned, how training went, and the verbs.

    Attributes:
        model: the model.
        data: what it was fitted to.
        trained: the guide's statistics, ELBO, status and history.
        settings: seed, device and the like.
        origin: the model bound to the columns of the data.
        candidates: the scores of all models that were tried, when one was selected.
        path: the run directory it was loaded from or saved to, if any.
        absent: how many rows it was fitted to, where the run does without them.
        waited: seconds from the call to the fit: reading, and all models that were tried; 0 if not known.
    """

    @classmethod
    def of(cls, record: Record, **changes: Any) -> "Fit":
        """The same with verbs, and some fields changed; what was computed already is kept."""
        fit = cls(**{field.name: getattr(record, field.name) for field in fields(record)} | changes)
        fit.__dict__.update({name: value for name, value in record.__dict__.items() if name not in changes})
        return fit

    def check(self) -> Report:
        """Whether to trust the fit: checks with reasons and a verdict."""
        return self.report

    @in_turn
    def sensitivity(self) -> Any:
        """How much each parameter hangs on its prior, and on the data, by power scaling, as a table.

        `prior` and `likelihood` are what a doubling of either's power changes, from 0.05 on worth a thought;
        `says` what follows: see `ppl_models.sensitivity`.

        Raises:
            Unsupported: there is no posterior of parameters, or its draws do not carry so far.
        """
        from ppl_models.sensitivity import sensitivity

        return sensitivity(self)

    @in_turn
    def prior_predictive(self) -> Any:
        """What data the prior expects beside the data of the fit, statistic by statistic, as a table.

        `data` beside `median`, `lower` and `upper` of the 99.9 % interval of data sets drawn from the prior;
        `says` where the data is outside, or the prior absurdly wide: see `ppl_models.prior_predictive`.

        Raises:
            Unsupported: there is no prior that data can be drawn from.
        """
        from ppl_models.prior_predictive import prior_predictive

        return prior_predictive(self)

    @in_turn
    def to_arviz(self) -> Any:
        """The groups of `posterior` and of `prior` together, for `az.plot_dist_comparison` and the like.

        Raises:
            Unsupported: there is no prior that data can be drawn from; `posterior` is there nonetheless.
        """
        from ppl_models.prior import everything_to_arviz

        return everything_to_arviz(self)

    @in_turn
    def save(self, path: Any = None, *, force: bool = False, slim: bool = False) -> Any:
        """Write a run directory and return its path; `runs/MODEL-STEM-NNN` if none is given.

        Args:
            path: where.
            force: replace a run that is there.
            slim: leave out the rows of the fit, and what there is of each of them. The run predicts, scores,
                samples and sums up as any other; a verb without data, `resume` and the groups of the
                posterior that are of rows are then not there.

        Raises:
            OutputError: if it cannot be written, or a run is there already.
            UsageError: if it is to be slim, and the model needs its rows.
        """
        return runs.save(self, path, force=force, slim=slim)

    @in_turn
    def plot(
        self,
        kind: str | None = None,
        data: Any = None,
        *,
        columns: Sequence[str] | None = None,
        steps: int | None = None,
        level: float = 0.9,
        seed: int | None = None,
        ax: Any = None,
        figure: Any = None,
        file: Any = None,
        **reading: Any,
    ) -> "Drawn":
        """Draw the fit: a panel of the most telling pictures, or one of a kind.

        Which kinds there are follows from what the model can do: see docs/plots.md. Nothing of pyplot's state
        is touched.

        Args:
            kind: `states`, `calibration`, …; the panel if None. One that the fit cannot have is refused,
                naming those that it has.
            data: later rows, test data for calibration say; those of the fit if None.
            columns: columns or parameters to be shown, the most telling ones if None.
            steps: how many rows ahead, of `states` and `forecast`.
            level: probability of the intervals.
            seed: of draws; follows from the fit's if None.
            ax: matplotlib axes to draw into, for kinds that take one; made if None.
            figure: a matplotlib figure, or a part of one, to draw into.
            file: a file to write it to: `.png`, `.svg` or `.pdf`.
            **reading: options of `ppl_models.data.read`.

        Returns:
            The matplotlib axes in order; a notebook shows them as the picture.

        Raises:
            UsageError: there is no such kind or option, or files of this name are not written.
            OutputError: the file cannot be written.
        """
        from ppl_models.report.plot import drawn

        wish = {"columns": columns, "steps": steps, "level": level, "seed": seed, "reading": reading}
        return drawn(self, kind, data, wish, ax, figure, file)

    @in_turn
    def to_html(self, path: Any = None, other: "Fit | None" = None) -> str:
        """The report of the fit as one page of HTML that needs nothing else: see docs/report.md.

        Verdict, model, data, posterior, checks, predictions, and how it is reproduced, from aggregates alone.

        Args:
            path: a file to write it to.
            other: another fit to put beside it.

        Raises:
            OutputError: the file cannot be written.
        """
        from ppl_models.report.page import page

        return page(self, other, path)

    @in_turn
    def export(self, path: Any, to: Literal["onnx", "mlflow"] = "onnx") -> Any:
        """Write the fit for other programs, and return where: see docs/export.md.

        Args:
            path: a file for `onnx`, a folder for `mlflow`.
            to: `onnx`, what it predicts at the posterior mean; `mlflow`, the run with code that loads it.

        Raises:
            UsageError: a package that it needs is not installed.
            Unsupported: the fit has no such graph.
            OutputError: it cannot be written.
        """
        from ppl_models.export import export

        return export(self, path, to)

    @in_turn
    def _repr_html_(self) -> str:
        from ppl_models.report.notebook import fit_html

        return fit_html(self)

    @in_turn
    def __repr__(self) -> str:
        return fit_text(self)


@in_turn
def fit(
    model: Model,
    data: Any,
    target: Any = None,
    *,
    checkpoint: Any = None,
    progress: Progress | None = None,
    features_from: Any = None,
    rows_from: Any = None,
    rows: int | None = None,
    **options: Any,
) -> Fit:
    """Fit a model to data.

    Args:
        model: for instance `HMM(states=3)`.
        data: a path, `-` for stdin, a data frame, an array or a list of arrays, a pair `(X, y)` or
            `{"X": X, "y": y}`, or a `Dataset`. Of a Dask data frame under a `distributed.Client` the workers
            of its cluster share the fit, at most `workers` processes where that is given.
        target: the column that is to be predicted, or its values, one for each row.
        checkpoint: a run directory to write to while a fit by stochastic gradients is under way, so that
            `resume` can go on from there should the process die. Save the finished fit over it.
        progress: called after every step as (phase, step, ELBO, nats a parameter left to gain).
        features_from: a fit of a joint model, or its run, whose features of each row (responsibilities,
            latents) become further columns. Of later data they are made by its run, where it was saved.
        rows_from: a fit of a joint model of the same columns, or its run, from which further rows are drawn.
        rows: how many; as many as there are if None.
        **options: how to train, as the model's rule has it (`type(model).settings`: `seed`, `device`,
            `steps`, `tolerance`, `restarts`, …), and how to read the data (`columns`, `ignore`, `types`,
            `sequence`, `time`, `target`, …: see `ppl_models.data.read`).

    Returns:
        The fit. One that did not converge is returned as well, and says so in `status` and `check()`.

    Raises:
        DataError: if the data cannot be read, or the model cannot be fitted to it.
        UsageError: if an option cannot be meant.
    """
    began = time.perf_counter()
    model = engine.checked(model)
    given, reading = apart(options if target is None else options | {"target": target})
    settings = engine.settings_for(model, given)
    dataset = engine.read_for(model, data, reading)
    from ppl_models.comparison.helped import helped

    dataset = helped(dataset, _given(features_from), _given(rows_from), rows, settings.seed)
    keep = None if checkpoint is None else runs.keeper(checkpoint)
    found = engine.fitted(model, dataset, settings, Course(progress), keep)
    for note in found.trained.notes:
        if isinstance(note, Change):
            warn(f"{dataset.source}: {note}")
    return Fit.of(_noted(found, given), waited=time.perf_counter() - began)


@in_turn
def select(
    model: Model,
    data: Any,
    values: Mapping[str, Any],
    *,
    by: Literal["evidence", "held_out"] | None = None,
    folds: int = 5,
    progress: Progress | None = None,
    **options: Any,
) -> Fit:
    """Fit a model for each value of one field, and keep the one that has the most evidence or predicts best.

    See `ppl_models.selection.select` for what is compared, side by side in `Fit.candidates`.

    Args:
        model: the other fields.
        data: as for `fit`; read once.
        values: the field and its values, `{"states": range(1, 7)}`.
        by: `evidence`, which mixtures and chains have and go by if this is None, or `held_out` rows.
        folds: parts of the rows, by held-out rows.
        progress: as for `fit`.
        **options: as for `fit`.
    """
    began = time.perf_counter()
    given, reading = apart(options)
    from ppl_models import selection

    found = selection.select(engine.checked(model), data, values, given, reading, progress, by, folds)
    return Fit.of(found, waited=time.perf_counter() - began)


@in_turn
def load(path: Any, model: Any = None) -> Fit:
    """A fit from a run directory; nothing in it is executed.

    Args:
        path: the run directory.
        model: the class of a user-defined model, or `FILE.py:Class`, which is executed. Not needed where the
            model is built in, of a package, or of a file that this process has executed before.

    Raises:
        RunError: if it is damaged, foreign, of a newer version, or of a model whose code has changed since.
    """
    return Fit.of(runs.load(path, model))


@in_turn
def resume(
    path: Any,
    *,
    model: Any = None,
    steps: int | None = None,
    force: bool = False,
    checkpoint_every: float = 60.0,
    progress: Progress | None = None,
) -> Fit:
    """Go on with a fit from its run directory: on a CPU to the same numbers, bit for bit.

    A fit by stochastic gradients goes on from its checkpoint; one by natural gradients, which takes seconds,
    starts again from the data and seed of the run.

    Args:
        path: the run directory.
        model: as for `load`.
        steps: at most, in all; as many as the fit was given if not given.
        force: go on although the data or the versions of libraries have changed.
        checkpoint_every: seconds between two checkpoints, which are written to `path`.
        progress: called after every step.

    Raises:
        RunError: if it is damaged, or the data or a version has changed; it names the difference.
        UsageError: if there is nothing to resume.
    """
    from ppl_models import resuming

    return Fit.of(
        resuming.resume(
            path, model=model, steps=steps, force=force, checkpoint_every=checkpoint_every, progress=progress
        )
    )


def _given(run: Any) -> Record | None:
    """A fit, or that of a run directory."""
    return run if run is None or isinstance(run, Record) else runs.load(run)


def _noted(found: Record, given: Mapping[str, Any]) -> Record:
    """With a note on settings that are of other rules, and were left out."""
    other = [name for name in given if name not in hints(type(found.settings))]
    if not other:
        return found
    return found.noted(
        f"{found.name} is not trained by a rule with {', '.join(other)}, which made no difference"
    )


@cache
def _reading() -> dict[str, Parameter]:
    """The options of `read` that a fit may be given."""
    own = signature(read).parameters
    lengths = {"lengths": own["lengths"]}
    named = {o.name: own[o.name] for o in reading_options("fit") if o.name in own} | lengths
    formats = {
        o.name: Parameter(o.name, Parameter.KEYWORD_ONLY, default=o.default, annotation=o.type)
        for o in reading_options("fit")
        if o.name not in own
    }
    return named | formats


def apart(options: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Settings of the training, and options of reading.

    Raises:
        UsageError: an option is neither.
    """
    settings, reading = every_setting(), _reading()
    for name in options:
        if name not in settings and name not in reading:
            from difflib import get_close_matches

            close = get_close_matches(name, [*settings, *reading], n=2)
            hint = f"did you mean {' or '.join(close)}?" if close else f"there are {', '.join(settings)}"
            raise UsageError(f"fit has no option {name!r}; {hint}")
    given = {name: value for name, value in options.items() if name in settings}
    return given, {name: value for name, value in options.items() if name in reading}


def _shown(function: Any) -> Signature:
    """The signature with every option in the place of `**options`, for notebooks and help()."""
    own = signature(function)
    before = [p for p in own.parameters.values() if p.kind is not Parameter.VAR_KEYWORD]
    options = [
        Parameter(name, Parameter.KEYWORD_ONLY, default=default, annotation=about.plain)
        for name, (about, default) in every_setting().items()
    ]
    names = {p.name for p in before}
    options += [p.replace(kind=Parameter.KEYWORD_ONLY) for p in _reading().values() if p.name not in names]
    return own.replace(parameters=[*before, *options])


fit.__signature__ = _shown(fit)  # type: ignore[attr-defined]
select.__signature__ = _shown(select)  # type: ignore[attr-defined]
