"""Priors over code maps: nothing later is seen, everything earlier is, and all maps together have probability one."""

from __future__ import annotations

from itertools import product

import pytest
import torch

from vqbook.priors import GatedPixelCNN, MaskedConv2d


@pytest.fixture
def prior() -> GatedPixelCNN:
    torch.manual_seed(0)
    return GatedPixelCNN(3, channels=8, layers=4, condition=2).double()


def codes(*shape: int) -> torch.Tensor:
    return torch.randint(3, shape, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize(("mask", "count"), [("above", 10), ("A", 12), ("B", 13), ("rows", 15)])
def test_masks_count_what_they_show(mask: str, count: int) -> None:
    convolution = MaskedConv2d(1, 1, 5, mask)  # type: ignore[arg-type]
    assert convolution.mask.sum() == count
    x = torch.zeros(1, 1, 5, 5, requires_grad=True)
    torch.nn.init.ones_(convolution.weight)
    convolution(x)[0, 0, 2, 2].backward()
    torch.testing.assert_close(x.grad[0, 0], convolution.mask)


def test_no_code_changes_the_logits_at_or_before_itself(prior: GatedPixelCNN) -> None:
    """Check 10 of the list that test_papers_checks_topics.py goes through."""
    x, h = codes(2, 5, 6), torch.randn(2, 2, dtype=torch.float64)
    before = prior(x, h).flatten(1, 2)
    for i in range(30):
        other = x.flatten(1).clone()
        other[:, i] = (other[:, i] + 1) % 3
        after = prior(other.view(2, 5, 6), h).flatten(1, 2)
        assert torch.equal(after[:, : i + 1], before[:, : i + 1])
        assert i == 29 or not torch.equal(after[:, i + 1 :], before[:, i + 1 :])


def test_no_code_before_is_in_a_blind_spot(prior: GatedPixelCNN) -> None:
    """A stack of masked convolutions alone never sees the wedge at the upper right."""
    embedded = prior.embedding(codes(1, 5, 6)).movedim(-1, 1).detach().requires_grad_()
    above = row = embedded
    for layer in prior.layers:
        above, row = layer(above, row, torch.ones(1, 2, dtype=torch.float64))
    row[0, :, 4, 2].sum().backward()
    reached = embedded.grad[0].abs().sum(0).flatten() > 0
    assert reached[: 4 * 6 + 2].all() and not reached[4 * 6 + 2 :].any()


def test_all_maps_together_have_probability_one_for_every_condition(prior: GatedPixelCNN) -> None:
    every = torch.tensor(list(product(range(3), repeat=6))).view(-1, 2, 3)
    totals = []
    for h in (torch.zeros(2), torch.tensor([1.0, -2.0])):
        nll = prior.nll(every, h.double().expand(len(every), 2))
        totals.append(nll)
        torch.testing.assert_close((-nll).exp().sum(), torch.tensor(1.0, dtype=torch.float64))
    assert not torch.allclose(*totals)


def test_samples_follow_what_was_learned() -> None:
    """Rows of alternating codes: after a few steps nearly all the probability is on the two that exist."""
    torch.manual_seed(0)
    board = (torch.arange(4)[:, None] + torch.arange(4)) % 2
    data = torch.stack([board, 1 - board]).repeat(8, 1, 1)
    prior = GatedPixelCNN(2, channels=8, layers=2)
    optimizer = torch.optim.Adam(prior.parameters(), lr=2e-2)
    for _ in range(150):
        loss = prior.nll(data).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert 0.69 < loss.item() < 0.9  # ln 2 is the best possible
    drawn = prior.sample((20, 4, 4), generator=torch.Generator().manual_seed(2))
    known = [(drawn == x).flatten(1).all(1) for x in (board, 1 - board)]
    assert (known[0] | known[1]).float().mean() > 0.8 and known[0].any() and known[1].any()


def test_bad_input_is_named(prior: GatedPixelCNN) -> None:
    with pytest.raises(ValueError, match="odd"):
        MaskedConv2d(1, 1, 4, "A")
    with pytest.raises(ValueError, match="mask must be one of A, B"):
        MaskedConv2d(1, 1, 3, "C")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="1 or more"):
        GatedPixelCNN(0)
    h = torch.zeros(1, 2, dtype=torch.float64)
    with pytest.raises(ValueError, match="integers"):
        prior(torch.zeros(1, 2, 2), h)
    with pytest.raises(ValueError, match="from 0 to 2, got 0 to 3"):
        prior(torch.tensor([[[0, 3]]]), h)
    with pytest.raises(ValueError, match=r"h must be \(B, 2\), got None"):
        prior(codes(1, 2, 2))
