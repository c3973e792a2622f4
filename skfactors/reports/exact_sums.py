"""Sums that come out the same in whatever order, and in however many parts, the numbers are added."""

from fractions import Fraction

import numpy as np

from skfactors.reports.growth import grown

DIGIT_BITS = 32
# A number in float64 has 53 significant bits; wherever they lie, three digits in a row hold them.
DIGITS_A_NUMBER = 3
# Digits are below 2**32, so that 64 bits hold the sum of so many before any is carried.
ADDITIONS_BEFORE_CARRYING = 2**30


class ExactSums:
    """
    Sums of numbers that are not negative, one sum a group, without any rounding.

    Attributes
    ----------
    digits : ndarray of int of shape (n_digits, n_groups)
        Of base 2**32, the least first. As many are held as the numbers met so far need: from four to six where they are
        activations.
    lowest : int
        The first digit counts 2**(32 * lowest).
    """

    def __init__(self):
        self.digits = np.zeros((0, 0), dtype=np.int64)
        self.lowest = 0
        self._n_uncarried = 0

    def add(self, groups, values, n_groups):
        """
        Add values to the sums of their groups.

        Parameters
        ----------
        groups : ndarray of int of shape (n_values,)
        values : ndarray of float64 of shape (n_values,)
            Finite, none below zero.
        n_groups : int
            Groups opened so far.
        """
        counts = values > 0
        groups, rest = groups[counts], values[counts]
        if len(rest) == 0:
            self._open(n_groups, self.lowest, self.lowest)
            return
        exponents = np.frexp(rest)[1].astype(np.int64)
        highest = (exponents - 1) // DIGIT_BITS
        self._open(n_groups, int(highest.min()) - DIGITS_A_NUMBER + 1, int(highest.max()) + 1)
        for place in (highest - number for number in range(DIGITS_A_NUMBER)):
            digits = np.floor(np.ldexp(rest, -DIGIT_BITS * place))
            rest = rest - np.ldexp(digits, DIGIT_BITS * place)
            cells = (place - self.lowest) * n_groups + groups
            np.add.at(self.digits.reshape(-1), cells, digits.astype(np.int64))
        self._n_uncarried += len(rest)
        if self._n_uncarried > ADDITIONS_BEFORE_CARRYING:
            self._carry()

    def merge(self, other, groups, n_groups):
        """
        Add the sums of another.

        Parameters
        ----------
        other : ExactSums
        groups : ndarray of int of shape (n_groups_of_other,)
            The group here of each of its groups.
        n_groups : int
            Groups opened so far.
        """
        self._carry()
        other._carry()
        self._open(n_groups, other.lowest, other.lowest + len(other.digits))
        first = other.lowest - self.lowest
        self.digits[first : first + len(other.digits), groups] += other.digits
        self._carry()

    def rounded(self):
        """Return the sums as float64, ndarray of shape (n_groups,)."""
        self._carry()
        total = np.zeros(self.digits.shape[1])
        for place, digits in enumerate(self.digits, start=self.lowest):
            total += np.ldexp(digits.astype(np.float64), DIGIT_BITS * place)
        return total

    def exact(self) -> list[Fraction]:
        """Return the sums as they are."""
        unit = Fraction(2) ** (DIGIT_BITS * self.lowest)
        return [
            unit * sum(digit << (DIGIT_BITS * place) for place, digit in enumerate(column))
            for column in self.digits.T.tolist()
        ]

    def state(self) -> dict[str, np.ndarray]:
        """Return everything there is to keep, as arrays."""
        self._carry()
        return {"digits": self.digits, "lowest": np.array([self.lowest])}

    def restore(self, state):
        """Take the place of the sums whose :meth:`state` this is."""
        self.digits, self.lowest = state["digits"], int(state["lowest"][0])

    def _open(self, n_groups, lowest, stop):
        """Hold so many groups, and the digits from `lowest` to before `stop`."""
        n_digits, n_held = self.digits.shape
        if n_digits == 0:
            self.lowest = lowest
        below = max(0, self.lowest - lowest)
        above = max(0, stop - self.lowest - n_digits)
        if below or above or n_groups > n_held:
            self.digits = np.pad(self.digits, ((below, above), (0, max(0, n_groups - n_held))))
            self.lowest -= below

    def _carry(self):
        place = 0
        while place < len(self.digits):
            carried = self.digits[place] >> DIGIT_BITS
            if carried.any():
                if place + 1 == len(self.digits):
                    self.digits = grown(self.digits, place + 2)
                self.digits[place] &= 2**DIGIT_BITS - 1
                self.digits[place + 1] += carried
            place += 1
        self._n_uncarried = 0


class SignedExactSums:
    """Sums of numbers of either sign without any rounding, kept as what is above zero and what is below it."""

    def __init__(self):
        self._sums = ExactSums()

    def add(self, values):
        """
        Add a number to the sum of each group.

        Parameters
        ----------
        values : ndarray of float64 of shape (n_groups,)
            Finite.
        """
        groups = 2 * np.arange(len(values)) + (values < 0)
        self._sums.add(groups, np.abs(values), 2 * len(values))

    def merge(self, other):
        """Add the sums of another, group by group."""
        groups = np.arange(other._sums.digits.shape[1])
        self._sums.merge(other._sums, groups, len(groups))

    def exact(self) -> list[Fraction]:
        """Return the sums as they are."""
        sums = self._sums.exact()
        return [above - below for above, below in zip(sums[::2], sums[1::2], strict=True)]

    def state(self) -> dict[str, np.ndarray]:
        """Return everything there is to keep, as arrays."""
        return self._sums.state()

    def restore(self, state):
        """Take the place of the sums whose :meth:`state` this is."""
        self._sums.restore(state)


def halves(values):
    """Split numbers of 53 bits into two of 26 bits that add up to them, so that products of halves are exact."""
    fractions, exponents = np.frexp(values)
    high = np.ldexp(np.rint(np.ldexp(fractions, 26)), exponents - 26)
    return high, values - high


def exact_products(first, second):
    """Return arrays whose sum is the product of two arrays of float64, without rounding."""
    return [left * right for left in halves(first) for right in halves(second)]
