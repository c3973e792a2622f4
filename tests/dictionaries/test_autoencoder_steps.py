"""A step of an autoencoder, beside the loss of each paper written out slowly and differentiated by torch."""

import numpy as np
import pytest
import torch

from skfactors.dictionaries.autoencoders.activations import ACTIVATIONS
from skfactors.dictionaries.autoencoders.dense_engine import DenseEngine
from skfactors.dictionaries.autoencoders.sparse_engine import Outcome, SparseEngine
from skfactors.dictionaries.autoencoders.starting import Standardizer
from skfactors.dictionaries.autoencoders.step import AutoencoderStep, Pace
from skfactors.dictionaries.autoencoders.weights import Weights
from skfactors.learning.processes import OneProcess

N_ROWS, N_COMPONENTS, N_FEATURES, K, PENALTY, AUXK = 300, 40, 12, 5, 0.3, 0.5
N_OUTPUTS, JACOBIAN_PENALTY = 9, 0.2
GROUPS = {"one group": [N_COMPONENTS], "nested groups": [8, 20, N_COMPONENTS]}
AS_IT_IS = Standardizer(np.zeros(N_FEATURES), 1.0)
SILENT = {"nobody silent": [], "some silent": [3, 11, 30, 31, 37]}


def problem(name, seed=0):
    """Rows, weights that sum to 1, and an autoencoder of float64."""
    rng = np.random.default_rng(seed)
    encoder, components = rng.standard_normal((2, N_COMPONENTS, N_FEATURES))
    components /= np.linalg.norm(components, axis=1, keepdims=True)
    activation = ACTIVATIONS[name](K)
    parameters = activation.begin(0.3 * rng.standard_normal(N_COMPONENTS), 2.0)
    parameters = parameters + 0.1 * rng.standard_normal(parameters.shape)
    weights = Weights.begin(encoder, components, parameters, np.float64)
    weights.intercept[:] = rng.standard_normal(N_FEATURES)
    weight = rng.random(N_ROWS)
    return activation, weights, rng.standard_normal((N_ROWS, N_FEATURES)), weight / weight.sum()


class StepFunction(torch.autograd.Function):
    """H(z - θ), with the derivative by θ that the JumpReLU paper gives it: a window of width `bandwidth` around θ."""

    @staticmethod
    def forward(ctx, z, threshold, bandwidth):
        ctx.save_for_backward(z, threshold)
        ctx.bandwidth = bandwidth
        return (z > threshold).double()

    @staticmethod
    def backward(ctx, gradient):
        z, threshold = ctx.saved_tensors
        window = ((z - threshold) / ctx.bandwidth).abs() < 0.5
        return None, (-gradient * window / ctx.bandwidth).sum(0), None


def slow_codes(name, z, parameters):
    """Codes, the penalty of each row, and the codes of a second reconstruction, as the papers have them."""
    positive, none = torch.relu(z), torch.zeros(len(z), dtype=z.dtype)
    if name == "relu":
        return positive, positive.sum(1), None
    if name == "topk":
        least = positive.sort(1, descending=True).values[:, K - 1 : K]
        return positive * (positive >= least), none, None
    if name == "abs_topk":
        least = z.abs().sort(1, descending=True).values[:, K - 1 : K]
        return z * (z.abs() >= least), none, None
    if name == "batch_topk":
        least = positive.flatten().sort(descending=True).values[K * len(z) - 1]
        return positive * (positive >= least), none, None
    if name == "jump_relu":
        threshold, bandwidth = parameters[1].exp(), ACTIVATIONS[name].bandwidth
        step = StepFunction.apply(z, threshold, bandwidth)
        # θ·∂H/∂θ instead of z·∂H/∂θ: in the window z is θ, which is how the paper writes it.
        by_value = z * step.detach()
        by_threshold = threshold.detach() * step - (threshold.detach() * step).detach()
        return by_value + by_threshold, step.sum(1), None
    product = z - parameters[0]
    magnitude = torch.relu(parameters[1].exp() * product + parameters[2])
    return (z > 0) * magnitude, positive.sum(1), positive


def slow_gradients(name, weights, X, weight, group_ends, silent):
    """Gradients by factors, parameters and intercept; those by components without what would lengthen them."""
    factors, parameters, intercept = (
        torch.tensor(array, requires_grad=True) for array in (weights.factors, weights.parameters, weights.intercept)
    )
    X, weight = torch.tensor(X), torch.tensor(weight)
    encoder, components = factors
    z = X @ encoder.T + parameters[0]
    codes, penalties, second = slow_codes(name, z, parameters)
    loss = PENALTY * (weight @ penalties)
    for end in group_ends:
        residual = X - (codes[:, :end] @ components[:end] + intercept)
        loss = loss + weight @ residual.square().sum(1) / 2 / len(group_ends)
        if second is not None:
            of_second = X - (second[:, :end] @ components[:end].detach() + intercept.detach())
            loss = loss + weight @ of_second.square().sum(1) / 2 / len(group_ends)
    if silent:
        own = torch.relu(z[:, silent])
        least = own.sort(1, descending=True).values[:, min(N_FEATURES // 2, len(silent)) - 1, None]
        left = residual.detach() - (own * (own >= least)) @ components[silent]
        loss = loss + AUXK * (weight @ left.square().sum(1)) / 2
    gradients = [
        np.zeros(tensor.shape) if gradient is None else gradient.numpy()
        for tensor, gradient in zip(
            (factors, parameters, intercept),
            torch.autograd.grad(loss, (factors, parameters, intercept), allow_unused=True),
            strict=True,
        )
    ]
    along = np.einsum("ij,ij->i", gradients[0][1], weights.factors[1])
    gradients[0][1] -= along[:, None] * weights.factors[1]
    return gradients


def engine_of(kind, name, group_ends):
    activation, weights, X, weight = problem(name)
    of = (weights, activation, np.array(group_ends), OneProcess())
    return (SparseEngine(*of) if kind == "sparse" else DenseEngine(*of, "cpu")), X, weight


@pytest.mark.parametrize("silent", SILENT)
@pytest.mark.parametrize("groups", GROUPS)
@pytest.mark.parametrize("name", ACTIVATIONS)
@pytest.mark.parametrize("kind", ["sparse", "dense"])
def test_a_step_follows_the_gradient_of_the_loss_written_out(kind, name, groups, silent):
    engine, X, weight = engine_of(kind, name, GROUPS[groups])
    expected = slow_gradients(name, problem(name)[1], X, weight, GROUPS[groups], SILENT[silent])
    engine.learn(X, AS_IT_IS, weight, 1e-3, PENALTY, np.array(SILENT[silent], dtype=np.int64), AUXK)
    after = engine.weights.arrays()
    for found, wanted in zip(("factor_moments", "parameter_moments", "intercept_moments"), expected, strict=True):
        # What Adam keeps after one step is a tenth of the gradient.
        np.testing.assert_allclose(after[found][0] * 10, wanted, atol=1e-10)


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_the_slow_gradients_do_not_vanish(name):
    _, weights, X, weight = problem(name)
    for gradient in slow_gradients(name, weights, X, weight, [N_COMPONENTS], []):
        assert abs(gradient).max() > 1e-4


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_sparse_and_dense_steps_learn_the_same(name):
    learned = []
    for kind in ("sparse", "dense"):
        engine, X, weight = engine_of(kind, name, GROUPS["nested groups"])
        for number in range(10):
            silent = np.array(SILENT["some silent"] if number % 2 else [], dtype=np.int64)
            outcome = engine.learn(X[number:], AS_IT_IS, weight[number:], 1e-2, PENALTY, silent, AUXK)
        learned.append((engine.weights.arrays(), outcome))
    (one, of_one), (other, of_other) = learned
    for array in one:
        np.testing.assert_allclose(one[array], other[array], atol=1e-9)
    np.testing.assert_allclose(of_one.residual, of_other.residual, atol=1e-9)
    assert of_one.n_codes == of_other.n_codes and of_one.squared == pytest.approx(of_other.squared)
    np.testing.assert_array_equal(of_one.fired, of_other.fired)
    np.testing.assert_allclose(np.linalg.norm(one["factors"][1], axis=1), 1)


@pytest.mark.parametrize("scale", [0.01, 0.9, 100])
def test_the_largest_of_a_minibatch_are_found_whatever_they_were_in_the_last(scale):
    (moved, X, weight), (fresh, *_) = (engine_of("sparse", "batch_topk", [N_COMPONENTS]) for _ in range(2))
    nobody = np.array([], np.int64)
    moved.learn(X, AS_IT_IS, weight, 0.0, PENALTY, nobody, AUXK)
    one, other = (engine.learn(scale * X, AS_IT_IS, weight, 0.0, PENALTY, nobody, AUXK) for engine in (moved, fresh))
    assert one.n_codes == other.n_codes == K * N_ROWS
    np.testing.assert_allclose(one.residual, other.residual, atol=1e-9)


def test_factors_without_an_entry_stay_as_they_are():
    engine, X, weight = engine_of("sparse", "relu", [N_COMPONENTS])
    engine.weights.parameters[0, 7] = -1e3
    before = engine.weights.arrays()
    outcome = engine.learn(X, AS_IT_IS, weight, 1e-2, PENALTY, np.array([], np.int64), AUXK)
    after = engine.weights.arrays()
    assert not outcome.fired[7] and outcome.fired.sum() > 30
    np.testing.assert_array_equal(after["factors"][:, 7], before["factors"][:, 7])
    assert after["n_updates"][7] == 0 and abs(after["factors"][:, 8] - before["factors"][:, 8]).max() > 1e-3


def test_directions_for_silent_factors_explain_what_is_left_together_and_not_the_same_twice():
    rng = np.random.default_rng(0)
    # One direction is in all that is left; others are in parts of it.
    rows = 3 + rng.standard_normal((200, N_FEATURES))
    left = 2 * rng.random((200, 1)) * np.eye(N_FEATURES)[0] + 0.5 * rng.standard_normal((200, N_FEATURES))
    engine, *_ = engine_of("sparse", "topk", [N_COMPONENTS])
    step = AutoencoderStep(engine, AS_IT_IS, (rows, np.ones(200)), Pace(1e-3, 0, None), 0.0, False, AUXK, OneProcess())
    outcome = Outcome(0.0, 0.0, 0, 0.0, 0.0, np.zeros(N_FEATURES), np.zeros(N_COMPONENTS, bool), rows, -left)
    heard, directions, lengths = step._unexplained(outcome, 6)
    np.testing.assert_array_equal(heard, directions)
    assert 4 <= len(directions) <= 6
    np.testing.assert_allclose(np.linalg.norm(directions, axis=1), 1)
    assert abs(directions @ directions.T - np.eye(len(directions))).max() < 0.6
    assert (lengths > 0).all()


def transcoder_problem(name):
    """A problem whose rows are 12 features to read and 9 to predict, and a skip between them."""
    activation, weights, X, weight = problem(name)
    rng = np.random.default_rng(1)
    # Beyond the features that are predicted, components have nothing.
    weights.factors[1, :, N_OUTPUTS:] = weights.intercept[N_OUTPUTS:] = 0
    weights.factors[1] /= np.linalg.norm(weights.factors[1], axis=1, keepdims=True)
    skip = np.zeros((N_FEATURES, N_FEATURES))
    skip[:N_OUTPUTS] = 0.3 * rng.standard_normal((N_OUTPUTS, N_FEATURES))
    start = Weights.begin(*weights.factors, weights.parameters, np.float64, skip)
    start.intercept[:] = weights.intercept
    return activation, start, X, rng.standard_normal((N_ROWS, N_OUTPUTS)), weight


def slow_transcoder_gradients(name, weights, X, Y, weight, group_ends):
    """Gradients, with the derivatives of each row's prediction by the row itself made by autograd, row by row."""
    tensors = (weights.factors, weights.parameters, weights.intercept, weights.skip)
    factors, parameters, intercept, skip = (torch.tensor(array, requires_grad=True) for array in tensors)
    X, Y, weight = (torch.tensor(array) for array in (X, np.pad(Y, ((0, 0), (0, N_FEATURES - N_OUTPUTS))), weight))

    def codes_of(x):
        return slow_codes(name, x @ factors[0].T + parameters[0], parameters)

    def predicted(x, active):
        """Predict a row, whose active factors stay those."""
        z = x @ factors[0].T + parameters[0]
        if name == "gated":
            z = parameters[1].exp() * (z - parameters[0]) + parameters[2]
        return (active * z) @ factors[1] + x @ skip.T

    codes, penalties, second = codes_of(X)
    loss = PENALTY * (weight @ penalties)
    for end in group_ends:
        residual = Y - (codes[:, :end] @ factors[1, :end] + intercept + X @ skip.T)
        loss = loss + weight @ residual.square().sum(1) / 2 / len(group_ends)
        if second is not None:
            of_second = (second[:, :end] @ factors[1, :end].detach()) + intercept.detach() + X @ skip.detach().T
            loss = loss + weight @ (Y - of_second).square().sum(1) / 2 / len(group_ends)
    for x, code, share in zip(X, codes.detach(), weight, strict=True):
        jacobian = torch.autograd.functional.jacobian(
            lambda row, active=(code != 0).double(): predicted(row, active), x, create_graph=True
        )
        loss = loss + share * JACOBIAN_PENALTY * jacobian.square().sum() / 2
    wanted = (factors, parameters, intercept, skip)
    gradients = [gradient.numpy() for gradient in torch.autograd.grad(loss, wanted)]
    along = np.einsum("ij,ij->i", gradients[0][1], weights.factors[1])
    gradients[0][1] -= along[:, None] * weights.factors[1]
    return gradients


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_a_step_of_a_transcoder_follows_the_gradient_of_its_loss_and_derivatives(name):
    activation, weights, X, Y, weight = transcoder_problem(name)
    groups = GROUPS["nested groups"]
    expected = slow_transcoder_gradients(name, weights, X, Y, weight, groups)
    as_it_is = Standardizer(np.zeros(N_FEATURES + N_OUTPUTS), np.ones(2), (N_FEATURES, N_OUTPUTS), predicts=True)
    for kind in ("sparse", "dense"):
        of = (transcoder_problem(name)[1], activation, np.array(groups), OneProcess())
        engine = (
            SparseEngine(*of, JACOBIAN_PENALTY)
            if kind == "sparse"
            else DenseEngine(*of, "cpu", jacobian_penalty=JACOBIAN_PENALTY)
        )
        outcome = engine.learn(np.hstack([X, Y]), as_it_is, weight, 1e-3, PENALTY, np.array([], np.int64), AUXK)
        after = engine.weights.arrays()
        moments = ("factor_moments", "parameter_moments", "intercept_moments", "skip_moments")
        for found, wanted in zip(moments, expected, strict=True):
            np.testing.assert_allclose(after[found][0] * 10, wanted, atol=1e-10)
        assert outcome.squares == pytest.approx((Y**2).sum())
        # What is beyond the features that are predicted stays as it is.
        assert not after["factors"][1, :, N_OUTPUTS:].any() and not after["skip"][N_OUTPUTS:].any()
