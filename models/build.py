"""Build a cascade from its config, and read and write its weights.

    python -m models.build configs/paper.yaml

prints how many parameters the cascade of a config has.
"""

import inspect
import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import nn

from models.boundary_fusion import BoundaryFusion, SetBoundaryFusion
from models.initial_fusion import InitialFusion, SetInitialFusion
from models.mmfnet import MMFNet
from utils.atomic import write_file
from utils.errors import UserError, cli, nearest, option_parser, os_errors

INITIAL = {net.__name__: net for net in (InitialFusion, SetInitialFusion)}
BOUNDARY = {net.__name__: net for net in (BoundaryFusion, SetBoundaryFusion)}
REWRITE = "write it by save_weights of models/build.py, which adds that"


def build(model: dict[str, Any]) -> MMFNet:
    """The cascade of a config's ``model``: {"initial": {name, args}, "boundary": {…} or None};
    raises :class:`UserError` for unknown classes and arguments, and arguments of a wrong type."""
    initial, boundary = model["initial"], model.get("boundary")
    initial = _net("model.initial", initial, INITIAL)
    return MMFNet(initial, _net("model.boundary", boundary, BOUNDARY) if boundary else None)


def save_weights(path: str | Path, weights: dict[str, torch.Tensor], model: dict[str, Any]) -> None:
    """Write weights as safetensors, with the model's config as metadata."""
    # Under one key: safetensors writes several in a random order, but equal weights give equal
    # files.
    weights = {name: tensor.detach().cpu().contiguous() for name, tensor in weights.items()}
    write_file(path, save(weights, {"model": json.dumps(model)}))


def load_model(path: str | Path, model: dict[str, Any] | None = None) -> MMFNet:
    """A cascade in evaluation mode with the weights of a file of :func:`save_weights`; ``model`` is
    the config that they must fit, by default the one stored with them. Raises :class:`UserError`
    for a file that is missing, no safetensors (a pickle, say), cut short, of another config, or
    with values that are not finite."""
    try:
        with os_errors(f"read weights {path}"), safe_open(path, "pt") as file:
            about = file.metadata() or {}
            weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except SafetensorError as error:
        way = "fetch it again, and never load weights that come as a pickle"
        raise UserError(f"{path} is not a whole safetensors file ({error}); {way}") from error
    if model is None and "model" not in about:
        raise UserError(f"{path} does not say which model it is for; {REWRITE}")
    try:
        net = build(model or json.loads(about["model"]))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{path} says unreadably which model it is for; {REWRITE}") from error
    try:
        net.load_state_dict(weights)
    except RuntimeError as error:
        trained = f", they were trained with {about['model']}" if "model" in about else ""
        raise UserError(f"weights {path} do not fit the given config{trained}") from error
    for name, value in net.state_dict().items():
        if not value.isfinite().all():
            what = f"{name} holds values that are not finite; fetch it again"
            raise UserError(f"weights {path}: {what}")
    return net.eval().requires_grad_(False)


@cli
def main(argv: list[str] | None = None) -> None:
    """Print the number of parameters of the cascade of a config, and of each sub-net."""
    from configs.schema import load_config  # which torch.hub need not have

    parser = option_parser(__doc__)
    parser.add_argument("config", help="YAML file, see configs/")
    args = parser.parse_args(argv)
    with torch.device("meta"):
        model = build(asdict(load_config(args.config).model))
    parts = {"initial fusion": model.initial, "boundary fusion": model.boundary, "cascade": model}
    for name, net in parts.items():
        if net:
            print(f"{name}: {sum(p.numel() for p in net.parameters()):,} parameters")


def _net(key: str, config: dict[str, Any], nets: dict[str, type[nn.Module]]) -> nn.Module:
    name, args = config["name"], config.get("args") or {}
    if name not in nets:
        raise UserError(f"{key}.name: there is no {name!r}; did you mean {nearest(name, nets)}?")
    known = inspect.signature(nets[name]).parameters
    for arg in args:
        if arg not in known:
            near = nearest(arg, known)
            raise UserError(f"{key}.args: {name} takes no {arg!r}; did you mean {near}?")
    try:
        return nets[name](**args)
    except (TypeError, ValueError, RuntimeError) as error:
        raise UserError(f"{key}.args: {name} cannot be built with {args} ({error})") from error


if __name__ == "__main__":
    sys.exit(main())
