"""How the exits of a network are made and trained."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.base import BaseEstimator
from torch import Tensor, nn

from skquee.networks._images import ImageRows
from skquee.networks._training import HeadKind, augmented, cache_features, make_heads, train_heads
from skquee.networks.backbones._pools import PoolKind, check_pool
from skquee.values._checks import check_integer, check_number, check_option

__all__ = ["HeadTrainer"]

AMP_DTYPES = {None: None, "bfloat16": torch.bfloat16, "float16": torch.float16}
COUNTS = {"max_epochs": 0, "patience": 1, "batch_size": 1, "n_views": 1}


class HeadTrainer(BaseEstimator):
    """Makes and trains the heads of exits on features of a frozen backbone (section 5.1).

    Each image is run through the backbone once (`n_views` times), and what the heads read is
    kept; all heads are then trained together with Adam, each stopped on its own. Its parameters
    are reached from the network, as ``network.set_params(trainer__max_epochs=50)`` or in a
    search over ``{"trainer__learning_rate": [1e-3, 1e-2]}``.

    Parameters
    ----------
    heads : "linear" or callable, default="linear"
        A linear layer, as a transformer's own head, on the backbone's own final norm and
        pooling (the mean over positions where it is cut by name); or ``(n_features,
        n_classes)`` to a module that maps features to logits.
    pool : {"auto", "channels_first", "channels_last"}, callable or list of these, default="auto"
        What heads read of a state where a backbone is cut by name: the mean over its positions.
        "auto" learns from the network which axis holds channels, checks it on data, and asks
        for this where it stays unclear; a function maps a state to features (n, n_features); a
        list holds one a block. A transformer's own norm and pooling is replaced only by another
        than "auto".
    final_head : {"auto", "keep", "train"}, default="auto"
        Keep the backbone's own head for the last exit, or train it with the others,
        starting from its own where it has as many classes. "auto" keeps one that was
        trained: of a given model, or of one built with weights, with as many classes.
    max_epochs : int, default=200
        Epochs at most; they run on cached features. 0 trains nothing.
    patience : int, default=10
        Epochs without a better accuracy or loss on validation rows after which a head stops.
    learning_rate, weight_decay : float, default=1e-3, 1e-4
        Of Adam.
    batch_size : int, default=128
        Images run, and rows of a training step, at once.
    augmentation : callable, default=None
        An image (C, H, W) of the network's size, floats from 0 to 1 that are not normalised yet,
        to a changed one of the same size, e.g. a transform of torchvision; called for each image.
    n_views : int, default=1
        Times each training image is run, the first time without augmentation.
    amp_dtype : {"bfloat16", "float16"}, default=None
        Run the frozen backbone in mixed precision while heads are trained.

    See Also
    --------
    MultiExitNetwork : Takes one as `trainer`.

    Examples
    --------
    >>> from skquee.networks import HeadTrainer, MultiExitNetwork
    >>> network = MultiExitNetwork("t2t_vit_7", exits=(2, 7), trainer=HeadTrainer(max_epochs=50))
    >>> network.set_params(trainer__patience=5).trainer
    HeadTrainer(max_epochs=50, patience=5)
    """

    def __init__(
        self,
        *,
        heads: HeadKind = "linear",
        pool: PoolKind = "auto",
        final_head: str = "auto",
        max_epochs: int = 200,
        patience: int = 10,
        learning_rate: float = 1e-3,
        weight_decay: float = 1e-4,
        batch_size: int = 128,
        augmentation: Callable[[Tensor], Tensor] | None = None,
        n_views: int = 1,
        amp_dtype: str | None = None,
    ) -> None:
        self.heads = heads
        self.pool = pool
        self.final_head = final_head
        self.max_epochs = max_epochs
        self.patience = patience
        self.learning_rate = learning_rate
        self.weight_decay = weight_decay
        self.batch_size = batch_size
        self.augmentation = augmentation
        self.n_views = n_views
        self.amp_dtype = amp_dtype

    def check(self) -> None:
        """Raise for the first parameter that cannot be used; ``fit`` of a network asks this.

        Raises
        ------
        ValueError
            With what was given, what is expected and what to do.

        Warns
        -----
        UserWarning
            If there is an augmentation, and one view of each image.
        """
        if self.heads != "linear" and not callable(self.heads):
            raise ValueError(f"heads must be 'linear' or a callable, got {self.heads!r}.")
        check_pool(self.pool)
        check_option(self.final_head, "final_head", ("auto", "keep", "train"))
        if self.amp_dtype is not None:
            check_option(
                self.amp_dtype,
                "amp_dtype",
                ("bfloat16", "float16"),
                besides=", or None for float32",
            )
        for name, least in COUNTS.items():
            check_integer(getattr(self, name), name, at_least=least)
        check_number(self.learning_rate, "learning_rate", above=0)
        check_number(self.weight_decay, "weight_decay", at_least=0)
        if self.augmentation is not None and not callable(self.augmentation):
            raise ValueError(
                "augmentation must be a callable, an image (C, H, W) of floats from 0 to 1 to a "
                f"changed one, or None, got {self.augmentation!r}."
            )
        if self.n_views > 1 and self.augmentation is None:
            raise ValueError("n_views is for augmentation=, which is not given.")
        if self.n_views == 1 and self.augmentation is not None:
            warnings.warn(
                "augmentation= changes every view of an image but the first, and n_views is 1: "
                "nothing is augmented. Give n_views=2 or more.",
                UserWarning,
                stacklevel=6,
            )

    def make(
        self, widths: Sequence[int], n_classes: int, generator: torch.Generator
    ) -> nn.ModuleList:
        """Make a head for each exit.

        Parameters
        ----------
        widths : sequence of int
            Features each reads.
        n_classes : int
            Logits each gives.
        generator : Generator
            Draws the weights.

        Returns
        -------
        ModuleList
        """
        return make_heads(widths, n_classes, self.heads, generator)

    def look(self, images: ImageRows) -> None:
        """Raise where the augmentation does not return images, before any of them is run.

        Parameters
        ----------
        images : ImageRows
            Of which the first batch is changed.
        """
        if self.augmentation is not None and self.n_views > 1:
            with torch.random.fork_rng(devices=[]):
                batch = next(images.batches(self.batch_size))
                augmented(self.augmentation, batch, images.format, look=True)

    def train(
        self,
        heads: nn.ModuleList,
        blocks: nn.ModuleList,
        pools: nn.ModuleList,
        rows: tuple[ImageRows, NDArray[np.int64]],
        held: tuple[ImageRows, NDArray[np.int64]],
        *,
        train_last: bool,
        device: torch.device,
        generator: torch.Generator,
    ) -> NDArray[np.float64]:
        """Train heads in place on what frozen blocks make of images.

        Parameters
        ----------
        heads : ModuleList
            One an exit.
        blocks, pools : ModuleList
            Blocks of the backbone, and the state of each to features.
        rows, held : tuple of ImageRows and ndarray of shape (n,)
            Images and indices of their classes: to train on, and to stop by.
        train_last : bool
            Train the last head too, or leave it as it is.
        device : device
            Where the modules are.
        generator : Generator
            Orders the rows; its seed is that of the augmentation.

        Returns
        -------
        ndarray of shape (n_exits,)
            Accuracy of each head on the held-out rows.
        """
        amp = AMP_DTYPES[self.amp_dtype]
        (images, codes), (held_images, held_codes) = rows, held
        # Augmentation draws from torch's global generator: seed it, and keep the caller's state.
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(generator.initial_seed())
            features = cache_features(
                blocks,
                pools,
                images,
                batch_size=self.batch_size,
                device=device,
                amp_dtype=amp,
                augmentation=self.augmentation,
                n_views=self.n_views,
            )
        held_features = cache_features(
            blocks, pools, held_images, batch_size=self.batch_size, device=device, amp_dtype=amp
        )
        return train_heads(
            heads,
            features,
            torch.from_numpy(np.tile(codes, self.n_views)).to(device),
            held_features,
            torch.from_numpy(held_codes).to(device),
            train_last=train_last,
            learning_rate=self.learning_rate,
            weight_decay=self.weight_decay,
            batch_size=self.batch_size,
            max_epochs=self.max_epochs,
            patience=self.patience,
            generator=generator,
        )
