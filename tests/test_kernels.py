"""Kernels for GPUs, run by Triton's interpreter on a CPU."""

import numpy as np
import pytest
import torch

from skfactors.dictionaries.autoencoders import dense_engine

pytestmark = pytest.mark.skipif(
    torch.cuda.is_available(), reason="a GPU is there: tests/test_accelerator.py runs the kernels"
)


@pytest.fixture
def update_factors():
    pytest.importorskip("triton", reason="Triton, which interprets kernels, is not installed")
    from skfactors.dictionaries.autoencoders._fused_update import update_factors

    return update_factors


@pytest.mark.parametrize("n_features", [1, 12, 40])
def test_the_kernel_moves_factors_as_plain_torch_does(update_factors, n_features):
    generator = torch.Generator().manual_seed(0)
    gradients, weights = torch.randn(2, 2, 9, n_features, generator=generator, dtype=torch.float64)
    moments = torch.rand(2, 2, 9, n_features, generator=generator, dtype=torch.float64)
    weights[1] /= weights[1].norm(dim=1, keepdim=True)
    n_updates = torch.tensor([1, 0, 3, 1000, 0, 7, 1, 2, 100_000])
    of_kernel, of_torch = ([part.clone() for part in (gradients, weights, moments)] for _ in range(2))
    update_factors(*of_kernel, n_updates, 1e-2)
    dense_engine._update_factors(*of_torch, n_updates, 1e-2)
    for found, expected in zip(of_kernel[1:], of_torch[1:], strict=True):
        np.testing.assert_allclose(found, expected, atol=1e-12)
    still = n_updates == 0
    assert torch.equal(of_kernel[1][:, still], weights[:, still])
    assert not torch.equal(of_kernel[1][:, ~still], weights[:, ~still])
