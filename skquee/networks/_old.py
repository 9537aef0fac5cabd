"""Parameters of before: where each stands now, for one release."""

from __future__ import annotations

from skquee.networks._head_trainer import HeadTrainer
from skquee.networks._parameters import PRETRAINED
from skquee.networks.backbones._types import Options
from skquee.values._deprecated import warn_of_old

__all__ = ["OLD", "in_new_keywords", "in_new_names"]

# All but what is newer than they are.
TRAINERS = tuple(name for name in HeadTrainer().get_params(deep=False) if name != "pool")
#: Old keyword of a network to what is written instead.
OLD = {
    **{name: f"trainer=HeadTrainer({name}=...)" for name in TRAINERS},
    "pretrained": f"weights={PRETRAINED!r}",
    "checkpoint": "weights=",
}


def in_new_keywords(old: Options) -> dict[str, object]:
    """Return the keywords of a network that say what old ones said.

    `old`: of ``OLD``. Returns ``trainer`` and ``weights``, where they were given.
    """
    own = {name: value for name, value in old.items() if name in TRAINERS}
    new: dict[str, object] = {"trainer": HeadTrainer(**own)} if own else {}
    return new | _weights(old)


def in_new_names(params: Options, weights: object) -> dict[str, object]:
    """Return parameters by their present names, as ``set_params`` takes them; old ones warn.

    `params`: by old or new names. `weights`: those that hold so far: ``pretrained=False`` takes no
    file away.
    """
    old = {name: value for name, value in params.items() if name in OLD}
    for name in old:
        instead = f"trainer__{name}" if name in TRAINERS else OLD[name]
        warn_of_old(f"`{name}` of MultiExitNetwork", instead, "0.3")
    kept = {name: value for name, value in params.items() if name not in OLD}
    own = {f"trainer__{name}": value for name, value in old.items() if name in TRAINERS}
    return kept | own | _weights(old, None if weights == PRETRAINED else weights)


def _weights(old: Options, before: object = None) -> dict[str, object]:
    if "pretrained" not in old and "checkpoint" not in old:
        return {}
    file = old["checkpoint"] if "checkpoint" in old else None if old["pretrained"] else before
    if old.get("pretrained") and file is not None:
        raise ValueError("Give weights='pretrained' or a file of weights, not both.")
    return {"weights": PRETRAINED if old.get("pretrained") else file}
