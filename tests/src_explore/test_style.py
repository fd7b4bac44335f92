"""The house style: contrast, sizes, colours that are never alone, figures that show once."""

from __future__ import annotations

import io

import matplotlib
import numpy as np
import pytest
import torch
from matplotlib.colors import to_rgb
from PIL import Image

from vqbook import style


def luminance(colour: str) -> float:
    channels = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in to_rgb(colour)]
    return float(np.dot([0.2126, 0.7152, 0.0722], channels))


def contrast(a: str, b: str) -> float:
    light, dark = sorted((luminance(a), luminance(b)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


@pytest.fixture(autouse=True)
def _defaults():
    with matplotlib.rc_context():
        yield


def test_every_text_has_enough_contrast_and_is_large_enough():
    style.apply()
    rc = matplotlib.rcParams
    for name in ("text.color", "axes.labelcolor", "axes.titlecolor", "xtick.color", "ytick.color"):
        assert contrast(rc[name], rc["axes.facecolor"]) >= 4.5
        assert contrast(rc[name], rc["figure.facecolor"]) >= 4.5
    sizes = ("font.size", "axes.titlesize", "axes.labelsize", "xtick.labelsize", "ytick.labelsize")
    assert min(rc[name] for name in (*sizes, "legend.fontsize")) >= 9


def test_colour_always_comes_with_a_marker_and_a_dash():
    assert len(style.PALETTE) == len(style.MARKERS) == len(style.DASHES)
    assert len({str(dash) for dash in style.DASHES}) == len(set(style.MARKERS)) == 8
    _, ax = style.figure()
    lines = [ax.plot([0, 1])[0] for _ in range(4)]
    assert len({line.get_color() for line in lines}) == len({line.get_linestyle() for line in lines}) == 4


def test_a_figure_is_opaque_and_as_wide_as_the_column():
    fig, ax = style.figure(height=2.0)
    ax.set(xlabel="step", ylabel="loss")
    png, size = fig._repr_png_()
    assert size == {"width": 624, "height": 192}
    picture = np.asarray(Image.open(io.BytesIO(png)).convert("RGBA"))
    assert (picture[..., 3] == 255).all()
    assert tuple(picture[0, 0, :3]) == tuple(round(255 * c) for c in to_rgb(style.PAPER))


def test_half_a_column_and_grids_of_axes():
    fig, axes = style.figure(2, 3, width="half", sharex=True)
    assert axes.shape == (2, 3)
    assert fig.get_size_inches()[0] == pytest.approx(3.15)
    with pytest.raises(ValueError, match="'huge'; expected one of 'wide', 'narrow', 'half'"):
        style.figure(width="huge")  # type: ignore[arg-type]


@pytest.mark.parametrize("titles", [None, list("abcdef"), ["input", "output"]])
@pytest.mark.parametrize("channels", [1, 3])
def test_image_grid_shows_each_image(channels, titles):
    fig = style.image_grid(torch.rand(6, channels, 8, 8), 3, titles)
    assert sum(len(ax.images) for ax in fig.axes) == 6
    written = [text for ax in fig.axes for text in (ax.get_title(), ax.get_ylabel()) if text]
    assert written == (titles or [])
    fig._repr_png_()


def test_image_grid_takes_bytes_and_a_last_row_that_is_short():
    fig = style.image_grid(torch.full((5, 1, 4, 4), 255, dtype=torch.uint8), 2)
    assert [len(ax.images) for ax in fig.axes] == [1, 1, 1, 1, 1, 0]
    assert float(np.max(fig.axes[0].images[0].get_array())) == 1.0


def test_image_grid_says_what_arrived():
    with pytest.raises(ValueError, match=r"shape \(4, 5, 8, 8\); expected images"):
        style.image_grid(torch.rand(4, 5, 8, 8), 2)
    with pytest.raises(ValueError, match=r"3 entries; expected 4 .* or 2"):
        style.image_grid(torch.rand(4, 1, 8, 8), 2, ["a", "b", "c"])
    with pytest.raises(ValueError, match="columns is 0"):
        style.image_grid(torch.rand(4, 1, 8, 8), 0)
