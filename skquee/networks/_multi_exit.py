"""A vision transformer with several exits, each block at several bit widths."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import train_test_split
from sklearn.utils import check_random_state
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from skquee.networks._costs import count_flops
from skquee.networks._images import ImageFormat, encode_labels, known_codes
from skquee.networks._training import cache_features, make_heads, train_heads
from skquee.networks.backbones._transformers import Pool, build_backbone, check_exits, cut_blocks
from skquee.networks.quantization import UniformPTQ
from skquee.paths import PathTree

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["MultiExitNetwork"]

FLOAT = 32


class Quantizer(Protocol):
    """What :meth:`MultiExitNetwork.quantize` needs of a method."""

    def quantize(
        self, blocks: nn.ModuleList, images: Tensor, levels: Sequence[int]
    ) -> dict[int, nn.ModuleList]:
        """Return the blocks at each bit width, sharing what stays float."""


class MultiExitNetwork(BaseEstimator):
    """Give a vision transformer exits, and run each of its blocks at several bit widths.

    The backbone is cut after each exit into blocks. ``fit`` trains a head for each exit,
    the backbone frozen; ``quantize`` adds the levels. The paths (equation 6) are then the
    classifiers a :class:`skquee.MultiPathClassifierBank` offers to a router; activations of
    a prefix are shared. Patch embedding belongs to the first block; heads run in float.

    Parameters
    ----------
    backbone : str or timm VisionTransformer
        Name of a timm model, or the model itself, which is copied.
    exits : sequence of int
        Layers, counted from 1, after which a head can answer; the last is the backbone's
        last layer.
    n_classes : int, default=None
        Number of classes. Default: those in the labels of ``fit``.
    img_size : int or (int, int), default=None
        Height and width of images in pixels, where the backbone is built by name.
    in_chans : int, default=3
        Channels of images, where it is built by name.
    pretrained : bool, default=False
        Load timm's weights, where it is built by name.
    backbone_kwargs : dict, default=None
        Further arguments for timm, where it is built by name.
    max_epochs : int, default=200
        Epochs of head training at most; they run on cached features.
    patience : int, default=10
        Epochs without a better accuracy or loss on validation rows after which a head stops.
    learning_rate, weight_decay : float, default=1e-3, 1e-4
        Of Adam.
    batch_size : int, default=128
        Images run, and rows of a training step, at once.
    random_state : int, RandomState or None, default=None
        Seed of initial weights, of the order of rows and of a sample of paths.

    Attributes
    ----------
    paths_ : PathTree
        Every path with its cost (equation 17) and the classes; float only (level 32) until
        ``quantize``.
    classes_ : ndarray of shape (n_classes,)
        Labels, in the order of the probabilities.
    levels_ : tuple of int
        Bit widths, lowest first.
    flops_ : ndarray of shape (n_exits,)
        Floating-point operations of each block for one image.
    validation_accuracy_ : ndarray of shape (n_exits,)
        Accuracy of each float exit on the validation rows of ``fit``.

    Raises
    ------
    NotFittedError
        If it is run or quantised before ``fit``.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from skquee.networks import MultiExitNetwork
    >>> from timm.models.vision_transformer import VisionTransformer
    >>> X, y = load_digits(return_X_y=True)
    >>> images = X.reshape(-1, 8, 8) / 16
    >>> backbone = VisionTransformer(
    ...     img_size=8, patch_size=4, in_chans=1, embed_dim=16, depth=2, num_heads=2, num_classes=10
    ... )
    >>> network = MultiExitNetwork(backbone, exits=(1, 2), max_epochs=2, random_state=0)
    >>> network = network.fit(images[:200], y[:200])
    >>> network = network.quantize(levels=(4, 8), calibration=images[:64])
    >>> network.paths_.names
    ('8', '8-4', '8-8')
    """

    paths_: PathTree
    classes_: NDArray[Any]
    levels_: tuple[int, ...]
    flops_: NDArray[np.int64]
    validation_accuracy_: NDArray[np.float64]

    def __init__(
        self,
        backbone: str | VisionTransformer,
        exits: Sequence[int],
        *,
        n_classes: int | None = None,
        img_size: int | tuple[int, int] | None = None,
        in_chans: int = 3,
        pretrained: bool = False,
        backbone_kwargs: dict[str, Any] | None = None,
        max_epochs: int = 200,
        patience: int = 10,
        learning_rate: float = 1e-3,
        weight_decay: float = 1e-4,
        batch_size: int = 128,
        random_state: int | np.random.RandomState | None = None,
    ) -> None:
        self.backbone = backbone
        self.exits = exits
        self.n_classes = n_classes
        self.img_size = img_size
        self.in_chans = in_chans
        self.pretrained = pretrained
        self.backbone_kwargs = backbone_kwargs
        self.max_epochs = max_epochs
        self.patience = patience
        self.learning_rate = learning_rate
        self.weight_decay = weight_decay
        self.batch_size = batch_size
        self.random_state = random_state

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "paths_")

    def __sklearn_clone__(self) -> MultiExitNetwork:
        # Weights are what this object is: a clone of a bank or pipeline shares them.
        return self

    def __repr__(self) -> str:
        name = self.backbone if isinstance(self.backbone, str) else type(self.backbone).__name__
        levels = f", levels={self.levels_}" if self.__sklearn_is_fitted__() else ""
        return f"MultiExitNetwork({name}, exits={tuple(self.exits)}{levels})"

    # ------------------------------------------------------------------ fit

    def fit(
        self, X: Any, y: ArrayLike, *, validation_data: tuple[Any, ArrayLike] | None = None
    ) -> MultiExitNetwork:
        """Train a head for each exit on features of the frozen backbone.

        The last head starts from the backbone's own where that has as many classes, and
        keeps it if training does not improve it. Earlier levels are forgotten.

        Parameters
        ----------
        X : array-like of shape (n, H, W) or (n, H, W, C), or Tensor of shape (n, C, H, W)
            Images: arrays of uint8, or of floats from 0 to 1, or tensors normalised already.
        y : array-like of shape (n,)
            Labels of any type.
        validation_data : tuple (X, y), default=None
            Images and labels that stop training. Default: a tenth of the rows.

        Returns
        -------
        MultiExitNetwork
            Fitted, in float.
        """
        random = check_random_state(self.random_state)
        seed = int(random.randint(2**31 - 1))
        backbone = build_backbone(
            self.backbone,
            img_size=self.img_size,
            in_chans=self.in_chans,
            pretrained=self.pretrained,
            backbone_kwargs=self.backbone_kwargs,
            seed=seed,
        )
        exits = check_exits(self.exits, len(backbone.blocks))
        self._format = ImageFormat.of(backbone)
        images = self._format.tensor(X)
        classes, codes = encode_labels(y, self.n_classes, len(images))
        if validation_data is None:
            train, held = train_test_split(np.arange(len(images)), test_size=0.1, random_state=seed)
            validation, validation_codes = images[held], codes[held]
            images, codes = images[train], codes[train]
        else:
            validation = self._format.tensor(validation_data[0])
            validation_codes = known_codes(validation_data[1], classes, len(validation))

        self._blocks, self._pool = cut_blocks(backbone, exits), Pool(backbone)
        generator = torch.Generator().manual_seed(seed)
        features = [
            cache_features(self._blocks, self._pool, batch, self.batch_size)
            for batch in (images, validation)
        ]
        n_features = features[0].shape[-1]
        self._heads = make_heads(backbone, len(exits), n_features, len(classes), generator)
        self.validation_accuracy_ = train_heads(
            self._heads,
            features[0],
            torch.from_numpy(codes),
            features[1],
            torch.from_numpy(validation_codes),
            learning_rate=self.learning_rate,
            weight_decay=self.weight_decay,
            batch_size=self.batch_size,
            max_epochs=self.max_epochs,
            patience=self.patience,
            generator=generator,
        )
        self._heads.requires_grad_(False)
        self._seed = seed
        self.classes_ = classes
        self.flops_ = count_flops(self._blocks, images[:1])
        self._levels = {FLOAT: self._blocks}
        self.levels_, self.paths_ = (FLOAT,), self._paths([FLOAT])
        return self

    def quantize(
        self,
        levels: Sequence[int] = (5, 6, 7, 8),
        *,
        calibration: Any,
        method: Quantizer | None = None,
        **tree_options: Any,
    ) -> MultiExitNetwork:
        """Make each block run at several bit widths; this replaces earlier levels.

        Parameters
        ----------
        levels : sequence of int, default=(5, 6, 7, 8)
            Bit widths of weights and activations, from 2 to 32; 32 runs the block in float.
        calibration : images
            Images, as in ``fit``, from which the ranges of activations are read.
        method : UniformPTQ, default=None
            The quantiser. Default: ``UniformPTQ()``.
        **tree_options
            Which paths there are: ``monotone``, ``first`` and ``max_paths`` of
            :meth:`skquee.PathTree.from_levels`.

        Returns
        -------
        MultiExitNetwork
            This network. A level switch afterwards quantises nothing.
        """
        self._check_fitted()
        widths = sorted({int(level) for level in levels})
        if len(widths) != len(levels) or widths != sorted(levels) or not widths:
            raise ValueError(f"levels must be distinct whole numbers of bits, got {tuple(levels)}.")
        if widths[0] < 2 or widths[-1] > FLOAT:
            raise ValueError(f"levels must be bit widths from 2 to {FLOAT}, got {tuple(levels)}.")
        images = self._format.tensor(calibration)
        if len(images) == 0:
            raise ValueError("calibration holds no image.")
        paths = self._paths(widths, **tree_options)
        method = UniformPTQ() if method is None else method
        quantized = method.quantize(self._blocks, images, [b for b in widths if b != FLOAT])
        self._levels = {bits: quantized.get(bits, self._blocks) for bits in widths}
        self.levels_, self.paths_ = tuple(widths), paths
        return self

    def _paths(self, levels: Sequence[int], **options: Any) -> PathTree:
        options = {"random_state": self._seed, **options}
        classes = self.classes_.tolist()
        return PathTree.from_levels(
            len(self.flops_), levels, self.flops_, classes=classes, **options
        )

    # ------------------------------------------------------------------ running, a block at a time

    def start(self, X: Any) -> Tensor:
        """Return images as the first block takes them.

        Parameters
        ----------
        X : images
            As in ``fit``.

        Returns
        -------
        Tensor of shape (n, C, H, W)
        """
        self._check_fitted()
        return self._format.tensor(X)

    def run_block(self, state: Tensor, block: int, level: int) -> Tensor:
        """Run one block at a bit width.

        Parameters
        ----------
        state : Tensor
            Of ``start``, or of the block before.
        block : int
            Its number, from 0.
        level : int
            One of ``levels_``.

        Returns
        -------
        Tensor of shape (n, n_tokens, embed_dim)
        """
        self._check_fitted()
        if level not in self._levels:
            raise ValueError(f"There is no level {level}; quantize made {self.levels_}.")
        with torch.inference_mode():
            return self._levels[level][block](state)

    def head(self, state: Tensor, block: int, level: int) -> NDArray[np.float32]:
        """Return the probabilities of the exit after a block.

        Parameters
        ----------
        state : Tensor of shape (n, n_tokens, embed_dim)
            Output of the block.
        block : int
            Its number, from 0.
        level : int
            The level it ran at; heads run in float whatever it is.

        Returns
        -------
        ndarray of shape (n, n_classes), float32
        """
        self._check_fitted()
        with torch.inference_mode():
            return self._heads[block](self._pool(state)).softmax(dim=1).numpy()

    def take(self, state: Tensor, rows: NDArray[np.intp]) -> Tensor:
        """Return some rows of a state.

        Parameters
        ----------
        state : Tensor
            Of any block.
        rows : ndarray of int
            Rows.

        Returns
        -------
        Tensor
        """
        return state[torch.from_numpy(np.asarray(rows, dtype=np.int64))]

    def concat(self, states: Sequence[Tensor]) -> Tensor:
        """Join the rows of states of one block.

        Parameters
        ----------
        states : sequence of Tensor
            The states.

        Returns
        -------
        Tensor
        """
        return torch.cat(list(states))

    # ------------------------------------------------------------------ what it is

    def summary(self) -> pd.DataFrame:
        """Return what every path is and costs.

        Returns
        -------
        DataFrame
            A row a path: its exit (layers run), blocks run, parameters (of blocks run and
            the head that answers), FLOPs, BitOPS (FLOPs times bits) and cost (equation 17).
        """
        import pandas as pd

        self._check_fitted()
        tree = self.paths_
        weights = np.cumsum([_n_parameters(block) for block in self._blocks])
        weights += [_n_parameters(head) for head in self._heads]
        last = tree.depths - 1
        bits = [np.array(tree.steps(path), dtype=float) for path in range(tree.n_paths)]
        return pd.DataFrame(
            {
                "exit": np.array(self.exits)[last],
                "blocks": tree.depths,
                "parameters": weights[last],
                "flops": np.cumsum(self.flops_)[last],
                "bitops": [float(self.flops_[: len(b)] @ b) for b in bits],
                "cost": tree.path_costs,
            },
            index=pd.Index(tree.names, name="path"),
        )

    def _check_fitted(self) -> None:
        if not self.__sklearn_is_fitted__():
            raise NotFittedError("This MultiExitNetwork is not fitted yet. Call fit first.")


def _n_parameters(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())
