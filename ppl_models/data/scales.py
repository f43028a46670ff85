"""Words that say yes and no, and words that have an order of their own."""

from collections.abc import Collection

_NO_YES: tuple[tuple[frozenset[str], frozenset[str]], ...] = tuple(
    (frozenset(no.split()), frozenset(yes.split()))
    for no, yes in (
        ("no n", "yes y"),
        ("false f", "true t"),
        ("off", "on"),
        ("nein", "ja"),
        ("non", "oui"),
        ("no", "si sí sì"),
        ("não nao", "sim"),
        ("nee", "ja"),
        ("nej", "ja"),
        ("nie", "tak"),
    )
)

_DAYS = "monday tuesday wednesday thursday friday saturday sunday"
_MONTHS = "january february march april may june july august september october november december"
_SCALES = tuple(
    {word.strip(): i for i, word in enumerate(scale.split(","))}
    for scale in (
        "strongly disagree, disagree, somewhat disagree, slightly disagree, neither agree nor disagree, "
        "neutral, undecided, slightly agree, somewhat agree, agree, strongly agree",
        "very dissatisfied, dissatisfied, somewhat dissatisfied, neither satisfied nor dissatisfied, "
        "neutral, somewhat satisfied, satisfied, very satisfied",
        "very unlikely, unlikely, neither likely nor unlikely, neutral, likely, very likely",
        "very bad, very poor, bad, poor, fair, average, okay, good, very good, excellent",
        "never, rarely, seldom, occasionally, sometimes, often, usually, very often, always",
        "not at all, a little, slightly, somewhat, moderately, quite a bit, very, very much, extremely",
        "none, very low, low, medium, moderate, high, very high",
        "tiny, very small, small, medium, large, very large, huge",
        "xxs, xs, s, m, l, xl, xxl, xxxl",
        ",".join(_DAYS.split()),
        ",".join(day[:3] for day in _DAYS.split()),
        ",".join(_MONTHS.split()),
        ",".join(month[:3] for month in _MONTHS.split()),
    )
)
_FEWEST = 3
"""Levels of a scale: of two, the order of the alphabet tells as much."""


def no_and_yes(texts: Collection[str]) -> dict[str, bool]:
    """Whether words in lower case say yes, if these texts say yes and no, in whatever case and spellings.

    Returns:
        Each word of their language; nothing if some text says neither, or none says one of both.

    Example:
        >>> no_and_yes(["Yes", "y", "NO"])["n"], no_and_yes(["yes", "maybe"])
        (False, {})
    """
    words = {text.lower() for text in texts}
    for no, yes in _NO_YES:
        if words <= no | yes and words & no and words & yes:
            return {word: word in yes for word in no | yes}
    return {}


def scale_of(texts: Collection[str]) -> dict[str, int]:
    """The places of words in lower case on the scale that all these texts are on; nothing if there is none.

    Example:
        >>> scale = scale_of(["Always", "Never", "Often"])
        >>> sorted(["always", "never", "often"], key=scale.get)
        ['never', 'often', 'always']
    """
    words = {text.lower() for text in texts}
    if len(words) < max(_FEWEST, len(texts)):
        return {}
    return next((scale for scale in _SCALES if words <= scale.keys()), {})
