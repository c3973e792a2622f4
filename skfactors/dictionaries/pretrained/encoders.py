"""Encoders of other tools, as torch modules: one class an encoder, all in one registry."""

from itertools import pairwise

import numpy as np
import scipy.optimize
import torch

from skfactors.dictionaries.autoencoders.scalings import SCALINGS
from skfactors.dictionaries.autoencoders.selections import SELECTIONS, mismatch_of_rule
from skfactors.dictionaries.sparse_coding.module import SparseCodingModule
from skfactors.records import NATURAL, mismatch

_COUNT = range(1, 2**31)
_LAYERS = range(1, 1000)
_OF_ENCODER = {"encoder": ("n_components", "n_features"), "encoder_intercept": ("n_components",)}


class Described:
    """
    What a dictionary of another tool is made of, so that a folder with anything else is refused.

    Attributes
    ----------
    shapes : dict of str to tuple
        Of the encoder's weights; a name that ends in ``?`` may be missing.
    schema : dict
        Of its settings.
    of_sequences : bool
        Whether codes depend on the rows before, so that rows come as (n_texts, n_tokens, n_features).
    of_batches : bool
        Whether codes depend on the rows that are coded together.
    """

    shapes = {}
    schema = {}
    of_sequences = False
    of_batches = False

    @classmethod
    def shapes_for(cls, settings: dict, names) -> dict:
        """Return the shapes of weights, where settings and names tell which there are."""
        return cls.shapes

    @classmethod
    def misfit(cls, settings: dict, shapes: dict) -> str | None:
        """Say where weights of some shapes, those of components among them, do not fit settings."""
        return None


class PretrainedModule(Described, torch.nn.Module):
    """
    A dictionary of another tool as a torch module, with gradients to rows and weights.

    Parameters
    ----------
    components : Tensor of shape (n_components, n_outputs)
    intercept : Tensor of shape (n_outputs,)
    weights : dict of str to Tensor
        Of the encoder. One called ``skip``, of shape (n_outputs, n_features), is what of the row itself is added to
        what its codes stand for.
    settings : dict
        Of the encoder. ``scaling`` is a name in `SCALINGS`: what is done to each row before it is coded.
    """

    schema = {"scaling?": frozenset(SCALINGS), "undo_scaling?": bool}

    def __init__(self, components, intercept, weights, settings):
        super().__init__()
        self.components, self.intercept = torch.nn.Parameter(components), torch.nn.Parameter(intercept)
        # A parameter's name has no dots.
        self.weights = torch.nn.ParameterDict({name.replace(".", "__"): value for name, value in weights.items()})
        self.settings = settings

    def encode(self, X: torch.Tensor) -> torch.Tensor:
        """Return codes of shape (n_rows, n_components)."""
        return self._codes_of(X, self.scaled(X)[0])

    def decode(self, codes: torch.Tensor) -> torch.Tensor:
        """Return what codes stand for, scaled as the encoder has rows."""
        return codes.to(self.components) @ self.components + self.intercept

    def forward(self, X: torch.Tensor) -> torch.Tensor:
        """Return what rows are reconstructed as; of a transcoder, what it predicts."""
        rows, shift, scale = self.scaled(X)
        decoded = self.decode(self._codes_of(X, rows))
        if self.settings.get("undo_scaling", True):
            decoded = decoded * scale + shift
        return decoded + X.to(self.components) @ self.weights["skip"].T if "skip" in self.weights else decoded

    def scaled(self, X: torch.Tensor):
        """Return scaled rows, and the shift and scale that undo it."""
        return SCALINGS[self.settings.get("scaling", "none")](X.to(self.components))

    def coded(self, X: torch.Tensor) -> torch.Tensor:
        """Return the codes of scaled rows."""
        raise NotImplementedError

    def _codes_of(self, X, rows):
        codes = self.coded(rows)
        # A row of zeros has no direction, and no codes.
        return torch.where(X.any(-1, keepdim=True), codes, 0) if self.settings.get("scaling") == "unit_norm" else codes


class Linear(PretrainedModule):
    """
    Keeps pre-activations ``x @ encoder.T + encoder_intercept`` by a rule.

    ``settings`` are those of an :class:`~skfactors.dictionaries.autoencoders.encoder.Encoder`, and ``any_sign``:
    whether a negative code is kept if it is above its threshold.
    """

    shapes = _OF_ENCODER | {"threshold?": ("n_components",), "skip?": ("n_outputs", "n_features")}
    schema = PretrainedModule.schema | {
        "selection": frozenset(SELECTIONS),
        "n_nonzero_coefs?": _COUNT,
        "any_sign?": bool,
    }

    @classmethod
    def misfit(cls, settings, shapes):
        """Say where weights do not fit settings."""
        selection = "above" if settings.get("any_sign") else settings["selection"]
        n_components = shapes["components"][0]
        return mismatch_of_rule(selection, settings.get("n_nonzero_coefs"), "threshold" in shapes, n_components)

    def coded(self, X):
        """Return the codes of scaled rows."""
        Z = torch.nn.functional.linear(X, self.weights["encoder"], self.weights["encoder_intercept"])
        threshold = self.weights["threshold"] if "threshold" in self.weights else None
        if self.settings.get("any_sign"):
            return torch.where(Z > threshold, Z, 0)
        rule = SELECTIONS[self.settings["selection"]](self.settings.get("n_nonzero_coefs"), threshold)
        return torch.where(rule.kept(Z), Z, 0)


class LargestOfBatch(PretrainedModule):
    """Keeps the largest pre-activations of all rows together, ``settings["n_nonzero_coefs"]`` a row on average."""

    of_batches = True
    shapes = _OF_ENCODER
    schema = PretrainedModule.schema | {"n_nonzero_coefs": lambda value: mismatch(value, float) is None and value > 0}

    def coded(self, X):
        """Return the codes of scaled rows."""
        Z = torch.nn.functional.linear(X, self.weights["encoder"], self.weights["encoder_intercept"]).relu()
        return _largest(Z.flatten(), int(self.settings["n_nonzero_coefs"] * len(Z))).reshape(Z.shape)


class Perceptron(PretrainedModule):
    """
    Layers before the codes: each a product, perhaps a layer norm, and a ReLU.

    Layer i has ``layer.i.weight`` and ``layer.i.bias``, and where there is a layer norm ``norm.i.weight`` and
    ``norm.i.bias``. ``settings`` has ``n_layers`` and ``n_nonzero_coefs``, the most codes of a row; None for all.
    """

    schema = PretrainedModule.schema | {"n_layers": _LAYERS, "n_nonzero_coefs": (_COUNT, None)}

    @classmethod
    def shapes_for(cls, settings, names):
        """Return the shapes of weights."""
        n_layers, shapes = settings["n_layers"], {}
        widths = ["n_features", *(f"width {number}" for number in range(1, n_layers)), "n_components"]
        for number, (width, next_width) in enumerate(pairwise(widths)):
            shapes |= {f"layer.{number}.weight": (next_width, width), f"layer.{number}.bias": (next_width,)}
            if f"norm.{number}.weight" in names:
                shapes |= {f"norm.{number}.{part}": (next_width,) for part in ("weight", "bias")}
        return shapes

    def coded(self, X):
        """Return the codes of scaled rows."""
        for layer in range(self.settings["n_layers"]):
            X = torch.nn.functional.linear(X, *self._pair("layer", layer))
            if f"norm__{layer}__weight" in self.weights:
                X = torch.nn.functional.layer_norm(X, X.shape[-1:], *self._pair("norm", layer))
            X = X.relu()
        return X if self.settings["n_nonzero_coefs"] is None else _largest(X, self.settings["n_nonzero_coefs"])

    def _pair(self, name, layer):
        return self.weights[f"{name}__{layer}__weight"], self.weights[f"{name}__{layer}__bias"]


class Quantized(PretrainedModule):
    """Takes each pre-activation for the nearest of a few levels, and makes negative ones zero."""

    shapes = _OF_ENCODER | {"levels": ("n_levels",)}

    @classmethod
    def misfit(cls, settings, shapes):
        """Say where weights do not fit settings."""
        return None if shapes["levels"][0] else "it has no levels"

    def coded(self, X):
        """Return the codes of scaled rows."""
        Z = torch.nn.functional.linear(X, self.weights["encoder"], self.weights["encoder_intercept"])
        levels = self.weights["levels"]
        nearest = (Z.detach()[..., None] - levels).square().argmin(-1)
        # The gradient goes past the rounding, straight to what was rounded, where that was positive.
        return (levels[nearest] + Z.relu() - Z.relu().detach()).relu()


class MatchingPursuit(PretrainedModule):
    """
    Takes the factor that fits best what is left of the row, again and again; factors need no unit length.

    ``settings``: ``n_steps``; ``rectified``, whether only positive coefficients count; ``stop_on_same_factors``,
    whether a row is done once a step brings no new factor, and ``residual``, below what length of its rest it is done
    (0 for never): the step that shows it is kept. Of the weights, ``shift`` is what is subtracted from rows first.
    """

    shapes = {"shift?": ("n_features",)}
    schema = PretrainedModule.schema | {
        "n_steps": _COUNT,
        "rectified": bool,
        "stop_on_same_factors": bool,
        "residual": float,
    }

    def coded(self, X):
        """Return the codes of scaled rows."""
        atoms, settings = self.components, self.settings
        rest = X - self.weights["shift"] if "shift" in self.weights else X
        codes = X.new_zeros(len(X), len(atoms))
        before = torch.zeros_like(codes, dtype=torch.bool)
        done = torch.zeros(len(X), dtype=torch.bool, device=X.device)
        for _ in range(settings["n_steps"]):
            with torch.no_grad():
                fit = rest @ atoms.T
                chosen = (fit.relu() if settings["rectified"] else fit).argmax(1)
            values = (rest * atoms[chosen]).sum(1)
            values = torch.where(done, 0, values.relu() if settings["rectified"] else values)
            codes = codes.scatter_add(1, chosen[:, None], values[:, None])
            rest = rest - values[:, None] * atoms[chosen]
            there = codes != 0
            if settings["stop_on_same_factors"]:
                done = done | (there == before).all(1)
            if settings["residual"] > 0:
                done = done | (rest.norm(dim=1) < settings["residual"])
            before = there
            if done.all():
                break
        return codes


class OrthogonalMatchingPursuit(PretrainedModule):
    """
    Adds the factor that fits best what is left of the row, and after each fits all that it has, without negative ones.

    These fits are gradient steps, ``settings["n_fit_steps"]`` of them, and not run until they are done.
    """

    schema = PretrainedModule.schema | {"n_nonzero_coefs": _COUNT, "n_fit_steps": NATURAL}

    @classmethod
    def misfit(cls, settings, shapes):
        """Say where weights do not fit settings."""
        most, n_components = settings["n_nonzero_coefs"], shapes["components"][0]
        return None if most <= n_components else f"its n_nonzero_coefs is {most}, of {n_components} components"

    def coded(self, X):
        """Return the codes of scaled rows."""
        atoms = self.components
        codes, chosen = X.new_zeros(len(X), len(atoms)), torch.empty(len(X), 0, dtype=torch.long, device=X.device)
        for _ in range(self.settings["n_nonzero_coefs"]):
            with torch.no_grad():
                fit = ((X - codes @ atoms) @ atoms.T).scatter(1, chosen, -torch.inf)
                chosen = torch.cat([chosen, fit.argmax(1, keepdim=True)], 1)
            D = atoms[chosen]
            gram, target = D @ D.transpose(1, 2), (D @ X[:, :, None])[:, :, 0]
            step = 1 / (gram.square().sum((1, 2)).sqrt() + 1e-8)
            values = codes.gather(1, chosen)
            for _ in range(self.settings["n_fit_steps"]):
                values = (values - step[:, None] * ((gram @ values[:, :, None])[:, :, 0] - target)).clamp_min(0)
            codes = codes.scatter(1, chosen, values)
        return codes


class LeastSquares(Described, SparseCodingModule):
    """Codes that fit rows best without being negative, exactly: non-negative least squares, row by row."""

    def __init__(self, components, intercept, weights, settings):
        super().__init__(components, _nonnegative_least_squares, 0.0)


class Temporal(PretrainedModule):
    """
    Attention predicts a token from those before it, and codes are of what is new in it.

    Bhalla et al. (2025), Temporal sparse autoencoders, as SAELens has them. What rows are reconstructed as contains the
    prediction; codes alone, and what :meth:`decode` makes of them, do not.
    """

    of_sequences = True
    schema = PretrainedModule.schema | {
        "n_layers": _LAYERS,
        "n_heads": _COUNT,
        "n_nonzero_coefs": (_COUNT, None),
        "factor": lambda value: mismatch(value, float) is None and value > 0,
    }

    @classmethod
    def shapes_for(cls, settings, names):
        """Return the shapes of weights."""
        shapes, widths = {}, {"q_target": "key", "k_ctx": "key", "v_ctx": "n_components", "c_proj": "n_components"}
        for name, width in widths.items():
            for layer in (f"attn_layers.{number}.{name}" for number in range(settings["n_layers"])):
                shapes |= {f"{layer}.weight": (width, "n_components"), f"{layer}.bias": (width,)}
        return shapes | {"shift?": ("n_features",), "encoder?": ("n_components", "n_features")}

    @classmethod
    def misfit(cls, settings, shapes):
        """Say where weights do not fit settings."""
        widths = shapes["components"][0], shapes["attn_layers.0.q_target.bias"][0]
        uneven = [width for width in widths if width % settings["n_heads"] or not width]
        return f"{uneven[0]} numbers are not to be shared by {settings['n_heads']} heads" if uneven else None

    def encode(self, X):
        """Return codes of what is new in tokens: (n_texts, n_tokens, n_components)."""
        return self._new_and_predicted(X)[0]

    def forward(self, X):
        """Return what tokens are reconstructed as: (n_texts, n_tokens, n_features)."""
        _, shift, scale = self.scaled(X)
        return self.decode(sum(self._new_and_predicted(X))) * scale + shift

    def scaled(self, X):
        """Return scaled rows, and the shift and scale that undo it."""
        flat, shift, scale = super().scaled(X.reshape(-1, X.shape[-1]))
        shift, scale = (part.reshape(*X.shape[:2], 1) if hasattr(part, "reshape") else part for part in (shift, scale))
        factor = self.settings["factor"]
        return flat.reshape(X.shape) * factor, shift, scale / factor

    def _new_and_predicted(self, X):
        rest = self.scaled(X)[0]
        rest = rest - self.weights["shift"] if "shift" in self.weights else rest
        encoder = (self.weights["encoder"] if "encoder" in self.weights else self.components) / (4 * X.shape[-1])
        predicted = 0
        for layer in range(self.settings["n_layers"]):
            now = (rest @ encoder.T).relu()
            before = torch.nn.functional.pad(now[:, :-1], (0, 0, 1, 0))
            codes = self._attended(layer, before, now).relu()
            decoded = codes @ self.components
            share = (decoded * rest).sum(-1, keepdim=True) / (decoded.norm(dim=-1, keepdim=True) + 1e-6).square()
            predicted = predicted + codes * share
            rest = rest - decoded * share
        new = (rest @ encoder.T).relu()
        most = self.settings["n_nonzero_coefs"]
        return new if most is None else _largest(new, most), predicted

    def _attended(self, layer, before, now):
        def projected(name, X):
            pair = (self.weights[f"attn_layers__{layer}__{name}__{part}"] for part in ("weight", "bias"))
            return torch.nn.functional.linear(X, *pair)

        heads = [
            part.unflatten(-1, (self.settings["n_heads"], -1)).transpose(1, 2)
            for part in (projected("q_target", now), projected("k_ctx", before), projected("v_ctx", before))
        ]
        found = torch.nn.functional.scaled_dot_product_attention(*heads, is_causal=True)
        return projected("c_proj", found.transpose(1, 2).flatten(-2))


ENCODERS = {
    "largest_of_batch": LargestOfBatch,
    "least_squares": LeastSquares,
    "linear": Linear,
    "matching_pursuit": MatchingPursuit,
    "orthogonal_matching_pursuit": OrthogonalMatchingPursuit,
    "perceptron": Perceptron,
    "quantized": Quantized,
    "temporal": Temporal,
}


def _largest(Z, most):
    values, factors = Z.topk(min(most, Z.shape[-1]), dim=-1)
    return torch.zeros_like(Z).scatter(-1, factors, values)


def _nonnegative_least_squares(components, X):
    atoms = components.cpu().numpy().T.astype(np.float64)
    codes = [scipy.optimize.nnls(atoms, row)[0] for row in X.cpu().numpy().astype(np.float64)]
    return torch.tensor(np.array(codes).reshape(len(X), len(components)), dtype=components.dtype, device=X.device)
