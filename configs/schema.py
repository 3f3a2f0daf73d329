"""The configuration of a run: YAML files over typed defaults, dotted overrides over both."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field, fields, is_dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, NamedTuple

from omegaconf import DictConfig, ListConfig, OmegaConf, StringNode
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from defocus.materials import Effect
from defocus.sample import DefocusConfig
from defocus.scene import SceneConfig
from utils.atomic import check_regular
from utils.errors import UserError, nearest, os_errors


@dataclass
class NetConfig:
    """A sub-net: the name of its class and the arguments of its constructor. Arguments merge with
    those of the defaults or the file, as all keys do; another ``name`` drops them."""

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


class Range(NamedTuple):
    """Numbers from ``low`` to ``high``; ``open_low``, ``open_high``: without that end."""

    low: float = -math.inf
    high: float = math.inf
    open_low: bool = False
    open_high: bool = False

    def holds(self, value: float) -> bool:
        above = value > self.low if self.open_low else value >= self.low
        below = value < self.high if self.open_high else value <= self.high
        return math.isfinite(value) and above and below  # NaN is in no range

    def __str__(self) -> str:
        low = f"{'above' if self.open_low else 'at least'} {self.low:g}"
        high = f"{'below' if self.open_high else 'at most'} {self.high:g}"
        bounds = [text for text, end in ((low, self.low), (high, self.high)) if math.isfinite(end)]
        return " and ".join(bounds) or "a number"


# By range, the patterns of keys; the first that a key fits decides. Of a list each number counts.
# What fits none is a finite number all the same.
_PATTERNS = {
    Range(0, 2**63 - 1): "seed validation.seed",
    Range(0, 1): "data.pairs validation.fraction *.probability *.linear_light *.procedural "
    "*.fill_frame *.sharp_everywhere *.defocus.swap *.scenes*.ends *.scenes*.close *.scenes*.shot "
    "*.scenes*.floating",
    Range(0, 1, open_high=True): "train.ema",
    Range(0): "train.guidance_weight train.lr train.weight_decay train.clip data.workers "
    "validation.every *.noise.low *.noise.high *.residual_blur.low *.residual_blur.high "
    "*.unfocused.low *.unfocused.high *.scenes*.layers *.speculars.low *.speculars.high "
    "*.painted.low *.painted.high *.beyond.low *.beyond.high *.scenes*.restored "
    "model.*.args.blocks model.*.args.refine",
    Range(-16, 16): "*.exposure.low *.exposure.high *.highlights.low *.highlights.high "
    "*.specular_stops",
    Range(0, open_low=True): "*.zoom",
    Range(1): "train.steps train.batch train.log_every train.save_every validation.samples "
    "validation.scene_samples validation.quick *.defocus.sigma_ratio model.*.args.widths "
    "model.*.args.channels",
    Range(16, 8192): "*.size",
    Range(0, 100): "*.jpeg.low *.jpeg.high",
    Range(-1, 1, open_low=True, open_high=True): "*.breathing.low *.breathing.high",
    Range(0, 64, open_low=True): "*.defocus.sigma",
    Range(2, 64): "*.scenes*.photographs",
    Range(0, 256, open_low=True): "*.scenes*.radius",
}
RANGES = {pattern: span for span, line in _PATTERNS.items() for pattern in line.split()}
NEVER_EMPTY = "*.psfs *.mattes *.defocus.sigma *.defocus.zoom *.scenes*.layers model.*.args.*"


def load_config(path: str | Path, overrides: Sequence[str] = ()) -> Config:
    """Read a YAML file, apply ``key.sub=value`` overrides, check every key, type and range; raises
    :class:`UserError` (which names the nearest key, for one that is unknown)."""
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
        given = " ".join(overrides)
        raise UserError(f"cannot read the overrides {given}: {_line(error)}") from error
    try:
        for source, name in ((OmegaConf.create(values), origin), (dotted, "the command line")):
            _check_keys(source, schema, name)
            _drop_former_args(source, schema)
            schema = OmegaConf.merge(schema, source)
        name = origin
        config = OmegaConf.to_object(schema)  # an interpolation ${…} may lead nowhere
        OmegaConf.structured(config)  # a list may stand where a number belongs in another
    except OmegaConfBaseException as error:
        raise UserError(f"{name}: {error.full_key}: {_line(error)}") from error
    check_values(asdict(config))
    return config


def to_yaml(config: Any) -> str:
    """A config dataclass as YAML."""
    return OmegaConf.to_yaml(asdict(config))


def check_values(values: dict[str, Any]) -> None:
    """Check every value of a config, plain and nested; raises a :class:`UserError` that names the
    key and its range."""
    given = dict(flat(values))
    for key, value in given.items():
        if value == [] and any(fnmatchcase(key, pattern) for pattern in NEVER_EMPTY.split()):
            raise UserError(f"{key} is empty; name one at least, or leave the key out")
        allowed = next((span for p, span in RANGES.items() if fnmatchcase(key, p)), Range())
        for number in value if isinstance(value, list) else [value]:
            if type(number) in (int, float) and not allowed.holds(number):
                raise UserError(f"{key}={number:g}: has to be {allowed}")
        group, _, last = key.rpartition(".")
        ends = [given.get(f"{group}.{end}") for end in ("low", "high")]
        if last == "probability" and value and ends == [0, 0]:
            raise UserError(f"{key}={value:g} draws from 0 to 0; set {group}.high")


def flat(values: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """All keys, dotted, and their values."""
    for key, value in values.items():
        if isinstance(value, dict):
            yield from flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


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
                group, first = f"{prefix}{key}", fields(kind)[0].name
                message = f"{group} is no value but a group of keys, such as {group}.{first}"
                raise UserError(f"{origin}: {message}")
        elif isinstance(node, ListConfig) and isinstance(below, DictConfig):
            raise UserError(f"{origin}: {prefix}{key} is no list but a group of keys")
        elif isinstance(node, DictConfig) and not isinstance(below, DictConfig):
            raise UserError(f"{origin}: {prefix}{key} is a value and has no keys below it")
        elif isinstance(below, StringNode) and isinstance(node._value(), bool):
            given[key] = "on" if node._value() else "off"  # which YAML takes for truth values
        elif isinstance(below, StringNode) and str(node._value()).startswith("~/"):
            given[key] = str(Path(node._value()).expanduser())


def _drop_former_args(given: DictConfig, schema: DictConfig) -> None:
    for key in ("initial", "boundary"):
        name = OmegaConf.select(given, f"model.{key}.name")
        if name is not None and OmegaConf.select(schema, f"model.{key}.name") not in (None, name):
            schema.model[key].args = {}


def _line(error: Exception) -> str:
    return str(error).strip().splitlines()[0]
