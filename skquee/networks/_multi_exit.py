"""A network with several exits, each block at several bit widths."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Unpack

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_is_fitted
from torch import nn

from skquee.networks._compiling import N_CALIBRATION, CompiledRunner, ranges_of
from skquee.networks._files import load, save
from skquee.networks._fit import fit_network
from skquee.networks._head_trainer import HeadTrainer
from skquee.networks._images import ImageRows
from skquee.networks._labels import known_codes, labels_of
from skquee.networks._levels import Quantizer, accuracy_of_levels, accuracy_of_paths, keep_levels
from skquee.networks._old import OLD, in_new_keywords, in_new_names
from skquee.networks._parameters import check_tree_options, check_widths, trainer_of
from skquee.networks._parts import FLOAT
from skquee.networks._training import HeadKind
from skquee.networks.backbones._pools import PoolKind
from skquee.networks.backbones._types import Level, Options, Size
from skquee.networks.quantization import PTQ4ViT, float_copies
from skquee.values._checks import check_flag, check_folder, check_number
from skquee.values._deprecated import old_keywords
from skquee.values._types import Rows, Seed, TreeOptions

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["MultiExitNetwork"]


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
    weights : "pretrained" or path, default=None
        Weights to load, strictly: a file, ``.safetensors``, or ``.pth`` and the like without
        pickled code; or those that timm knows of a backbone built by name, which asks the
        network. Default: of a given module its own, else random ones.
    backbone_kwargs : dict, default=None
        Further arguments for timm, where it is built by name.
    img_size : int or (int, int), default=None
        Height and width of images in pixels, where the backbone is built by name or cut by
        names. Default: its own.
    in_chans : int, default=3
        Channels of images, where it is built by name.
    data_config : dict, default=None
        Any of ``mean``, ``std``, ``interpolation`` and ``crop_pct``, in place of the
        backbone's own.
    n_classes : int, default=None
        Number of classes. Default: those in the labels of ``fit``.
    trainer : HeadTrainer, default=None
        What the heads are, and how they are trained. Default: ``HeadTrainer()``; its
        parameters are reached as ``trainer__max_epochs``.
    device : str, default=None
        Where to run, as torch names it. Default: CUDA where there is one.
    random_state : int, RandomState or None, default=None
        Seed of initial weights, of the order of rows and of a sample of paths.

    Attributes
    ----------
    paths_ : PathTree
        Every path with its cost (equation 17); float only (level 32) until ``quantize``.
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
        Accuracy of the last exit, all blocks at one level, from ``select_levels``.
    path_accuracy_ : ndarray of shape (n_paths,)
        Accuracy of every path, from ``evaluate`` or ``select_levels``.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from skquee.networks import HeadTrainer, MultiExitNetwork, UniformPTQ
    >>> from timm.models.vision_transformer import VisionTransformer
    >>> X, y = load_digits(return_X_y=True)
    >>> images = X.reshape(-1, 8, 8) / 16
    >>> backbone = VisionTransformer(
    ...     img_size=8, patch_size=4, in_chans=1, embed_dim=16, depth=2, num_heads=2, num_classes=10
    ... )
    >>> trainer = HeadTrainer(max_epochs=2)
    >>> network = MultiExitNetwork(backbone, exits=(1, 2), trainer=trainer, random_state=0)
    >>> network = network.fit(images[:200], y[:200])
    >>> network = network.quantize((4, 8), calibration=images[:64], method=UniformPTQ())
    >>> network.paths_.names
    ('8', '8-4', '8-8')
    """

    @old_keywords(OLD, version="0.3", convert=in_new_keywords)
    def __init__(
        self,
        backbone: str | nn.Module,
        exits: Sequence[Level] | None = None,
        *,
        blocks: Sequence[str] | None = None,
        weights: str | os.PathLike[str] | None = None,
        backbone_kwargs: Options | None = None,
        img_size: Size | None = None,
        in_chans: int = 3,
        data_config: Options | None = None,
        n_classes: int | None = None,
        trainer: HeadTrainer | None = None,
        device: str | None = None,
        random_state: Seed = None,
    ) -> None:
        self.backbone = backbone
        self.exits = exits
        self.blocks = blocks
        self.weights = weights
        self.backbone_kwargs = backbone_kwargs
        self.img_size = img_size
        self.in_chans = in_chans
        self.data_config = data_config
        self.n_classes = n_classes
        self.trainer = trainer
        self.device = device
        self.random_state = random_state

    def set_params(self, **params: object) -> MultiExitNetwork:
        """Set parameters; the trainer's as ``trainer__max_epochs``.

        Parameters
        ----------
        **params
            Parameters.

        Returns
        -------
        MultiExitNetwork
            This network; fitted parts stay until the next ``fit``.
        """
        params = in_new_names(params, self.weights)
        if self.trainer is None and any(name.startswith("trainer__") for name in params):
            self.trainer = HeadTrainer()
        return super().set_params(**params)

    def __repr__(self) -> str:
        name = self.backbone if isinstance(self.backbone, str) else type(self.backbone).__name__
        if not self.__sklearn_is_fitted__():
            return f"MultiExitNetwork({name}, exits={self.exits or self.blocks})"
        return f"MultiExitNetwork({name}, exits={self.exits_}, levels={self.levels_})"

    def fit(
        self, X: Rows, y: ArrayLike | None = None, *, validation_data: Rows = None
    ) -> MultiExitNetwork:
        """Train a head for each exit on features of the frozen backbone.

        The features of all images are kept in memory meanwhile, four bytes each: 3 exits x
        45,000 images x 256 features in 138 MB. Earlier levels are forgotten.

        Parameters
        ----------
        X : images
            An array (n, H, W) or (n, H, W, C) of uint8 or uint16, or of floats from 0 to 1; a
            tensor (n, C, H, W) of integers too, or of floats that are normalised already; a
            Dataset or DataLoader of (image, label), whose samplers and collate function hold
            (shuffled rows come in the order of the data set); a list of files or PIL images;
            or the path of a folder with a folder of images for each class. All but normalised
            tensors are resized and normalised as the backbone's data configuration says.
        y : array-like of shape (n,), default=None
            Labels of any type. Default: those X brings along, names where its classes have some.
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
        self.parts_ = fit_network(self, X, y, validation_data)
        return self

    def quantize(
        self,
        levels: Sequence[int] = (5, 6, 7, 8),
        *,
        calibration: Rows,
        method: Quantizer | None = None,
        cache: str | os.PathLike[str] | None = None,
        cache_weights: bool = False,
        **tree_options: Unpack[TreeOptions],
    ) -> MultiExitNetwork:
        """Make each block run at several bit widths; this replaces earlier levels.

        Parameters
        ----------
        levels : sequence of int, default=(5, 6, 7, 8)
            Bit widths of weights and activations, from 2 to 32; 32 runs the block in float.
        calibration : images
            As in ``fit``, to read the ranges of activations from; the paper takes 128.
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
        TypeError
            If a product cannot be quantised; the layer is named.
        ValueError
            If levels or images do not fit, images are all alike, or an activation is NaN or
            infinite; the layer is named.

        See Also
        --------
        coverage : Which share of the multiplications each level quantises.
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
        parts = self.parts_
        rows = parts.format.rows(calibration)
        if len(rows) == 0:
            raise ValueError("calibration holds no image.")
        paths = parts.tree(widths, **tree_options)
        ranges = ranges_of(parts, rows[:N_CALIBRATION])
        quantized = method.quantize(
            parts.blocks,
            rows.tensor().to(parts.device),
            [bits for bits in widths if bits != FLOAT],
            head=nn.Sequential(parts.pools[-1], parts.heads[-1]),
            cache=cache,
        )
        for blocks in quantized.values():
            float_copies(blocks, cache_weights)
        quantized[FLOAT] = parts.blocks
        made = parts.with_levels(
            {bits: quantized[bits] for bits in widths},
            paths,
            tree_options=tree_options,
            ranges=ranges,
            group=None,
        )
        # Their costs, now that it is known what each level quantises.
        self.parts_ = replace(made, paths=made.tree(widths, **tree_options))
        return self

    def select_levels(
        self,
        X: Rows,
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
        widths = [level for level in self.levels_ if isinstance(level, int)]
        if len(widths) < len(self.levels_):
            raise ValueError(
                f"The levels {self.levels_} are engines, of which compile has kept those that pay; "
                "evaluate measures their paths. Bit widths are chosen before: quantize."
            )
        check_number(max_drop, "max_drop", at_least=0, at_most=1)
        check_number(max_top_drop, "max_top_drop", at_least=0, at_most=1)
        rows, codes = self._labelled(X, y)
        parts, batch_size = self.parts_, trainer_of(self).batch_size
        found = accuracy_of_levels(self, rows, codes, batch_size)
        kept = keep_levels(found, widths, max_drop, max_top_drop)
        paths = parts.tree(kept, **parts.tree_options)
        levels: dict[Level, nn.ModuleList] = {level: parts.levels[level] for level in kept}
        self.parts_ = replace(
            parts,
            levels=levels,
            paths=paths,
            level_accuracy=found,
            path_accuracy=accuracy_of_paths(self, paths, rows, codes, levels, batch_size),
        )
        return self

    def evaluate(self, X: Rows, y: ArrayLike | None = None) -> pd.DataFrame:
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
        parts = self.parts_
        accuracy = accuracy_of_paths(
            self, parts.paths, rows, codes, parts.levels, trainer_of(self).batch_size
        )
        self.parts_ = replace(parts, path_accuracy=accuracy)
        return self.summary()

    def _labelled(self, X: Rows, y: ArrayLike | None) -> tuple[ImageRows, NDArray[np.int64]]:
        rows = self.parts_.format.rows(X)
        if not len(rows):
            raise ValueError("X holds no image to measure accuracy on: give some, with labels.")
        return rows, known_codes(labels_of(rows) if y is None else y, self.classes_, len(rows))

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
        save(self, self.parts_, folder)

    @classmethod
    def load(
        cls,
        folder: str | os.PathLike[str],
        *,
        backbone: nn.Module | None = None,
        heads: HeadKind | None = None,
        pool: PoolKind | None = None,
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
        heads, pool : callable, default=None
            Needed where its trainer had functions for these.
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
            If files are damaged, or do not fit each other or the backbone; it names the field.
        """
        network, parts = load(cls, folder, backbone=backbone, heads=heads, pool=pool, device=device)
        network.parts_ = parts
        return network
