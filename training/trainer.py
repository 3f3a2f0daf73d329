"""A training run in its folder, and the loop: any device and number of processes, exact resume."""

import copy
import functools
import io
import json
import signal
import sys
import threading
import time
import zipfile
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass, field
from datetime import timedelta
from pathlib import Path

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader, Dataset
from torch.utils.tensorboard import SummaryWriter
from tqdm import tqdm

from configs.schema import Config, TrainConfig, to_yaml
from data.build import read_sources, training_set, validation_sets
from data.datasets import Batch, DrawSampler, GeneratedDataset, draw_loader
from models.build import build, load_model, save_weights
from models.mmfnet import Fusion
from training.losses import LogLoss, PaperLoss
from training.muon import Muon
from training.schedules import SCHEDULES
from training.validation import for_json, summary, takes, validate
from utils.atomic import append, clear, write_file
from utils.errors import UserError, is_full, os_errors
from utils.provenance import provenance

LOSSES = {"paper": PaperLoss, "log": LogLoss}
OPTIMIZERS = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW, "muon": Muon}
AMP = {"off": None, "bf16": torch.bfloat16, "fp16": torch.float16}
CHOICES = {"loss": LOSSES, "optimizer": OPTIMIZERS, "schedule": SCHEDULES, "amp": AMP}
WAIT = timedelta(days=1)  # for process 0, while it validates


def train(config: Config, device: torch.device) -> bool:
    """Train in ``config.run``, going on from its latest checkpoint if there is one; false if it was
    interrupted."""
    run = Path(config.run)
    first = not dist.is_initialized() or dist.get_rank() == 0  # it alone validates and writes
    read = functools.cache(read_sources)  # once, where a share of what trains is held out
    validation = {}
    if first and config.validation.every > 0:
        few = config.validation.quick
        validation = validation_sets(config, few, max(1, few // 3), read)
    trainer = Trainer(config, training_set(config, read), validation, device)
    if (run / "latest.pt").exists():
        trainer.resume(run / "latest.pt")
    if first:
        clear(run)
        write_file(run / "config.yaml", to_yaml(config))
        # A line for each start of the run.
        append(run / "run.jsonl", json.dumps({"step": trainer.step, **provenance()}))
        parameters = sum(p.numel() for p in trainer.model.parameters())
        print(
            f"{run}: {parameters / 1e6:.2f} M parameters, {trainer.world} process(es) on "
            f"{device}, from step {trainer.step} to {config.train.steps}",
            file=sys.stderr,
        )
    return trainer.train()


@dataclass
class Tick:
    """The steps of one process since the last line of the log."""

    began: float = field(default_factory=time.perf_counter)
    steps: int = 0
    samples: int = 0
    sums: dict[str, Tensor] = field(default_factory=dict)  # of the terms of the loss

    def add(self, losses: dict[str, Tensor], samples: int) -> None:
        for name, value in losses.items():
            self.sums[name] = self.sums.get(name, 0) + value
        self.steps += 1
        self.samples += samples


class Trainer:
    """Trains a cascade and keeps its run directory.

    The directory gets ``latest.pt`` (everything needed to go on), ``latest.safetensors`` and
    ``best.safetensors`` (averaged weights), ``validation.jsonl`` and TensorBoard events.

    Args:
        dataset: training samples by draw, see :mod:`data.datasets`.
        validation: sets of samples to validate on while training; none if empty.
    """

    def __init__(
        self,
        config: Config,
        dataset: Dataset,
        validation: dict[str, GeneratedDataset],
        device: torch.device,
    ):
        train = config.train
        for key, known in CHOICES.items():
            if (given := getattr(train, key)) not in known:
                raise UserError(f"train.{key}={given}: choose one of {', '.join(known)}")
        if train.amp == "fp16" and device.type != "cuda":
            raise UserError(f"train.amp=fp16 needs CUDA, not {device}; use bf16 or off")
        self.config, self.dataset = config, dataset
        self.device, self.run = device, Path(config.run)
        self.rank, self.world = 0, 1
        if dist.is_initialized():
            self.rank, self.world = dist.get_rank(), dist.get_world_size()
        torch.manual_seed(config.seed)
        model = build(asdict(config.model))
        if train.init and not (self.run / "latest.pt").exists():  # with which it goes on
            weights = load_model(train.init, asdict(config.model))
            model.load_state_dict(weights.state_dict())
        scenes = config.data.scenes if config.data.pairs < 1 and not config.data.stored else None
        if scenes and not takes(model, scenes):
            way = f"give data.pairs=1, or data.scenes.photographs=[2,{model.initial.largest}]"
            raise UserError(f"the network takes {model.initial.largest} photographs at once; {way}")
        self.validation = {
            name: part for name, part in validation.items() if takes(model, part.generator.config)
        }
        self.model = model.to(device, memory_format=torch.channels_last)
        # Moving averages of the weights: steadier than the last step's, and what is shipped.
        self.ema = copy.deepcopy(self.model).eval().requires_grad_(False)
        weight = {} if train.guidance_weight is None else {"guidance": train.guidance_weight}
        self.loss = LOSSES[train.loss](**weight)
        self.optimizer = _optimizer(self.model, train)
        self.schedule = SCHEDULES[train.schedule]
        # Flags go over the CPUs, so that no GPU stops for them. The others wait at them while
        # process 0 validates, which may take hours.
        self.control = dist.new_group(backend="gloo", timeout=WAIT) if self.world > 1 else None
        self.scaler = torch.amp.GradScaler(device.type, enabled=train.amp == "fp16")
        self.step, self.best = 0, float("-inf")
        self.judged: list | None = None  # what ``best`` is a sum over

    def resume(self, path: Path) -> None:
        """Go on exactly where the checkpoint was written, but with the config's settings; raises
        :class:`UserError` if it is unreadable or of another model."""
        try:
            with zipfile.ZipFile(path) as archive:  # PyTorch itself reads past damaged bytes
                if broken := archive.testzip():
                    raise ValueError(f"the checksum of {broken} is wrong")
            # On the CPU: there the optimizer keeps its counters, which each step reads.
            state = torch.load(path, map_location="cpu", weights_only=True)
            chosen = self.config.train.optimizer
            if (former := state.get("optimizer_name", chosen)) != chosen:
                raise ValueError(f"train.optimizer was {former}, not {chosen}")
            for model, weights in ((self.model, state["model"]), (self.ema, state["ema"])):
                for name, value in weights.items():
                    if not value.isfinite().all():
                        raise ValueError(f"{name} holds values that are not finite")
                try:
                    model.load_state_dict(weights)
                except RuntimeError as error:  # a line for each tensor
                    raise ValueError("its model is another one than model.* says") from error
            groups = self.optimizer.state_dict()["param_groups"]
            self.optimizer.load_state_dict(state["optimizer"] | {"param_groups": groups})
            if state["scaler"]:  # empty when the run was not in fp16 so far
                self.scaler.load_state_dict(state["scaler"])
            self.step, self.best = state["step"], state["best"]
            self.judged = state.get("judged")
        except Exception as error:  # torch.load raises whatever the broken file provokes
            reason = (str(error) or type(error).__name__).splitlines()[0]
            hint = "delete it to start anew, or give another run="
            raise UserError(f"cannot resume from {path} ({reason}); {hint}") from error

    def train(self) -> bool:
        """Train to ``train.steps``; false if Ctrl-C or SIGTERM came, which save and end. Raises
        :class:`UserError` if the loss is not finite or the disk is full."""
        train, every = self.config.train, self.config.validation.every
        model = self.parallel()
        writer = None
        if self.rank == 0:  # what a killed run logged after its last checkpoint is logged again
            purge = self.step + 1 if self.step else None
            folder = self.run / "tensorboard"
            with os_errors(f"write to folder {folder}"):
                writer = SummaryWriter(folder, purge_step=purge)
        bar = tqdm(
            total=train.steps, initial=self.step, unit="step", disable=self.rank > 0, mininterval=5
        )
        tick, saved = Tick(), self.step
        with _interruptible() as interrupted, _told_of_a_full_disk(self.run), closing(bar):
            for batch in self.batches(self.step, train.steps):
                batch = self.to_device(batch)
                losses, fusion = self.learn(model, batch)
                tick.add(losses, len(batch.truth))
                bar.update()
                stop, last = self._agreed(interrupted()), self.step == train.steps
                validates = last or every > 0 and self.step % every == 0
                saves = stop or validates or self.step % train.save_every == 0
                if saves or self.step % train.log_every == 0:
                    self._check(tick, saved)
                    if self.rank == 0:
                        self._log(writer, tick)
                    tick = Tick()
                if saves:
                    if self.rank == 0:
                        if validates:
                            self._validate(writer, batch, fusion)
                        self.save()
                    saved = self.step
                    self._agreed(False)  # the others wait here for process 0
                if stop:
                    if self.rank == 0 and not last:
                        text = f"stopped at step {self.step}, saved; the same command goes on"
                        tqdm.write(text, file=sys.stderr)
                    break
            # An interruption of the last validation counts, too.
            finished = self.step >= train.steps and not interrupted()
        if writer:
            writer.close()
        return finished

    def save(self) -> None:
        """Write ``latest.pt`` and ``latest.safetensors``."""
        parts = ("model", "ema", "optimizer", "scaler")
        state = {name: getattr(self, name).state_dict() for name in parts}
        state |= {"step": self.step, "best": self.best, "judged": self.judged}
        state["optimizer_name"] = self.config.train.optimizer
        whole = io.BytesIO()
        torch.save(state, whole)  # to a file, it does not say what is wrong with that
        write_file(self.run / "latest.pt", whole.getvalue())
        self._save_weights("latest.safetensors")

    def parallel(self) -> nn.Module:
        """The model; with several processes, one that averages its gradients over them."""
        if self.world == 1:
            return self.model
        on_gpu = [self.device.index] if self.device.type == "cuda" else None
        # The last block of a sub-net may have features that nothing reads; a static graph
        # lets DDP know after one step, instead of searching at every one.
        return DistributedDataParallel(self.model, device_ids=on_gpu, static_graph=True)

    def batches(self, start: int, stop: int) -> DataLoader:
        """This process's batches of the steps from ``start`` on."""
        count = getattr(self.dataset, "count", lambda step: None)
        sampler = DrawSampler(self.config.train.batch, start, stop, self.rank, self.world, count)
        pin = self.device.type == "cuda"
        return draw_loader(self.dataset, sampler, self.config.data.workers, pin)

    def to_device(self, batch: Batch) -> Batch:
        """A batch on this process's device."""
        return Batch(*(plane.to(self.device, non_blocking=True) for plane in batch))

    def learn(self, model: nn.Module, batch: Batch) -> tuple[dict[str, Tensor], Fusion]:
        """One step, with the model of :meth:`parallel`; the terms of the loss, and the fusion."""
        train = self.config.train
        for group in self.optimizer.param_groups:
            group["lr"] = train.lr * self.schedule(self.step, train.steps)
        dtype = AMP[train.amp]
        with torch.autocast(self.device.type, dtype, enabled=dtype is not None):
            fusion = model(batch.photographs)
        losses = self.loss(fusion, batch)
        self.optimizer.zero_grad(set_to_none=True)
        self.scaler.scale(sum(losses.values())).backward()
        self.scaler.unscale_(self.optimizer)
        limit = train.clip or float("inf")
        norm = nn.utils.clip_grad_norm_(self.model.parameters(), limit)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.step += 1
        # The average moves quickly at first, so that the start is forgotten.
        decay = min(train.ema, (1 + self.step) / (10 + self.step))
        weights = [weight.detach() for weight in self.model.parameters()]
        torch._foreach_lerp_(list(self.ema.parameters()), weights, 1 - decay)
        losses = {name: value.detach() for name, value in losses.items()}
        if not self.scaler.is_enabled():  # under fp16 an overflow is skipped, and no fault
            losses["gradient norm"] = norm
        return losses, fusion

    def _agreed(self, stop: bool) -> bool:
        """Whether any process was interrupted: all have to stop at the same step."""
        if self.control is None:
            return stop
        flag = torch.tensor(float(stop))
        dist.all_reduce(flag, dist.ReduceOp.MAX, self.control)
        return bool(flag)

    def _check(self, tick: Tick, saved: int) -> None:
        """Raise a :class:`UserError` if a loss was not finite; ``saved`` is the step last saved."""
        if self._agreed(not torch.stack(list(tick.sums.values())).sum().isfinite()):
            kept = "nothing was saved yet"
            if saved:
                kept = f"{self.run / 'latest.pt'} of step {saved} is good"
            raise UserError(
                f"the loss or its gradient stopped being finite before step {self.step}; {kept}: "
                "go on from it with a lower train.lr or train.clip"
            )

    def _log(self, writer: SummaryWriter, tick: Tick) -> None:
        """Log the means of a tick, and the samples a second of all processes."""
        means = {name: float(value) / tick.steps for name, value in tick.sums.items()}
        rate = tick.samples * self.world / (time.perf_counter() - tick.began)
        lr = self.optimizer.param_groups[0]["lr"]
        for name, value in {**means, "lr": lr, "samples per second": rate}.items():
            writer.add_scalar(f"train/{name}", value, self.step)
        text = " ".join(f"{name} {value:.4f}" for name, value in means.items())
        text = f"step {self.step} {text} lr {lr:.2e} {rate:.1f} samples/s"
        if self.device.type == "cuda":
            text += f" {torch.cuda.max_memory_allocated() / 2**30:.1f} GiB"
        tqdm.write(text, file=sys.stderr)

    def _validate(self, writer: SummaryWriter, batch: Batch, fusion: Fusion) -> None:
        """Validate the averaged weights; keep them if they are the best; write pictures."""
        panels = torch.cat(_panels(batch, fusion), dim=3)
        writer.add_images("train/samples", panels[:4].clamp(0, 1), self.step)
        score = 0.0
        judged = [[name, len(p), p.generator.identity()] for name, p in self.validation.items()]
        if self.validation and self.judged != judged:
            if self.judged:  # a score of other samples is no measure
                self.best = float("-inf")
            self.judged = judged
        for name, samples in self.validation.items():
            figures = validate(self.ema, samples, self.device)
            for key, value in figures.items():
                writer.add_scalar(f"validation/{name}/{key}", value, self.step)
            known = for_json(figures)
            row = json.dumps({"step": self.step, "set": name, **known})
            append(self.run / "validation.jsonl", row)
            tqdm.write(f"step {self.step} {name}: {summary(figures)}", file=sys.stderr)
            score += (known["fused_whole"] or 0) + (known["fused_band"] or 0)
        if self.validation and score > self.best:
            self.best = score
            self._save_weights("best.safetensors")

    def _save_weights(self, name: str) -> None:
        save_weights(self.run / name, self.ema.state_dict(), asdict(self.config.model))


def _optimizer(model: nn.Module, train: TrainConfig) -> torch.optim.Optimizer:
    """β (0.9, 0.999); the weight decay spares the biases, as the released code does."""
    weights, biases = [], []
    for name, parameter in model.named_parameters():
        (biases if name.endswith("bias") else weights).append(parameter)
    groups = [{"params": weights, "weight_decay": train.weight_decay}]
    groups += [{"params": biases, "weight_decay": 0.0}]
    return OPTIMIZERS[train.optimizer](groups, lr=train.lr, betas=(0.9, 0.999))


def _panels(batch: Batch, fusion: Fusion) -> list[Tensor]:
    """First and last photograph, which is right (white: the first), boundary map, fused, ground
    truth and error × 8, as images."""
    guidance = fusion.guidance.detach().float()
    order = torch.linspace(1, 0, guidance.shape[1], device=guidance.device)[:, None, None, None]
    index = (guidance * order).sum(1)
    maps = (plane.expand(-1, 3, -1, -1) for plane in (index, fusion.boundary.detach().float()))
    fused = fusion.fused.detach().float()
    error = (fused - batch.truth).abs() * 8
    first, last = batch.photographs[:, 0], batch.photographs[:, -1]
    return [first, last, *maps, fused, batch.truth, error]


@contextmanager
def _told_of_a_full_disk(run: Path) -> Iterator[None]:
    """Name the run where the disk is full. TensorBoard writes in a thread, whose error its next
    call raises; the thread itself is kept from printing it too."""
    hook = threading.excepthook
    threading.excepthook = lambda told: None if is_full(told.exc_value) else hook(told)
    try:
        yield
    except OSError as error:
        if not is_full(error):
            raise
        hint = "make room, the same command goes on"
        raise UserError(f"cannot write to {run}: {error.strerror}; {hint}") from error
    finally:
        threading.excepthook = hook


@contextmanager
def _interruptible() -> Iterator[Callable[[], bool]]:
    """Give a function that tells whether SIGINT or SIGTERM came; a second one ends at once."""
    came: list[int] = []

    def note(number: int, frame) -> None:
        if came:
            raise KeyboardInterrupt
        came.append(number)

    before = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield lambda: bool(came)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
