"""Draws as densities and intervals, with NumPy alone."""

import numpy as np


def density(x: np.ndarray, points: int = 128) -> tuple[np.ndarray, np.ndarray]:
    """A kernel density estimate of draws on a grid: Gaussian, reflected at the smallest and the largest draw.

        f(g) = (1/S) Σ_s N(g | x_s, h²),   h = 0.9 min(sd, IQR/1.34) S^(−1/5)

    (Silverman 1986, Density estimation for statistics and data analysis, 3.31.) Reflecting leaves nothing
    beyond the ends, where a probability or a scale cannot be.

    Args:
        x: (S,) draws.
        points: of the grid.

    Returns:
        The grid and the density on it, (points,) each.

    Example:
        >>> grid, height = density(np.random.default_rng(0).random(20_000))
        >>> bool(abs(height - 1).max() < 0.15), bool(grid[0] >= 0)
        (True, True)
    """
    x = x[np.isfinite(x)]
    low, high = float(x.min()), float(x.max())
    if high <= low:
        return np.array([low - 1, low, low + 1]), np.array([0.0, 1.0, 0.0])
    edges = np.linspace(low, high, 4 * points + 1)
    width = edges[1] - edges[0]
    counts = np.histogram(x, edges)[0] / (len(x) * width)
    spread = np.quantile(x, [0.25, 0.75])
    scale = min(x.std(), (spread[1] - spread[0]) / 1.34) or x.std()
    h = max(0.9 * scale * len(x) ** -0.2, 1.5 * width)
    reach = min(int(np.ceil(4 * h / width)), len(counts) - 1)
    kernel = np.exp(-0.5 * (np.arange(-reach, reach + 1) * width / h) ** 2)
    padded = np.concatenate([counts[:reach][::-1], counts, counts[len(counts) - reach :][::-1]])
    smooth = np.convolve(padded, kernel / kernel.sum(), mode="valid")
    at = np.linspace(0, len(smooth) - 1, points).round().astype(int)
    middles = 0.5 * (edges[1:] + edges[:-1])
    return middles[at], smooth[at]


def shortest(x: np.ndarray, level: float) -> tuple[float, float]:
    """The shortest interval that holds a share of draws (S,): that of highest density.

    Example:
        >>> shortest(np.array([0.0, 1.0, 1.5, 2.0, 9.0]), 0.5)
        (1.0, 2.0)
    """
    x = np.sort(x)
    inside = min(int(np.floor(level * len(x))), len(x) - 1)
    first = int((x[inside:] - x[: len(x) - inside]).argmin())
    return float(x[first]), float(x[first + inside])


def bins(values: np.ndarray, most: int = 30, whole: bool = False) -> np.ndarray:
    """Edges for a histogram of numbers: Freedman & Diaconis' (1981), of counts at the halves.

    Args:
        values: without missing ones.
        most: bins.
        whole: whether they are whole numbers.

    Example:
        >>> bins(np.array([0.0, 1.0, 1.0, 3.0]), whole=True).tolist()
        [-0.5, 0.5, 1.5, 2.5, 3.5]
    """
    if not len(values):
        return np.array([0.0, 1.0])
    low, high = float(values.min()), float(values.max())
    if whole:
        step = max(1, int(np.ceil((high - low + 1) / most)))
        return np.arange(low - 0.5, high + step + 0.25, step)
    if high <= low:
        return np.array([low - 0.5, low + 0.5])
    quarter = np.quantile(values, [0.25, 0.75])
    width = 2 * (quarter[1] - quarter[0]) / len(values) ** (1 / 3)
    number = int(np.clip(np.ceil((high - low) / width), 8, most)) if width > 0 else most
    return np.linspace(low, high, number + 1)


def binned(number: int, most: int = 400) -> np.ndarray:
    """Where to cut so many rows into at most `most` parts of nearly equal size: the first row of each.

    Example:
        >>> binned(10, 4).tolist()
        [0, 2, 5, 7]
    """
    parts = min(number, most)
    return (np.arange(parts) * number / parts).astype(int)
