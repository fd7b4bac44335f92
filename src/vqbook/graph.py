"""Graphical models and flow charts, drawn with matplotlib in the book's style."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from matplotlib.axes import Axes
from matplotlib.patches import Circle, FancyArrowPatch, FancyBboxPatch, Patch

from vqbook.style import INK, PAPER

SEEN = "#d5dbe0"  # the fill of an observed node
BOX = "#dcebf5"


class Node(NamedTuple):
    """Something that arrows join.

    Attributes:
        at: its centre, in data units; the axes are made square.
        text: what stands in it, TeX allowed.
        kind: "hidden" or "seen", circles for random variables; "computed", a double circle for what follows without
            chance; "fixed", a dot under its text; "box", a step of a computation; "plain", text alone.
        width: of a box, in data units.
    """

    at: tuple[float, float]
    text: str
    kind: str = "hidden"
    width: float = 1.3


class Edge(NamedTuple):
    """An arrow from one node to another: bent by `bend` (0 is straight), dashed or not."""

    start: str
    end: str
    bend: float = 0.0
    dashed: bool = False


class Plate(NamedTuple):
    """A frame around what is repeated: its lower left and upper right corner, and how often."""

    low: tuple[float, float]
    high: tuple[float, float]
    text: str


RADIUS = 0.34
HEIGHTS = {"box": 0.76, "plain": 0.5}


def draw_graph(
    ax: Axes,
    nodes: Mapping[str, Node],
    edges: Sequence[Edge],
    plates: Sequence[Plate] = (),
    *,
    size: float = 11,
) -> None:
    """Draw nodes, arrows and plates; the axes lose their frame and take the limits of what was drawn.

    Args:
        ax: where.
        nodes: by name.
        edges: between names of nodes.
        plates: drawn below everything.
        size: of the type, in points.
    Raises:
        ValueError: an edge to a node that is not there, or a node of an unknown kind.
    """
    for plate in plates:
        (x, y), (right, top) = plate.low, plate.high
        look: dict[str, Any] = dict(boxstyle="round,pad=0,rounding_size=0.15", fc="none", ec=INK, lw=1.0)
        ax.add_patch(FancyBboxPatch(plate.low, right - x, top - y, **look))
        ax.text(right - 0.1, y + 0.09, plate.text, ha="right", va="bottom", fontsize=size - 2)
    shapes = {name: _shape(ax, node, size) for name, node in nodes.items()}
    for edge in edges:
        if missing := {edge.start, edge.end} - set(nodes):
            raise ValueError(f"{edge} joins {sorted(missing)}; there are nodes {sorted(nodes)}")
        arrow = FancyArrowPatch(
            nodes[edge.start].at,
            nodes[edge.end].at,
            patchA=shapes[edge.start],
            patchB=shapes[edge.end],
            connectionstyle=f"arc3,rad={edge.bend}",
            arrowstyle="-|>,head_length=5,head_width=2.6",
            ls="--" if edge.dashed else "-",
            lw=1.3,
            color=INK,
            shrinkA=1,
            shrinkB=1,
            mutation_scale=1,
        )
        ax.add_patch(arrow)
    ax.set_aspect("equal")
    ax.autoscale_view()
    ax.axis("off")


def _shape(ax: Axes, node: Node, size: float) -> Patch:
    """The node's outline, on which its arrows end."""
    x, y = node.at
    middle: dict[str, Any] = dict(ha="center", va="center", fontsize=size, zorder=4)
    if node.kind in HEIGHTS:
        high = HEIGHTS[node.kind]
        look: dict[str, Any] = dict(boxstyle="round,pad=0,rounding_size=0.12", lw=1.2)
        look |= dict(fc=BOX, ec=INK) if node.kind == "box" else dict(fc="none", ec="none")
        corner = (x - node.width / 2, y - high / 2)
        patch: Patch = FancyBboxPatch(corner, node.width, high, zorder=3, **look)
    elif node.kind == "fixed":
        patch = Circle(node.at, 0.07, fc=INK, ec=INK, zorder=3)
        middle |= dict(va="bottom")
        y += 0.14
    elif node.kind in ("hidden", "seen", "computed"):
        fill = SEEN if node.kind == "seen" else PAPER
        patch = Circle(node.at, RADIUS, fc=fill, ec=INK, lw=1.3, zorder=3)
        if node.kind == "computed":
            ax.add_patch(Circle(node.at, RADIUS - 0.06, fc="none", ec=INK, lw=0.9, zorder=4))
    else:
        raise ValueError(f"a node cannot be of kind {node.kind!r}: see the docstring of Node")
    ax.add_patch(patch)
    ax.text(x, y, node.text, **middle)
    return patch
