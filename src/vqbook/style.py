"""The look of every figure: opaque paper, colours that colour-blind readers can tell apart, legible type."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any, Literal

import matplotlib
from cycler import cycler
from matplotlib.figure import Figure
from torch import Tensor

PAPER = "#fffdf8"
INK = "#222222"
RULE = "#d9d5cb"

# Okabe and Ito's palette, in the order in which series take it; yellow is last because it is faint on paper.
PALETTE: dict[str, str] = {
    "blue": "#0072B2",
    "vermillion": "#D55E00",
    "green": "#009E73",
    "purple": "#CC79A7",
    "orange": "#E69F00",
    "sky": "#56B4E9",
    "black": "#000000",
    "yellow": "#F0E442",
}
# The n-th series has the n-th colour, the n-th marker and the n-th dash: colour never carries meaning alone.
MARKERS: tuple[str, ...] = ("o", "s", "^", "D", "v", "P", "X", "*")
DASHES: tuple[Any, ...] = (
    "-",
    "--",
    "-.",
    ":",
    (0, (5, 1)),
    (0, (3, 1, 1, 1)),
    (0, (1, 1)),
    (0, (8, 2, 2, 2)),
)

WIDTHS = {"wide": 6.5, "narrow": 4.4, "half": 3.15}  # inches
DPI = 144


def apply() -> None:
    """Set matplotlib's defaults to the house style, for figures made after this call."""
    matplotlib.rcParams.update(
        {
            "figure.facecolor": PAPER,
            "axes.facecolor": PAPER,
            "savefig.facecolor": PAPER,
            "savefig.transparent": False,
            "legend.facecolor": PAPER,
            "figure.figsize": (WIDTHS["wide"], 3.2),
            "figure.dpi": DPI,
            "savefig.dpi": DPI,
            "figure.constrained_layout.use": True,
            "font.family": "sans-serif",
            "font.sans-serif": ["DejaVu Sans"],  # ships with matplotlib: the same figure on every machine
            "font.size": 10,
            "axes.titlesize": 10.5,
            "axes.labelsize": 10,
            "xtick.labelsize": 9,
            "ytick.labelsize": 9,
            "legend.fontsize": 9,
            "figure.titlesize": 11,
            "text.color": INK,
            "axes.labelcolor": INK,
            "axes.titlecolor": INK,
            "xtick.color": INK,
            "ytick.color": INK,
            "axes.edgecolor": INK,
            "axes.spines.top": False,
            "axes.spines.right": False,
            "axes.linewidth": 0.8,
            "grid.color": RULE,
            "grid.linewidth": 0.6,
            "lines.linewidth": 1.8,
            "lines.markersize": 5,
            "legend.framealpha": 1.0,
            "legend.edgecolor": RULE,
            "image.cmap": "cividis",
            "image.interpolation": "nearest",
            "axes.prop_cycle": cycler(color=list(PALETTE.values())) + cycler(linestyle=list(DASHES)),
        }
    )


class PaperFigure(Figure):
    """A figure that pyplot does not hold: it is shown once, as a cell's value, and forgotten with it."""

    def _repr_png_(self) -> tuple[bytes, dict[str, int]]:
        data = io.BytesIO()
        self.savefig(data, format="png", dpi=DPI)
        width, height = self.get_size_inches()
        return data.getvalue(), {"width": round(96 * width), "height": round(96 * height)}


def figure(
    rows: int = 1,
    cols: int = 1,
    *,
    width: Literal["wide", "narrow", "half"] = "wide",
    height: float | None = None,
    **subplots: Any,
) -> tuple[PaperFigure, Any]:
    """Make a figure in house style; end the cell with `fig` to show it.

    Args:
        rows, cols: grid of axes.
        width: "wide" (6.5 in, the text column), "narrow" (4.4 in, legible on a phone; for panels that stand on
            each other) or "half" (3.15 in).
        height: inches; by default 2.6 in a row.
        subplots: passed to `Figure.subplots`, for example `sharey=True`.
    Returns:
        The figure and its axes: one `Axes` for a 1 x 1 grid, otherwise an array as `plt.subplots` gives it.
    Raises:
        ValueError: for a width that is none of these.
    """
    if width not in WIDTHS:
        raise ValueError(f"width is {width!r}; expected one of {', '.join(map(repr, WIDTHS))}")
    apply()
    fig = PaperFigure(figsize=(WIDTHS[width], 2.6 * rows if height is None else height))
    return fig, fig.subplots(rows, cols, **subplots)


def image_grid(x: Tensor, columns: int, titles: Sequence[str] | None = None) -> PaperFigure:
    """Show a batch of images row by row, `columns` in each row.

    Args:
        x: images, (N, C, H, W) with C 1 or 3; float in [0, 1] or uint8.
        columns: images in a row.
        titles: none, one for each image (above it), or one for each row (at its left).
    Returns:
        A figure 6.5 in wide.
    Raises:
        ValueError: when `x` is not a batch of images or `titles` fits neither images nor rows.
    """
    if x.ndim != 4 or x.shape[1] not in (1, 3):
        raise ValueError(f"x has shape {tuple(x.shape)}; expected images (N, C, H, W) with C 1 or 3")
    if columns < 1:
        raise ValueError(f"columns is {columns}; expected at least 1")
    count, rows = len(x), -(-len(x) // columns)
    labels = list(titles or [])
    if len(labels) not in {0, count, rows}:
        raise ValueError(f"titles has {len(labels)} entries; expected {count} (images) or {rows} (rows)")
    by_row = len(labels) == rows and columns > 1
    pixels = x.detach().cpu()
    pixels = pixels.float() / 255 if not pixels.is_floating_point() else pixels.float()
    pictures = pixels.clamp(0, 1).permute(0, 2, 3, 1).numpy()
    cell = WIDTHS["wide"] / (columns + (0.9 if by_row else 0))
    tall = cell * x.shape[2] / x.shape[3] + (0.25 if labels and not by_row else 0)
    fig, axes = figure(rows, columns, height=rows * tall, squeeze=False)
    fig.set_layout_engine("constrained", w_pad=0.02, h_pad=0.02, wspace=0, hspace=0)
    for i, axis in enumerate(axes.flat):
        axis.set(xticks=[], yticks=[])
        axis.spines[:].set_visible(False)
        if i >= count:
            axis.set_facecolor("none")
            continue
        axis.imshow(pictures[i].squeeze(-1) if x.shape[1] == 1 else pictures[i], cmap="gray", vmin=0, vmax=1)
        if labels and not by_row:
            axis.set_title(labels[i], fontsize=9)
        elif labels and i % columns == 0:
            axis.set_ylabel(labels[i // columns], rotation=0, ha="right", va="center", labelpad=4, fontsize=9)
    return fig
