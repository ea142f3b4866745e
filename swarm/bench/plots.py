"""Plots of the published pages, as SVG whose bytes depend on the figures alone."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cluster.errors import InvalidRequest
from swarm.bench import record
from swarm.bench.kernels import BY, UNITS

if TYPE_CHECKING:
    from matplotlib.figure import Figure

LEAST_POINTS = 3  # sizes that make a line
COLUMNS = 3
LARGE = 1e5  # sizes from which a label is written as a power of ten


def pyplot() -> Any:
    """``matplotlib.pyplot`` that writes reproducible SVG.

    Raises
    ------
    InvalidRequest
        It is not installed: only those who publish need it.
    """
    try:
        import matplotlib as mpl
    except ImportError as error:
        raise InvalidRequest("plots need matplotlib, which is not installed", "Install the `dev` group") from error
    mpl.use("svg")
    mpl.rcParams["svg.hashsalt"] = "riskswarm"
    from matplotlib import pyplot as plt

    return plt


def save(figure: Figure, path: Path) -> None:
    """Write a figure, without the date."""
    figure.savefig(path, metadata={"Date": None})
    pyplot().close(figure)


def growth(taken: record.Record, path: Path) -> None:
    """Median time against the one size that varies, both on logarithmic scales: a panel a kernel, with its peers.

    Raises
    ------
    InvalidRequest
        No kernel was timed at three sizes, or there is no plotting library.
    """
    panels = curves(taken)
    if not panels:
        raise InvalidRequest("no kernel was timed at three sizes", "Run `swarm bench kernels` for all rooms")
    plt = pyplot()
    rows = -(-len(panels) // COLUMNS)
    figure, axes = plt.subplots(rows, COLUMNS, figsize=(12, 3.2 * rows), layout="constrained", squeeze=False)
    for axis in axes.flat[len(panels) :]:
        axis.set_visible(False)
    for axis, ((kernel, varying, fixed), lines) in zip(axes.flat, sorted(panels.items()), strict=False):
        for name, points in sorted(lines.items(), key=lambda line: line[0] != ""):
            axis.loglog(*zip(*sorted(points), strict=True), marker="o", markersize=3, label=name or "Riskswarm")
        axis.set_title(f"{kernel}\n{fixed}", fontsize=8)
        sizes = sorted({size for points in lines.values() for size, _ in points})
        axis.set_xticks(sizes, [f"{size:g}" if size < LARGE else f"{size:.0e}" for size in sizes], minor=False)
        axis.minorticks_off()
        axis.set_xlabel(varying, fontsize=8)
        axis.set_ylabel("µs", fontsize=8)
        axis.tick_params(labelsize=7)
        axis.grid(visible=True, which="major", linewidth=0.3)
        axis.legend(fontsize=7)
    save(figure, path)


Panel = tuple[str, str, str]


def curves(taken: record.Record) -> dict[Panel, dict[str, list[tuple[float, float]]]]:
    """By (kernel, size that varies, sizes that do not): by peer, "" being the kernel, points (size, microseconds)."""
    found: dict[Panel, dict[str, list[tuple[float, float]]]] = defaultdict(lambda: defaultdict(list))
    for line in taken.rows:
        kernel, _, peer = line.name.partition(BY)
        for varying, size in line.params.items():
            fixed = ", ".join(f"{key} {value}" for key, value in line.params.items() if key != varying)
            found[kernel, varying, fixed][peer].append((float(size), line.p50 * UNITS[line.unit] / UNITS["us"]))
    kept = {
        panel: {peer: points for peer, points in lines.items() if len(points) >= LEAST_POINTS}
        for panel, lines in found.items()
    }
    return {panel: lines for panel, lines in kept.items() if "" in lines}
