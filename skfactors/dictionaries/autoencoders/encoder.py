"""An encoder of arrays: rows to pre-activations to codes, in one pass."""

from dataclasses import dataclass

import numpy as np
import scipy.sparse
import torch

from skfactors.codes import LARGEST, csr_of
from skfactors.devices import free_memory, keep_to_one_thread_if_forked
from skfactors.dictionaries.autoencoders.scalings import SCALINGS
from skfactors.dictionaries.autoencoders.selections import SELECTIONS
from skfactors.dictionaries.rows import batches_of, check_values
from skfactors.learning.threads import in_parallel, torch_on_one_thread

_ROWS_AT_A_TIME = 8192
_ROWS_A_TASK = 128
_ARRAYS_OF_CODES = 8


@dataclass(frozen=True)
class Encoder:
    """
    How an autoencoder codes rows: ``keep(scale(x) @ weight.T + bias)``.

    What an autoencoder subtracts from rows before it encodes them, and decoder norms that it multiplies with, are
    folded into these arrays.

    Attributes
    ----------
    weight : ndarray of shape (n_components, n_features)
    bias : ndarray of shape (n_components,)
    selection : str
        Name in `SELECTIONS`: which pre-activations are codes.
    n_nonzero_coefs : int or None
        The most that a row may have, where the selection needs it.
    threshold : ndarray of shape (n_components,) or None
        What they must be above, where the selection needs it.
    scaling : str
        Name in `SCALINGS`: what is done to each row first.
    """

    weight: np.ndarray
    bias: np.ndarray
    selection: str
    n_nonzero_coefs: int | None = None
    threshold: np.ndarray | None = None
    scaling: str = "none"

    def rule(self):
        """Return which pre-activations are kept."""
        return SELECTIONS[self.selection](self.n_nonzero_coefs, self.threshold)

    def encode(self, X, device: str, dtype: torch.dtype, *, sparse: bool):
        """
        Code every row.

        Parameters
        ----------
        X : ndarray or ActivationStore of shape (n_rows, n_features)
        device : str
        dtype : torch.dtype
            Of the products on an accelerator. On a CPU they have the precision of the weights.
        sparse : bool
            Whether to return a CSR array.

        Returns
        -------
        codes : csr_array or ndarray of shape (n_rows, n_components)
        """
        on_cpu = torch.device(device).type == "cpu"
        encode = self._encoder_on_cpu() if on_cpu else self._encoder_elsewhere(device, dtype)
        size = _ROWS_AT_A_TIME if on_cpu else self._rows_that_fit(device)
        batches = [encode(self._checked(rows)) for rows in batches_of(X, size)]
        codes = scipy.sparse.vstack(batches, format="csr") if len(batches) > 1 else batches[0]
        return codes if sparse else codes.toarray()

    def _checked(self, rows):
        check_values(rows, "a batch of X", LARGEST[self.weight.dtype.name])
        return np.asarray(rows, self.weight.dtype)

    def _encoder_on_cpu(self):
        keep_to_one_thread_if_forked()
        rule, transposed, scale = self.rule(), np.ascontiguousarray(self.weight.T), SCALINGS[self.scaling]

        def encode_task(rows):
            scaled = scale(torch.from_numpy(rows))[0].numpy()
            # Always as many rows, so that rounding does not depend on how many there are.
            filled = np.zeros((_ROWS_A_TASK, rows.shape[1]), rows.dtype)
            filled[: len(rows)] = scaled
            counts, factors, values = rule.sparse((filled @ transposed + self.bias)[: len(rows)])
            if self.scaling == "unit_norm":
                # A row of zeros has no direction.
                there = rows.any(axis=1)
                values, factors = (part[np.repeat(there, counts)] for part in (values, factors))
                counts = counts * there
            return counts, factors, values

        @torch_on_one_thread()
        def encode(rows):
            rows = np.array(rows, order="C")
            tasks = [rows[start : start + _ROWS_A_TASK] for start in range(0, len(rows), _ROWS_A_TASK)]
            parts = in_parallel(encode_task, tasks)
            counts, factors, values = (np.concatenate(pieces) for pieces in zip(*parts, strict=True))
            row_ends = np.concatenate([[0], np.cumsum(counts)])
            if row_ends[-1] <= np.iinfo(np.int32).max:
                row_ends = row_ends.astype(np.int32)
            return scipy.sparse.csr_array((values, factors, row_ends), shape=(len(rows), len(self.weight)))

        return encode

    def _encoder_elsewhere(self, device, dtype):
        module = EncoderModule(self, device)

        @torch.no_grad()
        def encode(rows):
            with torch.autocast(torch.device(device).type, torch.bfloat16, enabled=dtype == torch.bfloat16):
                return csr_of(module.encode(torch.from_numpy(rows).to(device)))

        return encode

    def _rows_that_fit(self, device) -> int:
        bytes_of_a_row = _ARRAYS_OF_CODES * len(self.weight) * self.weight.itemsize
        return int(max(1, min(_ROWS_AT_A_TIME, free_memory(device) / 2 / bytes_of_a_row)))


class EncoderModule(torch.nn.Module):
    """
    An encoder as a torch module, with gradients to rows and weights.

    Parameters
    ----------
    encoder : Encoder
    device : str
    """

    def __init__(self, encoder: Encoder, device: str):
        super().__init__()
        self.weight, self.bias = (
            torch.nn.Parameter(torch.tensor(array, device=device)) for array in (encoder.weight, encoder.bias)
        )
        self._rule, self._scaling = encoder.rule(), encoder.scaling

    def scale(self, X: torch.Tensor):
        """Return scaled rows, and the shift and scale that undo it."""
        return SCALINGS[self._scaling](X.to(self.weight))

    def encode(self, X: torch.Tensor) -> torch.Tensor:
        """Return codes of shape (n_rows, n_components)."""
        Z = torch.nn.functional.linear(self.scale(X)[0], self.weight, self.bias).to(self.weight.dtype)
        kept = self._rule.kept(Z)
        if self._scaling == "unit_norm":
            kept = kept & X.any(1, keepdim=True)
        return torch.where(kept, Z, 0)


class AutoencoderModule(EncoderModule):
    """
    An autoencoder as a torch module, with gradients to rows and weights.

    Parameters
    ----------
    encoder : Encoder
    components : ndarray of shape (n_components, n_features)
    intercept : ndarray of shape (n_features,)
    device : str
    """

    def __init__(self, encoder: Encoder, components: np.ndarray, intercept: np.ndarray, device: str):
        super().__init__(encoder, device)
        self.components, self.intercept = (
            torch.nn.Parameter(torch.tensor(array, device=device)) for array in (components, intercept)
        )

    def decode(self, codes: torch.Tensor) -> torch.Tensor:
        """Return rows of shape (n_rows, n_features), scaled as the encoder has them."""
        return codes.to(self.components) @ self.components + self.intercept

    def forward(self, X: torch.Tensor) -> torch.Tensor:
        """Return what rows are reconstructed as."""
        _, shift, scale = self.scale(X)
        return self.decode(self.encode(X)) * scale + shift


class TranscoderModule(AutoencoderModule):
    """
    A transcoder as a torch module, with gradients to rows and weights.

    Parameters
    ----------
    encoder : Encoder
    components : ndarray of shape (n_components, n_outputs)
    intercept : ndarray of shape (n_outputs,)
    skip : ndarray of shape (n_outputs, n_features), or None
    device : str
    """

    def __init__(self, encoder: Encoder, components: np.ndarray, intercept: np.ndarray, skip, device: str):
        super().__init__(encoder, components, intercept, device)
        self.skip = None if skip is None else torch.nn.Parameter(torch.tensor(skip, device=device))

    def forward(self, X: torch.Tensor) -> torch.Tensor:
        """Return what is predicted from rows."""
        predicted = self.decode(self.encode(X))
        return predicted if self.skip is None else predicted + X.to(self.skip) @ self.skip.T
