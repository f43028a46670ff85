"""What models can do, as small protocols: numbers in, numbers out.

A bound model (a model over the columns of a schema) implements those that it can; a verb asks for them by
`isinstance`, and owns the rest: reading against the schema, seeds, how many draws, intervals, labels, the
table. Nothing is said by a name or a kind.

    protocol      what it gives                                          verbs
    Scores        log p(x_n | θ) of rows                                 score
    Bounded       a lower bound of it as well                            score
    Conditional   p(y_n | x_n), classes of a target                      predict, score
    Uncertain     the same for each draw of θ, so that it has intervals  predict
    Judged        the same, whether it is shown or not                   check
    Regresses     p(y_n | x_n) of a target that is a number              predict, score
    Assigns       p(z_n | x), discrete latents of rows                   predict
    Observes      p(x_n) of observed sites of a program                  predict
    Samples       new rows                                               sample
    Sequences     new sequences                                          sample, score by sequence
    Conditions    new sequences of a class                               sample --given
    OfSequences   a target of whole sequences, not of rows               predict, score, evaluate
    Writes        new texts                                              sample, score
    Tempered      draws less at random than its probabilities            sample
    Redraws       a table with what is random in it drawn anew           sample
    Continues     the rows that follow a sequence                        forecast
    Completes     missing cells                                          impute
    Latents       rows as features                                       transform
    Decodes       rows as their latents have them                        reconstruct
    Criticises    how much rows look like the data, without a density    anomalies
    Named         parameters in the user's units                         summary
    Summarises    more of them than their moments                        summary
    Priors        draws of the prior, by sites                           sample --prior, Fit.prior
    PriorDraws    draws of θ from the prior alone                        check --prior, Fit.prior, sbc
    Coefficients  coefficients of columns, of which sds are known        plot coefficients
    Programmed    is a Pyro program as well                              (contract)
    Selectable    evidence by which sizes are compared                   (selection)
    Tails         how far out rows are, given those before them          anomalies
    Explains      which cells of a row are surprising, and what was due  anomalies
    Importance    integrates latents by weighted draws, of any number    score, predict, impute
    Sparing       averages over as few draws of θ as the answer needs    predict, score, transform
    Direct        answers by the guide itself, where no draws are asked  predict, score, transform
    Exports       a graph of tensors that other programs can run         export

`draws` are draws of θ, S of them, or the one point estimate as S = 1; `rows` are what `Bound.rows` made of a
data set. Random numbers come from torch's global generator, which the verb has seeded.
"""

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, Self, runtime_checkable

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    import xarray as xr
    from torch import Tensor, nn

    from ppl_models.data import Dataset
    from ppl_models.draws import Draws, Params, Posterior, Variables
    from ppl_models.inference.calibration import Calibrated
    from ppl_models.inference.loop import Trained
    from ppl_models.inference.settings import Training


NETWORKS = "networks"
"""The factor that the weights of networks are under, in draws of models with a point estimate."""


class Fitted(Protocol):
    """A fit as those below it see it: what was fitted, to what, and how it went.

    Attributes:
        data: the rows of the fit.
        learned_from: the same as training saw them.
        trained: parameters, ELBO, status, history.
        settings: seed, device and the like.
        model: with its fields.
        candidates: the scores of all models that were tried, when one was selected.
        bound: the model over the columns, with what it learned.
    """

    @property
    def name(self) -> str:
        """What the model is called."""
        ...

    @property
    def data(self) -> "Dataset":
        """The rows of the fit."""
        ...

    @property
    def learned_from(self) -> "Dataset":
        """The rows as training saw them, which a robust fit leaves some out of."""
        ...

    @property
    def trained(self) -> "Trained":
        """How training went."""
        ...

    @property
    def settings(self) -> "Training":
        """Seed, device and the like."""
        ...

    @property
    def model(self) -> Any:
        """The model with its fields."""
        ...

    @property
    def candidates(self) -> tuple[Mapping[str, Any], ...]:
        """What was tried, when one was selected."""
        ...

    @property
    def bound(self) -> Any:
        """The model over the columns."""
        ...

    @property
    def params(self) -> "Params":
        """What was learned."""
        ...

    @property
    def batch(self) -> Any:
        """The rows on the device, ready to be scored."""
        ...

    @property
    def calibrated(self) -> "Calibrated":
        """The guide that draws come from."""
        ...

    @property
    def posterior_draws(self) -> "Posterior":
        """Draws of θ, weighed."""
        ...


class Probabilities(NamedTuple):
    """Of some rows.

    Attributes:
        index: (m,) positions of the rows.
        values: (S, m, C) probabilities of the classes under each draw.
    """

    index: "np.ndarray"
    values: "Tensor"


class Assigned(NamedTuple):
    """Discrete latents of rows.

    Attributes:
        name: of the latent: `state`, `component`.
        best: (n,) the most probable value of each row.
        shares: (n, K) probabilities by the name that their columns begin with.
        values: what the K values are called, 0 to K − 1 if not given.
    """

    name: str
    best: "np.ndarray"
    shares: Mapping[str, "np.ndarray"]
    values: "tuple[int | str, ...] | None" = None


class Sampled(NamedTuple):
    """New rows.

    Attributes:
        values: (N, C) cells in the user's units, codes for labels.
        beside: (N,) what else was drawn of each row, by name, such as its state.
        lengths: rows of each sequence, where these may end by themselves; None if all are of one length.
    """

    values: "np.ndarray"
    beside: Mapping[str, "np.ndarray"]
    lengths: "np.ndarray | None" = None


class Ahead(NamedTuple):
    """The rows after the last one of a sequence.

    Attributes:
        values: (S, T, C) draws of their cells.
        shares: (T, K) probabilities of the latents by the name that their columns begin with.
        names: of the K, 0 to K − 1 if not given.
    """

    values: "np.ndarray"
    shares: Mapping[str, "np.ndarray"]
    names: "tuple[int | str, ...] | None" = None


class Completed(NamedTuple):
    """Some rows with draws of their missing cells.

    Attributes:
        index: (m,) positions of the rows.
        drawn: (S, m, C) cells, observed ones as they are.
        best: column -> (m,) values to fill in, where better ones are known than the draws say.
        sure: column -> (m,) probabilities of these, of labels.
    """

    index: "np.ndarray"
    drawn: "np.ndarray"
    best: Mapping[int, "np.ndarray"]
    sure: Mapping[int, "np.ndarray"]


class Explained(NamedTuple):
    """The cells of some rows.

    Attributes:
        index: (m,) positions of the rows.
        marginal: (m, C) −log p(x_j), given the rows before; NaN where a cell is missing.
        conditional: (m, C) −log p(x_j | x_−j), given the row's other cells as well.
        drawn: (D, m, C) draws of each cell given the others.
    """

    index: "np.ndarray"
    marginal: "np.ndarray"
    conditional: "np.ndarray"
    drawn: "np.ndarray"


class Evidence(NamedTuple):
    """By what models of different sizes are compared.

    Attributes:
        orders: log K! of the K! orders of states that are equally good, of which a guide covers one.
        log_likelihood: of the rows, at the expected natural parameters.
        empty: states that no row is in, although they were not meant to stay empty.
    """

    orders: float
    log_likelihood: float
    empty: int


class Graph(NamedTuple):
    """Predictions at one θ as a function of cells that needs nothing else.

    Attributes:
        module: (n, P) float64 cells in the user's units, codes for labels, NaN where one is missing, ↦ a
            tensor for each output, rows first.
        columns: positions in the schema of the P columns.
        outputs: names: `probabilities` (n, C) of classes or components, `expected` (n,), `log_density` (n,).
        steps: 0; or at most so many values of the one column side by side, where a row is a sequence of them.
    """

    module: "nn.Module"
    columns: tuple[int, ...]
    outputs: tuple[str, ...]
    steps: int = 0


@runtime_checkable
class Exports(Protocol):
    """Has its predictions as a graph of tensors."""

    def graph(self, draws: "Draws") -> Graph:
        """At θ (S = 1), or of a model without a posterior as it is.

        Raises:
            Unsupported: what was fitted has a part that no such graph has.
        """
        ...


@runtime_checkable
class Selectable(Protocol):
    """Has an evidence by which its sizes can be compared."""

    def evidence(self, batch: Any, learned: "Params") -> Evidence:
        """What belongs beside the ELBO."""
        ...


@runtime_checkable
class Scores(Protocol):
    """Has a density of rows."""

    def log_density(self, rows: Any, draws: "Draws") -> "Tensor":
        """Log p(x_n | θ_s) in nats, of the user's units, (S, n): of a sequence given the rows before.

        Missing cells are integrated out; (S, 1) of all rows where they cannot be told apart.
        """
        ...


@runtime_checkable
class Bounded(Protocol):
    """Has a lower bound of the log density beside an estimate of it."""

    def log_density_bounds(self, rows: Any, draws: "Draws") -> "tuple[Tensor, Tensor]":
        """The evidence lower bound and the log density of each row, (n,) each."""
        ...


@runtime_checkable
class Conditional(Protocol):
    """Has the probabilities of the classes of a target given the other columns."""

    def labels(self) -> tuple[str, ...]:
        """Of the C classes."""
        ...

    def predictive(self, rows: Any, draws: "Draws") -> "np.ndarray":
        """p(y_n = c | x_n), averaged over the draws, (n, C); NaN where a predictor is missing."""
        ...

    def log_probability(self, rows: Any, draws: "Draws") -> "np.ndarray":
        """Log p(y_n | x_n) of the observed class, (n,); NaN where there is none."""
        ...


@runtime_checkable
class Uncertain(Protocol):
    """Has these probabilities under each draw of θ."""

    def probabilities(self, rows: Any, draws: "Draws") -> Iterator[Probabilities]:
        """Those of rows that have every predictor, some rows at a time."""
        ...


class Predictive(Protocol):
    """New observations of m rows under each of S draws of θ: what a torch distribution over (S, m) gives."""

    @property
    def mean(self) -> "Tensor":
        """E[y | x, θ_s] in the user's units, (S, m)."""
        ...

    def log_prob(self, value: "Tensor") -> "Tensor":
        """Log p(y | x, θ_s) in nats, of the user's units, (S, m), of values that broadcast against (S, m)."""
        ...

    def cdf(self, value: "Tensor") -> "Tensor":
        """P(new y ≤ value | x, θ_s), (S, m), of values that broadcast against (S, m)."""
        ...

    def sample(self) -> "Tensor":
        """One new observation of each row under each draw, (S, m), by torch's global generator."""
        ...


class Predicted(NamedTuple):
    """Of some rows.

    Attributes:
        index: (m,) positions of the rows.
        new: the distribution of a new observation.
        discrete: whether observations are whole numbers.
    """

    index: "np.ndarray"
    new: Predictive
    discrete: bool = False


@runtime_checkable
class Regresses(Protocol):
    """Has the distribution of a target that is a number, given the other columns."""

    def predicted(self, rows: Any, draws: "Draws") -> Iterator[Predicted]:
        """That of rows that have every predictor, some rows at a time, under each draw of θ."""
        ...


@runtime_checkable
class Judged(Protocol):
    """Has the probabilities of the classes under each draw of θ, by which predictions are judged."""

    def by_draw(self, rows: Any, draws: "Draws") -> Iterator[Probabilities]:
        """Those of rows that have every predictor, some rows at a time; labels are not looked at."""
        ...


@runtime_checkable
class Assigns(Protocol):
    """Has discrete latents of rows."""

    def assign(self, rows: Any, draws: "Draws", learned: "Params") -> Assigned:
        """Their most probable values, and their probabilities averaged over the draws.

        Args:
            rows: as the model takes them.
            draws: of θ.
            learned: the guide that training left, which the most probable values go by.
        """
        ...


@runtime_checkable
class Observes(Protocol):
    """A program whose observed sites and latents are of rows."""

    def observed(self, rows: Any, draws: "Draws") -> "dict[str, np.ndarray]":
        """Draws (S, n) of sites that have one number for every row, given θ and not the row's own value."""
        ...

    def enumerated(self, rows: Any, draws: "Draws") -> "dict[str, np.ndarray]":
        """Probabilities (n, K) of discrete latents, one for every row, given what was observed."""
        ...

    def shapes_observed(self) -> str:
        """What it observes, in words."""
        ...


@runtime_checkable
class Samples(Protocol):
    """Makes up rows."""

    def sample(self, number: int, draws: "Draws", given: "Dataset | None") -> Sampled:
        """N independent rows, each from a draw of its own; the cells of the row `given` stay.

        Args:
            number: N.
            draws: of θ, from which each row takes one at random.
            given: one row, whose cells that are not missing are to stay.
        """
        ...


@runtime_checkable
class Sequences(Protocol):
    """Makes up sequences."""

    def sample_sequences(self, number: int, steps: int, draws: "Draws") -> Sampled:
        """`number` sequences of `steps` rows, one below the other, each from a draw of its own.

        Args:
            number: of sequences.
            steps: rows of each.
            draws: of θ, from which each sequence takes one at random.
        """
        ...


@runtime_checkable
class Conditions(Protocol):
    """Makes up sequences of a class."""

    def sample_given(self, number: int, steps: int, draws: "Draws", given: "Dataset") -> Sampled:
        """As `sample_sequences`, of one class.

        Args:
            number: of sequences.
            steps: rows of each.
            draws: of θ, from which each sequence takes one at random.
            given: one row, whose target is the class.

        Raises:
            UsageError: other columns than the target are given.
        """
        ...


@runtime_checkable
class Writes(Protocol):
    """Makes up texts, of whose bytes its rows are."""

    def write(self, number: int, length: int, prompt: str, draws: "Draws") -> list[str]:
        """Texts that begin with a prompt.

        Args:
            number: how many.
            length: bytes after the prompt, at most.
            prompt: what each begins with.
            draws: of θ.
        """
        ...


@runtime_checkable
class OfSequences(Protocol):
    """Has a target of whole sequences: each of the rows of one has its answer."""

    def label_of_sequences(self, data: "Dataset") -> "np.ndarray":
        """(sequences,) codes of the target, NaN where a sequence has none.

        Raises:
            DataError: a sequence has several.
        """
        ...


@runtime_checkable
class Tempered(Protocol):
    """Can draw less at random than its probabilities say."""

    def tempered(self, temperature: float, top_p: float) -> Self:
        """The same, drawing so.

        Args:
            temperature: T of p^(1/T), 0 for the most probable value.
            top_p: what the most probable values, of which alone some are drawn, have together.
        """
        ...


@runtime_checkable
class Redraws(Protocol):
    """Makes up what is random in a table, given the rest."""

    def redraw(self, data: "Dataset", draws: "Draws", tables: int) -> "np.ndarray | dict[str, Tensor]":
        """(tables, n, C); sites by name, (tables, ...), where none is a column.

        Args:
            data: the table, of which what is not random stays.
            draws: of θ.
            tables: how many.
        """
        ...


@runtime_checkable
class Continues(Protocol):
    """Goes on from the end of a sequence."""

    def ahead(self, rows: Any, steps: int, draws: "Draws") -> Iterator[Ahead]:
        """The `steps` rows after each sequence, sequence by sequence.

        Args:
            rows: the sequences, as the model takes them.
            steps: how far.
            draws: of θ.
        """
        ...


@runtime_checkable
class Completes(Protocol):
    """Fills in missing cells."""

    def complete(
        self, data: "Dataset", holes: "np.ndarray", number: int, draws: "Draws"
    ) -> Iterator[Completed]:
        """The rows at positions `holes`, some at a time, with about `number` draws of their missing cells.

        Args:
            data: the rows.
            holes: positions of the rows that have missing cells.
            number: draws of each of these rows.
            draws: of θ.
        """
        ...


@runtime_checkable
class Tails(Protocol):
    """Knows how far out a row is, given those before it."""

    def tails(self, data: "Dataset", draws: "Draws", number: int) -> "np.ndarray":
        """P(p(X_t | x_{1:t−1}) ≤ p(x_t | x_{1:t−1})) of each row, (n,), by `number` draws of X."""
        ...


@runtime_checkable
class Explains(Protocol):
    """Says which cells of a row are surprising, and what was expected of them."""

    def explain(
        self, data: "Dataset", index: "np.ndarray", draws: "Draws", number: int
    ) -> Iterator[Explained]:
        """The rows at some positions, a part of them at a time.

        Args:
            data: all rows.
            index: positions of those to be explained.
            draws: of θ.
            number: draws of each cell given the others of its row.
        """
        ...


@runtime_checkable
class Latents(Protocol):
    """Turns rows into features."""

    def latents(self, rows: Any, draws: "Draws") -> "dict[str, np.ndarray]":
        """Features (n,) by name."""
        ...


@runtime_checkable
class Decodes(Protocol):
    """Turns latents of rows back into rows."""

    def decode(self, rows: Any, number: int, draws: "Draws") -> Iterator[Completed]:
        """Expected cells of all rows, some at a time, by `number` draws of their latents.

        Args:
            rows: as the model takes them.
            number: draws of each row's latents.
            draws: of θ.
        """
        ...


@runtime_checkable
class Criticises(Protocol):
    """Says how much rows look like those of the fit, where it has no density to say it by."""

    def criticise(self, rows: Any, draws: "Draws") -> "np.ndarray":
        """A score of each row, (n,), the higher the more it looks like the data; its scale means nothing.

        Args:
            rows: as the model takes them.
            draws: of θ.
        """
        ...


@runtime_checkable
class Named(Protocol):
    """Has parameters with names and a posterior."""

    def variables(self, theta: "Draws") -> "tuple[Variables, dict[str, Any]]":
        """θ in the user's units, and the coordinates of the dimensions."""
        ...


@runtime_checkable
class Summarises(Protocol):
    """Has a table of its parameters that says more than their moments."""

    def summarise(self, fitted: Fitted, tails: tuple[float, float]) -> "dict[str, dict[str, Any]]":
        """Figures for each parameter, by name; `tails` are the probabilities of the interval's ends."""
        ...


@runtime_checkable
class Glances(Protocol):
    """Has a table of its own that is shown with a fit."""

    def glance(self, fitted: Fitted) -> "pd.DataFrame":
        """A row for each of its parts; `attrs["note"]` says so where some are left out."""
        ...


@runtime_checkable
class Importance(Protocol):
    """Integrates latents by weighted draws."""

    def with_particles(self, number: int) -> Self:
        """The same with so many of them for each row."""
        ...


@runtime_checkable
class Sparing(Protocol):
    """Averages over as few draws of θ as the answer needs."""

    def sparing(self) -> Self:
        """The same doing so: it is handed all draws, and takes those that it needs."""
        ...

    def log_mean_density(self, rows: Any, draws: "Draws") -> "Tensor":
        """Log (1/S) Σ_s p(x_n | θ_s) of rows that are independent given θ, (n,)."""
        ...


@runtime_checkable
class Direct(Protocol):
    """Has what it says of rows in closed form, or nearly, of the guide: draws of θ would only add noise."""

    def direct(self, params: "Params") -> "Draws":
        """What was learned, in the form of one draw, which it knows from draws."""
        ...


@runtime_checkable
class Grouped(Protocol):
    """Has groups of its own for ArviZ, where it is not parameters that have a posterior."""

    def groups(self, fitted: Fitted) -> "dict[str, xr.Dataset]":
        """Data sets by group: `posterior`, `constant_data`, …."""
        ...


@runtime_checkable
class Priors(Protocol):
    """Has a prior that can be drawn from, and says by its own names what it predicts."""

    def prior_groups(self, seed: int, draws: int) -> "dict[str, xr.Dataset]":
        """Data sets by group: `prior`, `prior_predictive` and `observed_data`."""
        ...

    def prior_draws(self, draws: int, seed: int) -> "Draws":
        """θ from the prior."""
        ...


@runtime_checkable
class PriorDraws(Protocol):
    """Has a prior of θ that can be drawn from."""

    def prior_draws(self, draws: int, seed: int) -> "Draws":
        """θ from the prior.

        Raises:
            Unsupported: this one cannot be drawn from.
        """
        ...


class Slopes(NamedTuple):
    """Coefficients of the columns of a design, under S draws of θ.

    Attributes:
        names: of the p columns.
        values: (S, p, K) in the user's units: a unit of the column.
        sd: (p,) of the columns.
        outcomes: (K,) what each is of: classes beyond the first, or the target.
        reference: the first class; "" of numbers.
        scale: what they are changes of.
    """

    names: tuple[str, ...]
    values: "np.ndarray"
    sd: "np.ndarray"
    outcomes: tuple[str, ...]
    reference: str
    scale: str


@runtime_checkable
class Coefficients(Protocol):
    """Has coefficients of columns."""

    def coefficients(self, draws: "Draws") -> Slopes:
        """Those of the population; none where columns enter by a kernel."""
        ...


@runtime_checkable
class Programmed(Protocol):
    """Is a Pyro program as well, whose continuous sites are its parameters."""

    def pyro_values(self, theta: "Draws") -> "dict[str, Tensor] | None":
        """Values of its continuous sites at one draw; None where some are integrated out."""
        ...

    def pyro_data(self, data: "Dataset") -> Any:
        """What the program takes."""
        ...

    def plate_nesting(self) -> int:
        """How deep its plates are nested."""
        ...
