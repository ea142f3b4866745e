"""Which symbols move together: an order in which they stand side by side, and groups of them."""

from __future__ import annotations

import numpy as np


def clustered(correlation: np.ndarray, joined_above: float) -> tuple[np.ndarray, tuple[tuple[int, ...], ...]]:
    """Average-linkage clustering on the distance sqrt((1 - rho) / 2), leaves in optimal order (Bar-Joseph et al. 2001).

    Parameters
    ----------
    correlation : ndarray of shape (n, n)
    joined_above : float
        Correlation above which, on average, two groups are one.

    Returns
    -------
    order : ndarray of int, shape (n,)
        Places of the symbols.
    groups : tuple of tuple of int
        Places of every group of at least two, in that order.
    """
    n = len(correlation)
    if n == 1:
        return np.zeros(1, dtype=np.int64), ()
    from scipy.cluster.hierarchy import fcluster, leaves_list, linkage, optimal_leaf_ordering

    first, second = np.triu_indices(n, 1)
    distances = np.sqrt(np.clip((1 - correlation[first, second]) / 2, 0.0, 1.0))
    tree = optimal_leaf_ordering(linkage(distances, "average"), distances)
    order = leaves_list(tree).astype(np.int64)
    labels = fcluster(tree, np.sqrt((1 - joined_above) / 2), "distance")
    groups: dict[int, list[int]] = {}
    for place in order.tolist():
        groups.setdefault(int(labels[place]), []).append(place)
    return order, tuple(tuple(group) for group in groups.values() if len(group) > 1)
