"""What the drawings of graphical models promise: every node and arrow is there, and mistakes are named."""

from __future__ import annotations

import itertools

import pytest
from matplotlib.patches import FancyArrowPatch

from vqbook.graph import Edge, Node, Plate, draw_graph
from vqbook.style import figure


def test_a_graph_has_its_nodes_arrows_and_plate():
    kinds = ("hidden", "seen", "computed", "fixed", "box", "plain")
    nodes = {kind: Node((i, 0), kind, kind) for i, kind in enumerate(kinds)}
    edges = [Edge(a, b) for a, b in itertools.pairwise(kinds)]
    fig, ax = figure()
    draw_graph(ax, nodes, edges, [Plate((-1, -1), (2, 1), "N")])
    fig.draw_without_rendering()
    assert sum(isinstance(patch, FancyArrowPatch) for patch in ax.patches) == len(edges)
    assert {text.get_text() for text in ax.texts} == {*kinds, "N"}
    assert not ax.axison


@pytest.mark.parametrize(
    ("nodes", "edges", "says"),
    [
        ({"a": Node((0, 0), "a")}, [Edge("a", "b")], "joins"),
        ({"a": Node((0, 0), "a", "square")}, [], "kind"),
    ],
)
def test_mistakes_are_named(nodes, edges, says):
    with pytest.raises(ValueError, match=says):
        draw_graph(figure()[1], nodes, edges)
