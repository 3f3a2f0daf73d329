"""The configuration of a run: YAML files over typed defaults, dotted overrides over both."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, fields, is_dataclass
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf, StringNode
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from configs.ranges import check_values
from defocus.sample import DefocusConfig, Effect
from defocus.scene import SceneConfig
from utils.atomic import check_regular
from utils.errors import UserError, nearest, os_errors


@dataclass
class NetConfig:
    """A sub-net: the name of its class and the arguments of its constructor.

    Arguments merge with those below, as all keys do, but they belong to a net: giving another
    ``name`` drops the arguments of the former one.
    """

    name: str = ""
    args: dict[str, Any] = field(default_factory=dict)


@dataclass
class ModelConfig:
    initial: NetConfig = field(default_factory=lambda: NetConfig("SetInitialFusion"))
    boundary: NetConfig | None = field(default_factory=lambda: NetConfig("SetBoundaryFusion"))


@dataclass
class DataConfig:
    photographs: str = ""  # folder of photographs to make samples from
    cutouts: str | None = None  # folder of RGBA cut-outs, or of fg/ + alpha/ or original/ + mask/
    stored: str | None = None  # or a data set that `python -m data.generate` wrote
    workers: int = 2
    defocus: DefocusConfig = field(default_factory=DefocusConfig)  # pairs of two layers
    scenes: SceneConfig | None = None  # scenes in 2 to 8 photographs; None for pairs alone
    pairs: float = 0.3  # share of the steps that learn from pairs, where there are scenes


@dataclass
class ValidationConfig:
    photographs: str = ""  # held-out photographs; by default a share of the training ones
    cutouts: str | None = None
    fraction: float = 0.1  # that share, chosen by a hash of the name
    samples: int = 300
    seed: int = 2020
    every: int = 2000  # steps between two looks while training
    quick: int = 48  # samples of such a look
    defocus: DefocusConfig = field(
        default_factory=lambda: DefocusConfig(
            size=224, psfs=["gaussian", "disk"], noise=Effect(0.5, 0, 0.01177)
        )
    )
    scenes: dict[str, SceneConfig] = field(default_factory=dict)  # more sets, by name
    scene_samples: int = 100  # of each


@dataclass
class TrainConfig:
    steps: int = 20000
    batch: int = 8  # samples a step of each process
    loss: str = "log"  # or paper
    guidance_weight: float | None = None  # of the loss's guidance term, its own by default
    schedule: str = "cosine"  # or paper, trapezoid
    lr: float = 1e-3
    optimizer: str = "adamw"  # muon, or adam, whose weight decay is part of the gradient
    weight_decay: float = 0.0  # on weights, never on biases
    clip: float = 1.0  # largest norm of the gradient, 0 for no limit
    ema: float = 0.999  # decay of the averaged weights, 0 to train without
    amp: str = "off"  # mixed precision: bf16, or fp16 (CUDA only)
    log_every: int = 50
    save_every: int = 500
    init: str | None = None  # weights (safetensors) to start from


@dataclass
class Config:
    """Everything about a run; ``configs/*.yaml`` state what differs from these defaults."""

    run: str = "runs/mmfnet"
    seed: int = 1
    device: str = "auto"
    model: ModelConfig = field(default_factory=ModelConfig)
    data: DataConfig = field(default_factory=DataConfig)
    validation: ValidationConfig = field(default_factory=ValidationConfig)
    train: TrainConfig = field(default_factory=TrainConfig)


def load_config(path: str | Path, overrides: Sequence[str] = ()) -> Config:
    """Read a YAML file, apply ``key.sub=value`` overrides, check every key, type and range.

    Raises:
        UserError: file unreadable, YAML broken, a key unknown (the nearest valid one is named) or
            a value of the wrong type or outside its range.
    """
    check_regular(path)
    try:
        with os_errors(f"read config {path}"):  # OmegaConf's own for a number instead of keys, too
            given = OmegaConf.load(path)
    except (YAMLError, UnicodeDecodeError, OmegaConfBaseException) as error:
        raise UserError(f"config {path} is not valid YAML: {_line(error)}") from error
    if not isinstance(given, DictConfig):
        raise UserError(f"config {path} holds no keys; copy one of configs/ and change it")
    return merge(OmegaConf.to_container(given), overrides, str(path))


def merge(values: dict, overrides: Sequence[str] = (), origin: str = "config") -> Config:
    """A checked :class:`Config` from plain values and dotted overrides; see :func:`load_config`."""
    schema = OmegaConf.structured(Config)
    for override in overrides:
        if "=" not in override:
            raise UserError(f"override {override!r} is not of the form key.sub=value")
    try:
        dotted = OmegaConf.from_dotlist(list(overrides))
    except (OmegaConfBaseException, YAMLError) as error:
        raise UserError(
            f"cannot read the overrides {' '.join(overrides)}: {_line(error)}"
        ) from error
    for source, name in ((OmegaConf.create(values), origin), (dotted, "the command line")):
        _check_keys(source, schema, name)
        _drop_former_args(source, schema)
        try:
            schema = OmegaConf.merge(schema, source)
        except OmegaConfBaseException as error:
            raise UserError(f"{name}: {error.full_key}: {_line(error)}") from error
    try:
        config = OmegaConf.to_object(schema)
    except OmegaConfBaseException as error:  # an interpolation ${…} that leads nowhere
        raise UserError(f"{origin}: {error.full_key}: {_line(error)}") from error
    check_values(asdict(config), origin)
    return config


def to_dict(config: Any) -> dict:
    """Plain nested values of a config dataclass."""
    return OmegaConf.to_container(OmegaConf.structured(config))


def write_yaml(config: Any, path: Path) -> None:
    """Write a config dataclass as YAML."""
    OmegaConf.save(OmegaConf.structured(config), path)


def _check_keys(given: DictConfig, schema: DictConfig, origin: str, prefix: str = "") -> None:
    for key in given:
        if key not in schema:
            near = nearest(key, schema)
            raise UserError(f"{origin}: unknown key {prefix}{key}; did you mean {prefix}{near}?")
        node, below = given._get_node(key), schema._get_node(key)
        kind = below._metadata.ref_type if isinstance(below, DictConfig) else None
        if is_dataclass(kind):
            if isinstance(node, DictConfig):
                inner = OmegaConf.structured(kind) if below._is_none() else below
                _check_keys(node, inner, origin, f"{prefix}{key}.")
            elif not node._is_none():
                first = fields(kind)[0].name
                raise UserError(
                    f"{origin}: {prefix}{key} is no value but a group of keys, such as "
                    f"{prefix}{key}.{first}"
                )
        elif isinstance(node, DictConfig) and not isinstance(below, DictConfig):
            raise UserError(f"{origin}: {prefix}{key} is a value and has no keys below it")
        elif isinstance(below, StringNode) and isinstance(node._value(), bool):
            given[key] = "on" if node._value() else "off"  # which YAML takes for truth values


def _drop_former_args(given: DictConfig, schema: DictConfig) -> None:
    for key in ("initial", "boundary"):
        name = OmegaConf.select(given, f"model.{key}.name")
        if name is not None and OmegaConf.select(schema, f"model.{key}.name") not in (None, name):
            schema.model[key].args = {}


def _line(error: Exception) -> str:
    return str(error).strip().splitlines()[0]
