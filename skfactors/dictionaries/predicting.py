"""What is common to models that read rows of one place and predict those of another."""

import copy

import numpy as np
from sklearn.utils.validation import check_is_fitted

from skfactors.codes import LARGEST
from skfactors.dictionaries.rows import batches_of, check_rows, check_targets
from skfactors.fingerprints import fingerprint
from skfactors.learning.batches import is_streamed
from skfactors.metrics.reconstruction import VarianceSums
from skfactors.output import with_plain_output, without_feature_names

_ROWS_AT_A_TIME = 16_384


class PredictorMixin:
    """
    Methods of a dictionary that does not reconstruct the rows that it reads.

    A subclass gives `_predicted`, from rows to what is predicted.
    """

    def reconstruct(self, X):
        """
        Refuse, as a transcoder does not reconstruct the rows that it reads.

        Parameters
        ----------
        X : array-like of shape (n_rows, n_features)
            Ignored.

        Raises
        ------
        TypeError
            Always.
        """
        raise TypeError("a transcoder predicts other rows than those that it reads: call predict.")

    def predict(self, X):
        """
        Predict rows of the other place.

        Parameters
        ----------
        X : array-like of shape (n_rows, n_features)
            Rows to code.

        Returns
        -------
        ndarray of shape (n_rows, n_outputs)
            What their codes stand for, and the skip where there is one.
        """
        check_is_fitted(self)
        return self._predicted(X)

    def score(self, X, y=None):
        """
        Share of the variance of Y that predictions explain, higher is better.

        Parameters
        ----------
        X : array-like of shape (n_rows, n_features)
            Rows to code.
        y : array-like of shape (n_rows, n_outputs)
            What the other place holds, Y.

        Returns
        -------
        float
            1 - Σ‖y - ŷ‖² / Σ‖y - μ‖², with μ the mean of each feature of Y.
        """
        check_is_fitted(self)
        if y is None:
            raise TypeError("a transcoder is scored by the rows that it should predict: pass them as Y.")
        pairs = paired(check_rows(self, X, reset=False), check_targets(y, LARGEST["float64"]))
        if pairs.Y.shape[1] != len(self.intercept_):
            raise ValueError(f"Y has {pairs.Y.shape[1]} features, and {len(self.intercept_)} are predicted.")
        sums, model = VarianceSums(), without_feature_names(with_plain_output(self))
        for rows, wanted in zip(*(batches_of(part, _ROWS_AT_A_TIME) for part in (pairs.X, pairs.Y)), strict=True):
            sums.add(wanted, model.predict(rows))
        return sums.explained_variance()


class Paired:
    """
    Rows of two arrays side by side, put together when they are asked for.

    Parameters
    ----------
    X : ndarray of shape (n_rows, n_features)
    Y : ndarray of shape (n_rows, n_outputs)
    """

    def __init__(self, X, Y):
        self.X, self.Y = X, Y
        self.shape = (len(X), X.shape[1] + Y.shape[1])
        self.dtype = np.result_type(X.dtype, Y.dtype)

    def __len__(self) -> int:
        return len(self.X)

    def __getitem__(self, rows) -> np.ndarray:
        return np.hstack([np.asarray(self.X[rows]), np.asarray(self.Y[rows])])

    @property
    def fingerprint(self) -> str:
        """Digest that identifies the rows."""
        return fingerprint([self.X, self.Y])


class PairedStores(Paired):
    """Rows of two places of a store side by side, read in shuffled order."""

    def iter_shuffled(self, batch_size, random_state):
        """Yield the numbers of rows, and the rows, in shuffled batches: the same for both places."""
        same_state = copy.deepcopy(random_state)
        batches = zip(
            self.X.iter_shuffled(batch_size, random_state), self.Y.iter_shuffled(batch_size, same_state), strict=True
        )
        for (rows, X), (same_rows, Y) in batches:
            if not np.array_equal(rows, same_rows):
                raise ValueError("X and Y are read in different orders: give two places of one store, as by at().")
            yield rows, np.hstack([X, Y])


def paired(X, Y) -> Paired:
    """
    Put rows of two places side by side.

    Raises
    ------
    ValueError
        If there are more of one than of the other, or one is a store and the other is not.
    """
    if len(X) != len(Y):
        raise ValueError(f"X has {len(X)} rows and Y has {len(Y)}: give a row of Y for each row of X.")
    if is_streamed(X) != is_streamed(Y):
        raise ValueError("one of X and Y is a store and the other is not: give two places of one store, or two arrays.")
    return (PairedStores if is_streamed(X) else Paired)(X, Y)
