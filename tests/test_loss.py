from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from tacit.parts.loss import generalised_cross_entropy, knowledge_diffusion, mutual_information, total_variation


def test_gce_is_mean_absolute_error_at_one_and_cross_entropy_near_zero() -> None:
    logits, target = torch.randn(50, generator=torch.Generator().manual_seed(0)), (torch.arange(50) % 2).float()
    p = torch.sigmoid(logits)
    assert generalised_cross_entropy(logits, target, 1.0) == pytest.approx(float((target - p).abs().mean()), rel=1e-4)
    assert generalised_cross_entropy(logits, target, 1e-4) == pytest.approx(float(F.binary_cross_entropy_with_logits(logits, target)), rel=1e-3)


def test_gce_ignores_what_weighs_nothing() -> None:
    logits, target = torch.tensor([5.0, -5.0]), torch.tensor([1.0, 1.0])
    assert generalised_cross_entropy(logits, target, 0.7, torch.tensor([1.0, 0.0])) < 0.02


def test_total_variation_by_loop() -> None:
    x = torch.randn(2, 3, 5, 6, generator=torch.Generator().manual_seed(1))
    a = x.numpy()
    down = np.mean([abs(a[b, c, i + 1, j] - a[b, c, i, j]) for b in range(2) for c in range(3) for i in range(4) for j in range(6)])
    right = np.mean([abs(a[b, c, i, j + 1] - a[b, c, i, j]) for b in range(2) for c in range(3) for i in range(5) for j in range(5)])
    assert float(total_variation(x)) == pytest.approx(down + right, rel=1e-5)


def test_mutual_information_against_a_hand_computed_joint() -> None:
    one_hot = torch.eye(2)[[0, 0, 1, 1]]
    assert float(mutual_information(one_hot, one_hot)) == pytest.approx(np.log(2), abs=1e-4)
    assert float(mutual_information(one_hot, torch.eye(2)[[0, 1, 0, 1]])) == pytest.approx(0, abs=1e-4)


def test_knowledge_diffusion_by_loop() -> None:
    rng = np.random.default_rng(0)
    z = torch.from_numpy(rng.standard_normal((1, 3, 4, 4)).astype(np.float32))
    border, interior = torch.zeros(2, 1, 1, 4, 4)
    border[..., 0, :], interior[..., 2:, 1:] = 1, 1
    unit = F.normalize(z, dim=1)[0].numpy() * 3**0.5
    anchor = unit[:, 0, :].mean(1)
    slow = np.mean([((unit[:, r, c] - anchor) ** 2).mean() for r in (2, 3) for c in (1, 2, 3)])
    assert float(knowledge_diffusion(z, border, interior)) == pytest.approx(slow, rel=1e-5)
    assert float(knowledge_diffusion(z, border, torch.zeros_like(interior))) == 0
