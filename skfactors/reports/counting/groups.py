"""Numbers for the (factor, layer) pairs of a stream, and arrays with one entry per pair that grow as pairs are met."""

import numpy as np


class LayerGroups:
    """
    Numbers for the (factor, layer) pairs of a stream whose layers are not known in advance.

    Parameters
    ----------
    n_components : int
    """

    def __init__(self, n_components):
        self.n_components = n_components
        self._slots = {}

    @property
    def layers(self):
        """Layers met so far, ascending."""
        return sorted(self._slots)

    def __len__(self):
        return len(self._slots) * self.n_components

    def slots(self, layers):
        """Return the slot of each row's layer, opening one for a layer not met before."""
        present, inverse = np.unique(layers, return_inverse=True)
        slots = [self._slots.setdefault(layer, len(self._slots)) for layer in present.tolist()]
        return np.array(slots, dtype=np.int64)[inverse]

    def number(self, factors, slots):
        """Return the group of each (factor, slot) pair."""
        return slots * self.n_components + factors

    def factors_and_layers(self, groups):
        """Return the factor and the layer of each group."""
        slots, factors = np.divmod(groups, self.n_components)
        return factors, np.array(list(self._slots), dtype=np.int64)[slots]

    def places_of(self, other):
        """Open the layers of another stream of the same factors; return the slots and the groups here of its own."""
        slots = self.slots(np.array(list(other._slots), dtype=np.int64))
        return slots, self.number(np.arange(self.n_components), slots[:, None]).reshape(-1)

    def state(self) -> dict[str, np.ndarray]:
        """Return everything there is to keep, as arrays."""
        return {"layers": np.array(list(self._slots), dtype=np.int64)}

    def restore(self, state):
        """Take the place of the groups whose :meth:`state` this is."""
        self._slots = {layer: slot for slot, layer in enumerate(state["layers"].tolist())}

    def by_layer(self, values):
        """Arrange one value a group into an array (n_components, n_layers), layers ascending."""
        slots = [self._slots[layer] for layer in self.layers]
        return np.ascontiguousarray(grown(values, len(self)).reshape(-1, self.n_components)[slots].T)


class Gathered:
    """
    What is gathered of every group of a stream, in arrays that a file can keep.

    A subclass names these in `arrays`. Its `add` takes in the positive entries of one part: `groups` and `activations`,
    of shape (n_entries,), where `n_groups` groups are open by then. Its `merge` adds what another has gathered of other
    rows, with `groups` the group here of each group there.
    """

    arrays = ()

    def state(self) -> dict[str, np.ndarray]:
        """Return everything there is to keep, as arrays."""
        return {name: getattr(self, name) for name in self.arrays}

    def restore(self, state):
        """Take the place of what had this :meth:`state`."""
        vars(self).update(state)


def grown(values, length):
    """Return an array with zeros after its end, so that it has `length` rows; itself where it has them."""
    if len(values) == length:
        return values
    return np.concatenate([values, np.zeros((length - len(values), *values.shape[1:]), dtype=values.dtype)])


def added(values, others, groups, length):
    """Return `values` grown to `length` rows, with the rows of `others` added to those named by `groups`."""
    total = grown(values, length).copy()
    total[groups] += others
    return total
