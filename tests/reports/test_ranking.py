import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from skfactors.reports.counting.entries import largest_in_groups, largest_of_each_member

ENTRIES = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 2), st.sampled_from([0.5, 1.0, 2.0, 2.5])), max_size=30)


def columns(entries):
    groups = np.array([group for group, _, _ in entries], dtype=np.int64)
    members = np.array([member for _, member, _ in entries], dtype=np.int64)
    values = np.array([value for _, _, value in entries], dtype=np.float64)
    return groups, members, values


@given(ENTRIES, st.integers(1, 5))
def test_the_largest_of_each_group_are_those_that_sorting_each_group_gives(entries, k):
    groups, _, values = columns(entries)
    expected = []
    for group in sorted(set(groups.tolist())):
        in_group = [index for index in range(len(entries)) if groups[index] == group]
        in_group.sort(key=lambda index: (-values[index], index))
        expected += [(index, rank) for rank, index in enumerate(in_group[:k])]

    chosen, ranks = largest_in_groups(groups, values, k)

    assert list(zip(chosen.tolist(), ranks.tolist(), strict=True)) == expected


@given(ENTRIES)
def test_the_largest_of_each_member_is_the_first_of_its_greatest_values(entries):
    groups, members, values = columns(entries)
    best = {}
    for index, (group, member, value) in enumerate(entries):
        if (group, member) not in best or value > values[best[group, member]]:
            best[group, member] = index

    assert largest_of_each_member(groups, members, values).tolist() == sorted(best.values())
