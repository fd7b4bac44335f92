"""Gradients through a choice: f(z_e, z_q) has the value of z_q and a gradient that the argmin does not have."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.functional import normalize

Estimator = Callable[[Tensor, Tensor], Tensor]


def straight_through(z_e: Tensor, z_q: Tensor) -> Tensor:
    r"""Have the value of z_q and the gradient of z_e.

    $\tilde z = z_e + \mathrm{sg}[z_q - z_e]$

    Args:
        z_e: encoder output, (..., D).
        z_q: quantised vectors, the same shape.
    Returns:
        A tensor equal to z_q up to rounding, whose gradient flows to z_e alone, (..., D).
    Raises:
        ValueError: the shapes differ.

    Bengio et al., 2013; chapter 3.
    """
    _same_shape(z_e, z_q)
    return z_e + (z_q - z_e).detach()


def rotation_trick(z_e: Tensor, z_q: Tensor) -> Tensor:
    r"""Turn and stretch z_e into z_q; the gradient is turned and stretched back.

    $\tilde z = \lambda R z_e$ with $\lambda = \lVert z_q \rVert / \lVert z_e \rVert$ and
    $R = I - 2 r r^\top + 2 \hat q \hat e^\top$, the rotation in the plane of the unit vectors
    $\hat e = z_e / \lVert z_e \rVert$ and $\hat q = z_q / \lVert z_q \rVert$ that takes $\hat e$ to
    $\hat q$; $r$ is the unit vector along $\hat e + \hat q$. Both λ and R are constants for the gradient,
    which so becomes $\lambda R^\top g$: its angle with z_e is that of g with z_q. No D x D matrix is made.

    Where z_e is zero there is no direction to turn: the gradient is that of straight_through.

    Args:
        z_e: encoder output, (..., D).
        z_q: quantised vectors, the same shape.
    Returns:
        A tensor equal to z_q up to rounding, whose gradient flows to z_e alone, (..., D).
    Raises:
        ValueError: the shapes differ.

    Fifty et al., 2024; chapter 5.
    """
    _same_shape(z_e, z_q)
    with torch.no_grad():
        length = z_e.norm(dim=-1, keepdim=True)  # (..., 1)
        zero = length == 0
        q_hat = normalize(z_q, dim=-1)
        e_hat = torch.where(zero, q_hat, normalize(z_e, dim=-1))
        r = normalize(e_hat + q_hat, dim=-1)
        stretch = torch.where(zero, 1, z_q.norm(dim=-1, keepdim=True) / length)
    along_r = (z_e * r).sum(-1, keepdim=True)
    along_e = (z_e * e_hat).sum(-1, keepdim=True)
    turned = stretch * (z_e - 2 * along_r * r + 2 * along_e * q_hat)
    return turned + (z_q - turned).detach()


def synchronised(nu: float) -> Estimator:
    r"""straight_through that lets a share of the task's gradient reach the codebook.

    $\tilde z = z_e + \mathrm{sg}[z_q - z_e] + \nu\,(z_q - \mathrm{sg}[z_q])$

    The last part is zero in value. The encoder receives the gradient g of the task, the chosen code ν g: both move
    in the same step, so that the code does not lag behind.

    Args:
        nu: ν, the share; 0 gives straight_through, the authors use 0.2 to 2.
    Returns:
        An estimator (z_e, z_q) -> tensor of the same shape.
    Raises:
        ValueError: nu is negative or not finite.

    Huh et al., 2023; chapter 5.
    """
    if not 0 <= nu < float("inf"):
        raise ValueError(f"nu must be a finite number of at least 0, got {nu}")

    def estimator(z_e: Tensor, z_q: Tensor) -> Tensor:
        return straight_through(z_e, z_q) + nu * (z_q - z_q.detach())

    return estimator


def _same_shape(z_e: Tensor, z_q: Tensor) -> None:
    if z_e.shape != z_q.shape:
        raise ValueError(f"z_e and z_q must have one shape, got {tuple(z_e.shape)} and {tuple(z_q.shape)}")
