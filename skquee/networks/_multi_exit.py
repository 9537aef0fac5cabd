"""A network with several exits, each block at several bit widths."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_is_fitted
from torch import Tensor, nn

from skquee.networks import _files
from skquee.networks._compiling import N_CALIBRATION, CompiledRunner
from skquee.networks._costs import bit_operations, gate_flops
from skquee.networks._fit import fit_network
from skquee.networks._images import ImageRows
from skquee.networks._labels import known_codes, labels_of
from skquee.networks._levels import FLOAT, accuracy_of_paths, keep_levels
from skquee.networks._parameters import check_tree_options, check_widths
from skquee.networks._training import HeadKind
from skquee.networks.engines import BITS
from skquee.networks.quantization import PTQ4ViT, float_copies
from skquee.values import PathTree
from skquee.values._checks import (
    check_flag,
    check_folder,
    check_integer,
    check_number,
    check_option,
)
from skquee.values._tree import relative_to_whole

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["MultiExitNetwork"]


class Quantizer(Protocol):
    """What :meth:`MultiExitNetwork.quantize` needs of a method."""

    def quantize(
        self,
        blocks: nn.ModuleList,
        images: Tensor,
        levels: Sequence[int],
        *,
        head: nn.Module | None,
        cache: str | os.PathLike[str] | None,
    ) -> dict[int, nn.ModuleList]:
        """Return the blocks at each bit width, sharing what stays float."""


class MultiExitNetwork(CompiledRunner, BaseEstimator):
    """Give a network exits, and run each of its blocks at several bit widths.

    The backbone is cut after each exit into blocks. ``fit`` trains a head for each exit,
    the backbone frozen (section 5.1); ``quantize`` adds the levels. The paths (equation 6)
    are then the classifiers a :class:`skquee.MultiPathClassifierBank` offers to a router;
    activations of a prefix are shared. Embedding belongs to the first block; heads run in
    float.

    Parameters
    ----------
    backbone : str or torch Module
        Name of a timm model (T2T-ViT is registered there too), or a model, which is copied.
    exits : sequence of int or str, default=None
        Layers of a vision transformer, counted from 1, after which a head can answer; the
        last is its last layer. With `blocks`, some of them by number or name; default: all.
    blocks : sequence of str, default=None
        Names of submodules after which any other module is cut, in the order they run.
    heads : "linear" or callable, default="linear"
        A linear layer, as a transformer's own head, on the backbone's own final norm and
        pooling (the mean over positions where it is cut by name); or ``(n_features,
        n_classes)`` to a module that maps features to logits.
    final_head : {"auto", "keep", "train"}, default="auto"
        Keep the backbone's own head for the last exit, or train it with the others,
        starting from its own where it has as many classes. "auto" keeps one that was
        trained: of a given model, a checkpoint or `pretrained`, with as many classes.
    n_classes : int, default=None
        Number of classes. Default: those in the labels of ``fit``.
    img_size : int or (int, int), default=None
        Height and width of images in pixels, where the backbone is built by name or cut by
        names. Default: its own.
    in_chans : int, default=3
        Channels of images, where it is built by name.
    pretrained : bool, default=False
        Load timm's weights, where it is built by name. This asks the network.
    checkpoint : path, default=None
        Weights to load, strictly: ``.safetensors``, or ``.pth`` and the like without
        pickled code.
    backbone_kwargs : dict, default=None
        Further arguments for timm, where it is built by name.
    data_config : dict, default=None
        Any of ``mean``, ``std``, ``interpolation`` and ``crop_pct``, in place of the
        backbone's own.
    max_epochs : int, default=200
        Epochs of head training at most; they run on cached features.
    patience : int, default=10
        Epochs without a better accuracy or loss on validation rows after which a head stops.
    learning_rate, weight_decay : float, default=1e-3, 1e-4
        Of Adam.
    batch_size : int, default=128
        Images run, and rows of a training step, at once.
    augmentation : callable, default=None
        Prepared images (n, C, H, W) to changed ones, e.g. a transform of torchvision.
    n_views : int, default=1
        Times each training image is run, the first time without augmentation.
    amp_dtype : {"bfloat16", "float16"}, default=None
        Run the frozen backbone in mixed precision while heads are trained.
    device : str, default=None
        Where to run, as torch names it. Default: CUDA where there is one.
    random_state : int, RandomState or None, default=None
        Seed of initial weights, of the order of rows and of a sample of paths.

    Attributes
    ----------
    paths_ : PathTree
        Every path with its cost (equation 17) and the classes; float only (level 32) until
        ``quantize``.
    classes_ : ndarray of shape (n_classes,)
        Labels, in the order of the probabilities.
    exits_ : tuple
        Layers or names after which the blocks end.
    levels_ : tuple of int or of str
        Bit widths, lowest first; after ``compile`` engines, cheapest first.
    runtimes_ : dict of str to tuple of str
        After ``compile``: what runs each block at each level, torch or OpenVINO.
    latency_ : LatencyTable
        From ``measure_costs``.
    flops_ : ndarray of shape (n_exits,)
        Floating-point operations of each block for one image.
    head_flops_ : ndarray of shape (n_exits,)
        The same of what answers after each block.
    validation_accuracy_ : ndarray of shape (n_exits,)
        Accuracy of each float exit on the validation rows of ``fit``.
    level_accuracy_ : dict of int to float
        Accuracy of the last exit with every block at one level, from ``select_levels``.
    path_accuracy_ : ndarray of shape (n_paths,)
        Accuracy of every path, from ``evaluate`` or ``select_levels``.

    Raises
    ------
    NotFittedError
        If it is run or quantised before ``fit``.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from skquee.networks import MultiExitNetwork, UniformPTQ
    >>> from timm.models.vision_transformer import VisionTransformer
    >>> X, y = load_digits(return_X_y=True)
    >>> images = X.reshape(-1, 8, 8) / 16
    >>> backbone = VisionTransformer(
    ...     img_size=8, patch_size=4, in_chans=1, embed_dim=16, depth=2, num_heads=2, num_classes=10
    ... )
    >>> network = MultiExitNetwork(backbone, exits=(1, 2), max_epochs=2, random_state=0)
    >>> network = network.fit(images[:200], y[:200])
    >>> network = network.quantize((4, 8), calibration=images[:64], method=UniformPTQ())
    >>> network.paths_.names
    ('8', '8-4', '8-8')
    """

    paths_: PathTree
    classes_: NDArray[Any]
    exits_: tuple[Any, ...]
    levels_: tuple[Any, ...]
    flops_: NDArray[np.int64]
    head_flops_: NDArray[np.int64]
    validation_accuracy_: NDArray[np.float64]
    level_accuracy_: dict[int, float]
    path_accuracy_: NDArray[np.float64]

    def __init__(
        self,
        backbone: str | nn.Module,
        exits: Sequence[int | str] | None = None,
        *,
        blocks: Sequence[str] | None = None,
        heads: HeadKind = "linear",
        final_head: str = "auto",
        n_classes: int | None = None,
        img_size: int | tuple[int, int] | None = None,
        in_chans: int = 3,
        pretrained: bool = False,
        checkpoint: str | os.PathLike[str] | None = None,
        backbone_kwargs: dict[str, Any] | None = None,
        data_config: dict[str, Any] | None = None,
        max_epochs: int = 200,
        patience: int = 10,
        learning_rate: float = 1e-3,
        weight_decay: float = 1e-4,
        batch_size: int = 128,
        augmentation: Callable[[Tensor], Tensor] | None = None,
        n_views: int = 1,
        amp_dtype: str | None = None,
        device: str | None = None,
        random_state: int | np.random.RandomState | None = None,
    ) -> None:
        self.backbone = backbone
        self.exits = exits
        self.blocks = blocks
        self.heads = heads
        self.final_head = final_head
        self.n_classes = n_classes
        self.img_size = img_size
        self.in_chans = in_chans
        self.pretrained = pretrained
        self.checkpoint = checkpoint
        self.backbone_kwargs = backbone_kwargs
        self.data_config = data_config
        self.max_epochs = max_epochs
        self.patience = patience
        self.learning_rate = learning_rate
        self.weight_decay = weight_decay
        self.batch_size = batch_size
        self.augmentation = augmentation
        self.n_views = n_views
        self.amp_dtype = amp_dtype
        self.device = device
        self.random_state = random_state

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "paths_")

    def __sklearn_clone__(self) -> MultiExitNetwork:
        # Weights are what this object is: a clone of a bank or pipeline shares them.
        return self

    def __repr__(self) -> str:
        name = self.backbone if isinstance(self.backbone, str) else type(self.backbone).__name__
        if not self.__sklearn_is_fitted__():
            return f"MultiExitNetwork({name}, exits={self.exits or self.blocks})"
        return f"MultiExitNetwork({name}, exits={self.exits_}, levels={self.levels_})"

    # ------------------------------------------------------------------ fit

    def fit(
        self,
        X: Any,
        y: ArrayLike | None = None,
        *,
        validation_data: tuple[Any, ArrayLike] | Any = None,
    ) -> MultiExitNetwork:
        """Train a head for each exit on features of the frozen backbone.

        The features of all images are kept in memory while heads are trained: four bytes
        each, e.g. 3 exits x 45,000 images x 256 features in 138 MB. Earlier levels are
        forgotten.

        Parameters
        ----------
        X : images
            An array (n, H, W) or (n, H, W, C) of uint8, or of floats from 0 to 1; a tensor
            (n, C, H, W) of uint8, or of floats that are normalised already; a Dataset or
            DataLoader of (image, label); or the path of a folder with a folder of images
            for each class. All but normalised tensors are resized and normalised as the
            backbone's data configuration says.
        y : array-like of shape (n,), default=None
            Labels of any type. Default: those X brings along.
        validation_data : tuple (X, y), or images with labels, default=None
            Images and labels that stop training. Default: a tenth of the rows.

        Returns
        -------
        MultiExitNetwork
            Fitted, in float.

        Raises
        ------
        ValueError
            If exits, images, labels or options do not fit; before any training.
        """
        for name, value in fit_network(self, X, y, validation_data).items():
            setattr(self, name, value)
        self._forget("level_accuracy_", "path_accuracy_", "latency_", "runtimes_")
        self._levels, self._group = {FLOAT: self._blocks}, None
        self._tree_options: dict[str, Any] = {}
        self.levels_, self.paths_ = (FLOAT,), self._paths([FLOAT])
        return self

    def quantize(
        self,
        levels: Sequence[int] = (5, 6, 7, 8),
        *,
        calibration: Any,
        method: Quantizer | None = None,
        cache: str | os.PathLike[str] | None = None,
        cache_weights: bool = False,
        **tree_options: Any,
    ) -> MultiExitNetwork:
        """Make each block run at several bit widths; this replaces earlier levels.

        Parameters
        ----------
        levels : sequence of int, default=(5, 6, 7, 8)
            Bit widths of weights and activations, from 2 to 32; 32 runs the block in float.
        calibration : images
            Images, as in ``fit``, from which the ranges of activations are read; the paper
            takes 128.
        method : PTQ4ViT, BasePTQ or UniformPTQ, default=None
            The quantiser. Default: ``PTQ4ViT()``.
        cache : path of a folder, default=None
            Keep what is found for each part of the network there: an interrupted call goes
            on where it stopped, and the same call again only reads.
        cache_weights : bool, default=False
            Keep a float copy of each level's weights, for faster simulation at five times
            the memory; else they are cast from their one-byte codes when used.
        **tree_options
            Which paths there are: ``monotone``, ``first`` and ``max_paths`` of
            :meth:`skquee.PathTree.from_levels`.

        Returns
        -------
        MultiExitNetwork
            This network. A level switch afterwards quantises nothing. If the call fails or
            is interrupted, the earlier levels stay.

        Raises
        ------
        ValueError
            If levels or images do not fit, images are all alike, or an activation is NaN or
            infinite; the layer is named.
        """
        check_is_fitted(self)
        widths = check_widths(levels)
        method = PTQ4ViT() if method is None else method
        if isinstance(method, type) or not callable(getattr(method, "quantize", None)):
            raise ValueError(
                "method must be a quantiser, PTQ4ViT(), BasePTQ() or UniformPTQ(), or None, got "
                f"{method!r}."
            )
        check_flag(cache_weights, "cache_weights")
        check_tree_options(tree_options)
        if cache is not None:
            check_folder(cache, "cache")
        rows = self._format.rows(calibration)
        if len(rows) == 0:
            raise ValueError("calibration holds no image.")
        paths = self._paths(widths, **tree_options)
        ranges = self._ranges_of(rows[:N_CALIBRATION])
        head = nn.Sequential(self._pools[-1], self._heads[-1])
        quantized = method.quantize(
            self._blocks,
            rows.tensor().to(self._device),
            [bits for bits in widths if bits != FLOAT],
            head=head,
            cache=cache,
        )
        for blocks in quantized.values():
            float_copies(blocks, cache_weights)
        quantized[FLOAT] = self._blocks
        self._levels = {bits: quantized[bits] for bits in widths}
        self._tree_options = tree_options
        self._forget("level_accuracy_", "path_accuracy_", "latency_", "runtimes_")
        self._ranges, self._group = ranges, None
        self.levels_, self.paths_ = tuple(widths), paths
        return self

    def select_levels(
        self,
        X: Any,
        y: ArrayLike | None = None,
        *,
        max_drop: float = 0.05,
        max_top_drop: float = 0.005,
    ) -> MultiExitNetwork:
        """Keep the levels that are accurate enough (section 5.1), and measure every path.

        The highest level kept is the lowest whose accuracy, all blocks at that level, is at
        most `max_top_drop` below the float network's (the most bits, if none is); lower
        ones are kept while they lose at most `max_drop`.

        Parameters
        ----------
        X : images
            As in ``fit``.
        y : array-like of shape (n,), default=None
            Labels. Default: those X brings along.
        max_drop : float, default=0.05
            Largest loss of accuracy of the lowest level. The paper says 5 % in section 5.1
            and 10 % in its appendix.
        max_top_drop : float, default=0.005
            Largest loss that still "maintains the accuracy".

        Returns
        -------
        MultiExitNetwork
            This network, with fewer levels, ``level_accuracy_`` and ``path_accuracy_``.

        Raises
        ------
        ValueError
            If even the most bits lose more than `max_drop`; nothing changes then.
        """
        check_is_fitted(self)
        if not all(isinstance(level, int) for level in self.levels_):
            raise ValueError(
                f"The levels {self.levels_} are engines, of which compile has kept those that pay; "
                "evaluate measures their paths. Bit widths are chosen before: quantize."
            )
        check_number(max_drop, "max_drop", at_least=0, at_most=1)
        check_number(max_top_drop, "max_top_drop", at_least=0, at_most=1)
        rows, codes = self._labelled(X, y)
        uniform = {level: (level,) * len(self.flops_) for level in {FLOAT, *self.levels_}}
        tree = PathTree.from_paths(
            [path[: d + 1] for path in uniform.values() for d in range(len(path))],
            np.ones(len(uniform) * len(self.flops_)),
        )
        runs = {**self._levels, FLOAT: self._blocks}
        accuracy = accuracy_of_paths(self, tree, rows, codes, runs)
        found = {
            level: float(accuracy[tree.index("-".join(map(str, path)))])
            for level, path in sorted(uniform.items())
        }
        kept = keep_levels(found, self.levels_, max_drop, max_top_drop)
        paths = self._paths(kept, **self._tree_options)
        self._levels = {level: self._levels[level] for level in kept}
        self.levels_, self.paths_ = tuple(kept), paths
        self.level_accuracy_ = found
        self.path_accuracy_ = accuracy_of_paths(self, paths, rows, codes, self._levels)
        return self

    def evaluate(self, X: Any, y: ArrayLike | None = None) -> pd.DataFrame:
        """Measure the accuracy of every path.

        Parameters
        ----------
        X : images
            As in ``fit``.
        y : array-like of shape (n,), default=None
            Labels. Default: those X brings along.

        Returns
        -------
        DataFrame
            The summary, which from now on has these accuracies.
        """
        check_is_fitted(self)
        rows, codes = self._labelled(X, y)
        self.path_accuracy_ = accuracy_of_paths(self, self.paths_, rows, codes, self._levels)
        return self.summary()

    def _labelled(self, X: Any, y: ArrayLike | None) -> tuple[ImageRows, NDArray[np.int64]]:
        rows = self._format.rows(X)
        if not len(rows):
            raise ValueError("X holds no image to measure accuracy on: give some, with labels.")
        return rows, known_codes(labels_of(X) if y is None else y, self.classes_, len(rows))

    def _paths(self, levels: Sequence[int], **options: Any) -> PathTree:
        options = {"random_state": self._seed, **options}
        classes = self.classes_.tolist()
        return relative_to_whole(
            PathTree.from_levels(len(self.flops_), levels, self.flops_, classes=classes, **options)
        )

    def _forget(self, *names: str) -> None:
        for name in names:
            if hasattr(self, name):
                delattr(self, name)

    # ------------------------------------------------------------------ what it is

    def path_costs(
        self,
        kind: str = "bitops",
        *,
        batch_size: int = 64,
        product: bool = False,
        heads: bool = False,
        gates: bool = False,
        embedding_size: int = 8,
        hidden_size: int = 16,
    ) -> NDArray[np.float64]:
        """Return what every path costs, for ``path_costs=`` of a bank or router.

        Parameters
        ----------
        kind : {"bitops", "flops", "latency"}, default="bitops"
            Bit operations, an engine counting by the bits of its type; floating-point
            operations, whatever the level; or milliseconds of ``measure_costs``, head and gate
            included.
        batch_size : int, default=64
            Rows expected to run together, for "latency".
        product : bool, default=False
            Count weight bits times activation bits in place of bits once (equation 17).
        heads, gates : bool, default=False
            Count the heads passed, and a gate after each exit but the last.
        embedding_size, hidden_size : int, default=8, 16
            Of the gates.

        Returns
        -------
        ndarray of shape (n_paths,)
            For one image.

        See Also
        --------
        costed_paths : The tree with these costs.
        """
        check_is_fitted(self)
        tree, n_exits = self.paths_, len(self.flops_)
        check_option(kind, "kind", ("bitops", "flops", "latency"))
        if kind == "latency":
            return self.latency_costs(batch_size)
        sizes = {"embedding_size": embedding_size, "hidden_size": hidden_size}
        for name, size in sizes.items():
            check_integer(size, name, at_least=1)
        steps = [tree.steps(path) for path in range(tree.n_paths)]
        bits = {level: 1 if kind == "flops" else BITS.get(level, level) for level in self.levels_}
        return bit_operations(
            [[bits[level] for level in path] for path in steps],
            self.flops_,
            product=product,
            head_flops=self.head_flops_ if heads else None,
            gate=gate_flops(len(self.classes_), n_exits, tree.n_paths, **sizes) if gates else 0,
        )

    def costed_paths(self, kind: str = "bitops", **options: Any) -> PathTree:
        """Return the tree with costs of a kind and their unit.

        Parameters
        ----------
        kind : {"bitops", "flops", "latency"}, default="bitops"
            As of ``path_costs``.
        **options
            Of ``path_costs``.

        Returns
        -------
        PathTree
            In milliseconds for "latency", else as fractions of the whole network: 1 is its
            fullest path.
        """
        tree = self.paths_.with_costs(self.path_costs(kind, **options), cost_unit="ms")
        return tree if kind == "latency" else relative_to_whole(tree)

    def summary(self) -> pd.DataFrame:
        """Return what every path is and costs.

        Returns
        -------
        DataFrame
            A row a path: its exit (layers run), blocks run, parameters (of blocks run and
            the head that answers), FLOPs, BitOPS (FLOPs times bits), cost (equation 17,
            or milliseconds once compiled; ``attrs["cost_unit"]`` says which) and, once
            ``select_levels`` or ``evaluate`` has measured it, accuracy.
        """
        import pandas as pd

        check_is_fitted(self)
        tree = self.paths_
        weights = np.cumsum([_n_parameters(block) for block in self._blocks])
        weights += [_n_parameters(head) for head in self._heads]
        last = tree.depths - 1
        columns = {
            "exit": np.array(self.exits_)[last],
            "blocks": tree.depths,
            "parameters": weights[last],
            "flops": np.cumsum(self.flops_)[last],
            "bitops": self.path_costs().astype(np.int64),
            "cost": tree.path_costs,
        }
        if hasattr(self, "path_accuracy_"):
            columns["accuracy"] = self.path_accuracy_
        frame = pd.DataFrame(columns, index=pd.Index(tree.names, name="path"))
        frame.attrs["cost_unit"] = tree.cost_unit
        return frame

    # ------------------------------------------------------------------ files

    def save(self, folder: str | os.PathLike[str]) -> None:
        """Write the network to a folder: weights in safetensors, the rest in JSON.

        The folder appears, or changes, only when everything is written.

        Parameters
        ----------
        folder : path
            Made where there is none. A folder that holds anything but a saved network is
            refused.
        """
        check_is_fitted(self)
        _files.save(self, folder)

    @classmethod
    def load(
        cls,
        folder: str | os.PathLike[str],
        *,
        backbone: nn.Module | None = None,
        heads: HeadKind | None = None,
        device: str | None = None,
    ) -> MultiExitNetwork:
        """Read a network that was saved. No code runs from the files.

        What the description says is checked against the weights beside it before anything is
        built, and of ``backbone_kwargs`` only options that size and join a model's parts are
        passed on to timm: where another was used, give `backbone`.

        Parameters
        ----------
        folder : path
            Of ``save``.
        backbone : Module, default=None
            Needed where the network was made from a module and not from a name: one of the
            same architecture, whose weights do not matter.
        heads : callable, default=None
            Needed where the network was made with a callable.
        device : str, default=None
            Where to run.

        Returns
        -------
        MultiExitNetwork

        Raises
        ------
        FileNotFoundError
            If there is no saved network.
        ValueError
            If files are damaged, do not fit each other or the backbone; the file and the field
            are named.
        """
        return _files.load(cls, folder, backbone=backbone, heads=heads, device=device)


def _n_parameters(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())
