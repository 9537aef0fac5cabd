"""What the baselines that read activations take: images, or a bank's lazy table of them."""

from __future__ import annotations

from numpy.typing import ArrayLike
from sklearn.exceptions import NotFittedError

from skquee.bank import LazyPathProbabilities, MultiPathClassifierBank
from skquee.networks import MultiExitNetwork
from skquee.values import PathProbabilities

__all__ = ["network_table"]


def network_table(owner: str, network: object, X: ArrayLike) -> LazyPathProbabilities | None:
    """Return images as a lazy table over their network, None for a table of probabilities.

    `owner`: who asks, for messages. `X`: what fit or predict was given. NotFittedError if the
    network has no fitted heads. ValueError if a stored table is given where activations are needed.
    """
    if network is not None and not isinstance(network, MultiExitNetwork):
        raise TypeError(
            f"network must be a fitted MultiExitNetwork, got {type(network).__name__}. For a table "
            f"of probabilities leave it out: {owner}().fit(probs, y)."
        )
    if network is not None and not network.__sklearn_is_fitted__():
        raise NotFittedError(
            f"The network of this {owner} has no fitted heads: call network.fit(images, y) (and "
            "network.quantize) first."
        )
    if isinstance(X, LazyPathProbabilities) and isinstance(X.network, MultiExitNetwork):
        if network is None or X.network is network:
            return X
        # Another object, e.g. read from a file: the images count, and the costs of X.
        return X.with_network(network.with_paths(X.paths))
    if network is None:
        return None
    if isinstance(X, PathProbabilities):
        raise ValueError(
            f"{owner}(network) reads activations, which a stored table of probabilities does not "
            "hold. Give images or bank.transform(images), or leave network= out."
        )
    return MultiPathClassifierBank(network).fit(X).transform(X)
