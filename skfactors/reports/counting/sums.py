"""Running sums over the rows of a corpus, the same in whatever order and in however many parts the rows come."""

import numpy as np
from scipy import sparse

from skfactors.reports.counting.groups import added, grown

DIGIT_BITS = 32
# A number in float64 has 53 significant bits; wherever they lie, three digits in a row hold them.
DIGITS_A_NUMBER = 3
# Digits are below 2**32, so that 64 bits hold the sum of so many before any is carried.
ADDITIONS_BEFORE_CARRYING = 2**30


class ActivitySums:
    """
    How often and how strongly the factors are active.

    Parameters
    ----------
    n_components : int

    Attributes
    ----------
    rows_by_slot : ndarray of int of shape (n_slots,)
        Rows of each layer.
    active_rows : ndarray of int of shape (n_groups,)
        Rows of a layer in which a factor is above zero.
    activations : ExactSums
        Sum of a factor's activations above zero in a layer.
    n_nonzero : int
        Codes that are not zero.
    used : ndarray of bool of shape (n_components,)
        Factors with a code that is not zero.
    """

    def __init__(self, n_components):
        self.rows_by_slot = np.empty(0, dtype=np.int64)
        self.active_rows = np.empty(0, dtype=np.int64)
        self.activations = ExactSums()
        self.n_nonzero = 0
        self.used = np.zeros(n_components, dtype=bool)

    def add(self, codes, slots, groups, activations, n_groups):
        """Take in one part: its codes, the slot of each row's layer, and the group and size of each positive code."""
        self.rows_by_slot = grown(self.rows_by_slot, n_groups // len(self.used))
        self.rows_by_slot += np.bincount(slots, minlength=len(self.rows_by_slot))
        self.active_rows = grown(self.active_rows, n_groups)
        self.active_rows += np.bincount(groups, minlength=n_groups)
        self.activations.add(groups, activations, n_groups)
        factors = codes.indices[codes.data != 0] if sparse.issparse(codes) else np.nonzero(codes)[1]
        self.n_nonzero += len(factors)
        self.used[factors] = True

    def merge(self, other, slots, groups, n_groups):
        """Add what another holds; `slots` and `groups` are the slot and the group here of each of its own."""
        self.rows_by_slot = added(self.rows_by_slot, other.rows_by_slot, slots, n_groups // len(self.used))
        self.active_rows = added(self.active_rows, other.active_rows, groups, n_groups)
        self.activations.merge(other.activations, groups, n_groups)
        self.n_nonzero += other.n_nonzero
        self.used = self.used | other.used

    def state(self) -> dict[str, np.ndarray]:
        """Return everything there is to keep, as arrays."""
        return {
            "rows_by_slot": self.rows_by_slot,
            "active_rows": self.active_rows,
            "n_nonzero": np.array([self.n_nonzero]),
            "used": self.used,
            **self.activations.state(),
        }

    def restore(self, state):
        """Take the place of the sums whose :meth:`state` this is."""
        self.rows_by_slot, self.active_rows = state["rows_by_slot"], state["active_rows"]
        self.n_nonzero, self.used = int(state["n_nonzero"][0]), state["used"]
        self.activations.restore(state)


class ExactSums:
    """
    Sums of numbers that are not negative, one sum for each group, without any rounding.

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
        """Add values of float64, finite and none below zero, to the sums of their groups."""
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
        """Add the sums of another, of whose groups `groups` are the numbers here."""
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
