import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from skfactors.reports.counting.documents import DocumentsMet
from skfactors.reports.counting.entries import Places


def corpus_of(lengths, layers=(4, 1)):
    """Rows by document, layer as given, position; a document of no words has none."""
    return [
        (document, layer, position)
        for document, length in enumerate(lengths)
        for layer in layers
        for position in range(length)
    ]


def places_of(rows):
    document, layer, position = np.array(rows, dtype=np.int64).reshape(-1, 3).T
    return Places(document, layer, position, position, position)


def documents_of(parts, numbers):
    met = DocumentsMet()
    gapless = True
    for number in numbers:
        gapless &= number - 1 in numbers
        if parts[number]:
            met.add(places_of(parts[number]), follows=gapless)
            gapless = True
    return met


@st.composite
def parts_of_corpora(draw):
    rows = corpus_of(draw(st.lists(st.integers(0, 6), min_size=1, max_size=8)))
    cuts = draw(st.lists(st.integers(0, len(rows)), max_size=12))
    bounds = [0, *sorted(cuts), len(rows)]
    parts = [rows[start:end] for start, end in zip(bounds[:-1], bounds[1:], strict=True)]
    owners = draw(st.lists(st.sampled_from(["first", "second", "both"]), min_size=len(parts), max_size=len(parts)))
    return parts, owners


@given(parts_of_corpora())
def test_documents_with_rows_in_common_are_found_and_no_others(drawn):
    parts, owners = drawn
    first, second = ([n for n, owner in enumerate(owners) if owner in (name, "both")] for name in ("first", "second"))
    in_common = sorted({row[0] for n in set(first) & set(second) for row in parts[n]})

    found, other_way = documents_of(parts, first), documents_of(parts, second)

    assert found.overlap(other_way) == other_way.overlap(found) == in_common[:5]


@given(parts_of_corpora())
def test_documents_are_counted_once_however_they_come(drawn):
    parts, owners = drawn
    numbers = [n for n, owner in enumerate(owners) if owner == "first"]
    met = documents_of(parts, numbers)
    assert len(met) == len({row[0] for n in numbers for row in parts[n]})


def test_the_size_does_not_grow_with_the_parts_of_a_stretch():
    rows = corpus_of([3, 5] * 200)
    parts = [rows[start : start + 7] for start in range(0, len(rows), 7)]
    met = documents_of(parts, range(len(parts)))
    assert met.runs.tolist() == [[0, 399]]
    assert len(met.ends()) <= 4
