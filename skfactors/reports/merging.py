"""Partial reports on one corpus, put together."""

from itertools import combinations

from skfactors.reports.accumulator import ReportAccumulator


def merge_tallies(tallies) -> ReportAccumulator:
    """
    Put partial tallies of one corpus together.

    Parameters
    ----------
    tallies : list of ReportAccumulator
        At least one; they stay as they are.

    Returns
    -------
    ReportAccumulator

    Raises
    ------
    ValueError
        If parameters or dictionaries differ, or two tallies have rows in common.
    """
    first = tallies[0]
    for number, tally in enumerate(tallies[1:], start=1):
        _check_same_kind(first, tally, number)
    for (number, tally), (other_number, other) in combinations(enumerate(tallies), 2):
        documents = tally.overlap(other)
        if documents:
            raise ValueError(
                f"reports {number} and {other_number} both have rows of documents {', '.join(map(str, documents))}"
                "; merge reports on disjoint parts of one corpus, with the corpus's document numbers."
            )
    merged = ReportAccumulator(first.n_components, dictionary=first.dictionary, **first.parameters)
    for tally in tallies:
        merged.merge(tally)
    return merged


def _check_same_kind(first, other, number):
    for name, value in first.parameters.items():
        if other.parameters[name] != value:
            raise ValueError(
                f"reports 0 and {number} were made with different parameters: {name}={value!r} and "
                f"{name}={other.parameters[name]!r}."
            )
    if first.n_components != other.n_components:
        raise ValueError(
            f"reports 0 and {number} are of different dictionaries: one has {first.n_components} factors, the other "
            f"{other.n_components}."
        )
    if first.dictionary != other.dictionary:
        raise ValueError(
            f"reports 0 and {number} are of different dictionaries: their components differ, or only one report was "
            "made with components."
        )
