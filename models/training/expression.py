"""Trains the expression network on FER2013 (Goodfellow et al. 2013), calibrates it, measures it, writes it as ONNX.

    python -m affectline.models.training.expression --data DIR --out FILE [--json FILE]

`--data` holds faces.zip: labels.csv (path, label, split of train, validation) and gray faces of 48×48 pixels. Needs
the extra `train` and an hour to an hour and a half on two cores; seeded. An interrupted run goes on from its last
epoch, kept beside FILE. A twentieth of the training part is held out for the temperature; validation is only measured
on.
"""

import argparse
import csv
import io
import json
import math
import time
import zipfile
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

import cv2
import numpy as np
import numpy.typing as npt
import torch
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax, softmax
from torch import nn

from affectline.models.convert.graph import Graph
from affectline.models.runtime import Runtime
from affectline.models.signals import F32
from affectline.models.training.voice import calibration_error, uar

SEED: Final = 1
SIDE: Final = 48
CLASSES: Final = ("anger", "disgust", "fear", "happiness", "sadness", "surprise", "neutral")
"""In the order of the network's outputs, by the names of labels.csv."""
STEM: Final = 16
STAGES: Final = ((32, 1), (64, 2), (128, 3))
"""(channels, blocks); each stage halves the side: 24, 12, 6."""
SQUEEZE: Final = 8
DROPOUT: Final = 0.3
EPOCHS: Final = 93
"""models/zoo/expression.onnx was learnt on a busy machine: planned for 120, its rate was lowered from epoch 46 on, by
half a cosine from 0.6 of RATE over what time was left. A run of this script is close to it, not the same.
"""
VIEWS: Final = ((0.0, 40, 1.0), (0.43, 44, 0.6), (0.84, 48, 0.6))
"""(share of the epochs done, side of the crop learnt from, strength of the changes to a face).

Small first, which is cheaper (Tan & Le 2021); full strength throughout left too much unlearnt.
"""
BATCH: Final = 64
RATE: Final = 0.05
MOMENTUM: Final = 0.9
DECAY: Final = 5e-4
WARM_UP: Final = 0.03
SMOOTHING: Final = 0.1
AVERAGING: Final = 0.999
"""Weights are averaged over the steps with this decay (Polyak & Juditsky 1992)."""
HELD_OUT: Final = 0.05
ALIKE: Final = 0.99
"""Correlation of two faces' thumbnails above which they are taken for the same picture."""

U8 = npt.NDArray[np.uint8]
I64 = npt.NDArray[np.int64]
Rows = npt.NDArray[np.intp]


@dataclass(frozen=True, slots=True)
class Faces:
    gray: U8
    """[n, 48, 48]."""
    label: I64
    """[n], places in CLASSES."""


def load(folder: Path, split: str) -> Faces:
    """The faces of one split of `folder`/faces.zip."""
    with zipfile.ZipFile(folder / "faces.zip") as archive:
        rows = list(csv.DictReader(io.TextIOWrapper(archive.open("labels.csv"))))
        rows = [row for row in rows if row["split"] == split]
        files = (np.frombuffer(archive.read(row["path"]), np.uint8) for row in rows)
        gray = np.stack([np.asarray(cv2.imdecode(file, cv2.IMREAD_GRAYSCALE), np.uint8) for file in files])
    return Faces(gray, np.array([CLASSES.index(row["label"]) for row in rows], np.int64))


def seen_in(gray: U8, others: U8) -> npt.NDArray[np.bool_]:
    """[n]: whether the picture [n, 48, 48] is among `others` too; FER2013 repeats many."""

    def thumbnails(faces: U8) -> F32:
        small = np.stack([cv2.resize(face, (12, 12), interpolation=cv2.INTER_AREA) for face in faces])
        flat = small.reshape(len(small), -1).astype(np.float32)
        flat -= flat.mean(axis=1, keepdims=True)
        return np.asarray(flat / np.maximum(np.linalg.norm(flat, axis=1, keepdims=True), 1e-3), np.float32)

    known = thumbnails(others).T
    return np.concatenate([(part @ known).max(axis=1) > ALIKE for part in np.array_split(thumbnails(gray), 8)])


def split_off(faces: Faces, share: float) -> tuple[Rows, Rows]:
    """(rows to learn from, rows held out): a seeded share of every class, without pictures that are learnt from."""
    random = np.random.default_rng(SEED)
    held = np.zeros(len(faces.label), bool)
    for own in (np.flatnonzero(faces.label == c) for c in range(len(CLASSES))):
        held[random.permutation(own)[: round(share * len(own))]] = True
    rows = np.flatnonzero(held)
    if len(rows):
        rows = rows[~seen_in(faces.gray[rows], faces.gray[~held])]
    return np.flatnonzero(~held), rows


def changed(face: U8, side: int, strength: float, random: np.random.Generator) -> F32:
    """One face [48, 48] as another camera might have seen it: [side, side] in [0, 1]; strength in (0, 1].

    Flip, rotation, scale, shift, coarse pixels, blur, JPEG, gamma, contrast, noise, a part covered (Zhong et al. 2020).
    """
    angle = math.radians(strength * random.uniform(-15, 15))
    across, down = np.exp(strength * (random.uniform(-0.15, 0.15) + random.uniform(-0.06, 0.06, 2)))
    mirror = 1 if random.random() < 0.5 else -1
    turn = np.array(
        [[mirror * across * math.cos(angle), -down * math.sin(angle)],
         [mirror * across * math.sin(angle), down * math.cos(angle)]]
    )  # fmt: skip
    centre = np.full(2, (SIDE - 1) / 2)
    shift = (side - 1) / 2 + strength * random.uniform(-4, 4, 2) - turn @ centre
    found: Any = cv2.warpAffine(face, np.column_stack((turn, shift)), (side, side), borderMode=cv2.BORDER_REFLECT_101)
    if random.random() < 0.15 * strength:
        few = int(random.integers(side // 3, side))
        found = cv2.resize(found, (few, few), interpolation=cv2.INTER_AREA)
        found = cv2.resize(found, (side, side), interpolation=cv2.INTER_LINEAR)
    if random.random() < 0.1 * strength:
        found = cv2.GaussianBlur(found, (0, 0), random.uniform(0.4, 1.2))
    if random.random() < 0.1 * strength:
        _, file = cv2.imencode(".jpg", found, (cv2.IMWRITE_JPEG_QUALITY, int(random.integers(15, 70))))
        found = cv2.imdecode(file, cv2.IMREAD_GRAYSCALE)
    light = (np.asarray(found, np.float32) / 255) ** np.exp(strength * random.uniform(-0.4, 0.4))
    light = light * (1 + strength * random.uniform(-0.3, 0.3)) + strength * random.uniform(-0.15, 0.15)
    if random.random() < 0.15 * strength:
        light += random.normal(0, random.uniform(0.01, 0.06), light.shape)
    if random.random() < 0.3 * strength:
        tall, wide = random.integers(side // 8, side // 3, 2)
        top, left = random.integers(0, side - tall), random.integers(0, side - wide)
        light[top : top + tall, left : left + wide] = random.uniform(0, 1)
    return np.asarray(np.clip(light, 0, 1), np.float32)


class Convolution(nn.Sequential):
    """Convolution, batch normalisation, and ReLU unless `linear`."""

    def __init__(self, taken: int, given: int, kernel: int = 3, stride: int = 1, *, linear: bool = False) -> None:
        convolution = nn.Conv2d(taken, given, kernel, stride, kernel // 2, bias=False)
        super().__init__(convolution, nn.BatchNorm2d(given), nn.Identity() if linear else nn.ReLU())


class Block(nn.Module):
    """Two convolutions and a gate per channel beside a short cut (He et al. 2016, Hu et al. 2018)."""

    def __init__(self, taken: int, given: int, stride: int) -> None:
        super().__init__()
        self.first = Convolution(taken, given, stride=stride)
        self.second = Convolution(given, given, linear=True)
        self.squeeze, self.excite = nn.Conv2d(given, given // SQUEEZE, 1), nn.Conv2d(given // SQUEEZE, given, 1)
        self.short = Convolution(taken, given, 1, linear=True) if stride > 1 or taken != given else None
        self.pool = nn.AvgPool2d(2, ceil_mode=True) if stride > 1 else nn.Identity()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.second(self.first(x))
        y = y * self.excite(self.squeeze(y.mean((2, 3), keepdim=True)).relu()).sigmoid()
        return (y + (x if self.short is None else self.short(self.pool(x)))).relu()


class Network(nn.Module):
    """A small residual network on faces, each standardised by its own mean and deviation."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = Convolution(1, STEM)
        blocks, width = [], STEM
        for channels, count in STAGES:
            blocks += [Block(channels if k else width, channels, 1 if k else 2) for k in range(count)]
            width = channels
        self.blocks = nn.ModuleList(blocks)
        self.drop = nn.Dropout(DROPOUT)
        self.head = nn.Linear(width, len(CLASSES))

    def forward(self, gray: torch.Tensor) -> torch.Tensor:
        """gray [n, 1, side, side] in [0, 1] -> logits [n, classes]."""
        centred = gray - gray.mean((1, 2, 3), keepdim=True)
        x = self.stem(centred / (centred.square().mean((1, 2, 3), keepdim=True) + 1e-4).sqrt())
        for block in self.blocks:
            x = block(x)
        return self.head(self.drop(x.mean((2, 3))))


def rate(share: float) -> float:
    """Of RATE, when `share` of the steps is done: a rise, then half a cosine (Loshchilov & Hutter 2017)."""
    return min(1.0, share / WARM_UP) * 0.5 * (1 + math.cos(math.pi * share))


def train(faces: Faces, held: Faces, kept: Path) -> Network:
    """The averaged network after EPOCHS; `kept` takes the state after each, and gives it back when it is there."""
    torch.manual_seed(SEED)
    network: Any = Network()
    network.to(memory_format=torch.channels_last)
    average: Any = torch.optim.swa_utils.AveragedModel(
        network, multi_avg_fn=torch.optim.swa_utils.get_ema_multi_avg_fn(AVERAGING), use_buffers=True
    )
    plain = [p for p in network.parameters() if p.ndim < 2]
    weights = [p for p in network.parameters() if p.ndim >= 2]
    groups = [{"params": weights, "weight_decay": DECAY}, {"params": plain, "weight_decay": 0.0}]
    optimiser = torch.optim.SGD(groups, lr=RATE, momentum=MOMENTUM, nesterov=True)
    target, first, per_epoch = torch.tensor(faces.label), 0, len(faces.label) // BATCH
    if kept.is_file():
        state = torch.load(kept, weights_only=True)
        network.load_state_dict(state["network"])
        average.load_state_dict(state["average"])
        optimiser.load_state_dict(state["optimiser"])
        first = state["epoch"]
    started_s = time.monotonic()
    for epoch in range(first, EPOCHS):
        torch.manual_seed(SEED + epoch)
        random = np.random.default_rng((SEED, epoch))
        side, strength = next((side, much) for share, side, much in reversed(VIEWS) if epoch >= share * EPOCHS)
        order, losses = random.permutation(len(faces.label)), []
        network.train()
        for step in range(per_epoch):
            rows = order[step * BATCH : (step + 1) * BATCH]
            batch = torch.tensor(
                np.stack([changed(face, side, strength, random) for face in faces.gray[rows]])[:, None]
            )
            for group in optimiser.param_groups:
                group["lr"] = RATE * rate((epoch + step / per_epoch) / EPOCHS)
            with torch.autocast("cpu", torch.bfloat16):
                logits = network(batch)
            loss = nn.functional.cross_entropy(logits.float(), target[rows], label_smoothing=SMOOTHING)
            optimiser.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(network.parameters(), 2.0)
            optimiser.step()
            average.update_parameters(network)
            losses.append(loss.item())
        state = {"network": network.state_dict(), "average": average.state_dict(), "epoch": epoch + 1}
        part = kept.with_suffix(".part")
        torch.save({**state, "optimiser": optimiser.state_dict()}, part)
        part.replace(kept)
        left_min = (time.monotonic() - started_s) / (epoch + 1 - first) * (EPOCHS - epoch - 1) / 60
        known = f"held out {accuracy(answers(average.module, held.gray), held.label):.4f}, " if len(held.label) else ""
        print(f"epoch {epoch + 1} of {EPOCHS}, loss {np.mean(losses):.3f}, {known}{left_min:.0f} min left", flush=True)
    return average.module


def answers(network: Network, gray: U8) -> F32:
    """Faces [n, 48, 48] -> logits [n, classes]."""
    network.eval()
    parts = torch.tensor(gray).split(256)
    with torch.no_grad():
        return np.concatenate([network(part[:, None].float() / 255).numpy() for part in parts])


def accuracy(logits: F32, label: I64) -> float:
    return float((logits.argmax(axis=1) == label).mean())


def fit_temperature(logits: F32, label: I64) -> float:
    """What the logits are to be divided by (Guo et al. 2017): least negative log-likelihood."""

    def loss(log_temperature: float) -> float:
        belief = log_softmax(logits.astype(np.float64) / math.exp(log_temperature), axis=1)
        return float(-belief[np.arange(len(label)), label].mean())

    return math.exp(minimize_scalar(loss, bounds=(-2, 2), method="bounded").x)


def save(path: Path, network: Any, temperature: float) -> None:
    """gray [n, 1, 48, 48] in [0, 1] -> logits [n, classes], divided by the temperature; weights in half precision."""
    g = Graph("expression")

    def half(weight: Any) -> Any:
        return g.op("Cast", g.const(weight.detach().numpy().astype(np.float16)), to=1)

    def convolved(x: Any, part: Any) -> Any:
        """The normalisation is folded into the weights."""
        plain, norm, act = part
        gain = norm.weight / (norm.running_var + norm.eps).sqrt()
        weight, bias = plain.weight * gain[:, None, None, None], norm.bias - norm.running_mean * gain
        side, step = plain.kernel_size[0], plain.stride[0]
        pads = [side // 2] * 4
        y = g.op("Conv", x, half(weight), half(bias), kernel_shape=[side] * 2, strides=[step] * 2, pads=pads)
        return g.op("Relu", y) if isinstance(act, nn.ReLU) else y

    def gated(y: Any, block: Any) -> Any:
        z = g.op("GlobalAveragePool", y)
        z = g.op("Relu", g.op("Conv", z, half(block.squeeze.weight), half(block.squeeze.bias)))
        return g.op("Mul", y, g.op("Sigmoid", g.op("Conv", z, half(block.excite.weight), half(block.excite.bias))))

    gray, axes = g.input("gray", ("n", 1, SIDE, SIDE)), g.const([1, 2, 3])
    centred = g.op("Sub", gray, g.op("ReduceMean", gray, axes, keepdims=1))
    variance = g.op("ReduceMean", g.op("Mul", centred, centred), axes, keepdims=1)
    x = g.op("Div", centred, g.op("Sqrt", g.op("Add", variance, g.const(1e-4))))
    x = convolved(x, network.stem)
    for block in network.blocks:
        y = gated(convolved(convolved(x, block.first), block.second), block)
        if block.short is not None:
            pooled = g.op("AveragePool", x, kernel_shape=[2, 2], strides=[2, 2]) if block.first[0].stride[0] > 1 else x
            x = convolved(pooled, block.short)
        x = g.op("Relu", g.op("Add", y, x))
    flat = g.op("Flatten", g.op("GlobalAveragePool", x))
    weight, bias = network.head.weight / temperature, network.head.bias / temperature
    g.output(g.op("Gemm", flat, half(weight), half(bias), transB=1), "logits", ("n", len(CLASSES)))
    g.save(path)


def costs(network: Network) -> dict[str, float]:
    """Parameters and multiply-adds of the convolutions for one face, both in millions."""
    total = [0]

    def count(layer: Any, _: Any, given: torch.Tensor) -> None:
        total[0] += layer.weight.numel() * given.shape[2] * given.shape[3]

    hooks = [layer.register_forward_hook(count) for layer in network.modules() if isinstance(layer, nn.Conv2d)]
    answers(network, np.zeros((1, SIDE, SIDE), np.uint8))
    for hook in hooks:
        hook.remove()
    parameters = sum(p.numel() for p in network.parameters())
    return {"parameters_m": round(parameters / 1e6, 3), "multiply_adds_m": round(total[0] / 1e6, 1)}


def figures(logits: F32, label: I64) -> dict[str, Any]:
    """Accuracy, UAR and calibration error with 95 % intervals (bootstrap over faces), recall and confusion."""
    guess, sure = logits.argmax(axis=1), softmax(logits, axis=1).max(axis=1)

    def all_three(rows: Any) -> tuple[float, float, float]:
        right = guess[rows] == label[rows]
        return float(right.mean()), uar(label[rows], guess[rows]), calibration_error(right, sure[rows])

    random = np.random.default_rng(SEED)
    drawn = [all_three(random.integers(0, len(label), len(label))) for _ in range(1_000)]
    low_high = np.quantile(drawn, (0.025, 0.975), axis=0).T
    found: dict[str, Any] = {"n": len(label)}
    for name, value, limits in zip(("accuracy", "uar", "ece"), all_three(slice(None)), low_high, strict=True):
        found |= {name: round(value, 4), f"{name}_95": [round(float(limit), 4) for limit in limits]}
    confusion = np.zeros((len(CLASSES), len(CLASSES)), int)
    np.add.at(confusion, (label, guess), 1)
    rows = list(zip(CLASSES, confusion, strict=True))
    found["recall"] = {c: round(float(row[i] / row.sum()), 3) for i, (c, row) in enumerate(rows)}
    found["confusion"] = {c: dict(zip(CLASSES, row.tolist(), strict=True)) for c, row in rows}
    return found


def measured(path: Path, faces: Faces, known: U8) -> dict[str, Any]:
    """Figures of the written file on `faces`, one thread; `known`: what it learnt from."""
    session = Runtime(["cpu"], threads=1).session(path)

    def logits(gray: U8) -> F32:
        parts = np.array_split(gray[:, None].astype(np.float32) / 255, 16)
        return np.concatenate([session.run({"gray": np.ascontiguousarray(part)})["logits"] for part in parts])

    def face_ms(batch: int) -> float:
        gray, taken_s = np.zeros((batch, 1, SIDE, SIDE), np.float32), []
        for _ in range(100):
            started_s = time.perf_counter()
            session.run({"gray": gray})
            taken_s.append(time.perf_counter() - started_s)
        return round(float(np.median(taken_s)) / batch * 1e3, 3)

    straight = logits(faces.gray)
    both = np.asarray((straight + logits(faces.gray[:, :, ::-1])) / 2, np.float32)
    new = ~seen_in(faces.gray, known)
    return {
        "size_mb": round(path.stat().st_size / 1e6, 2),
        "face_ms": {f"batch {n}": face_ms(n) for n in (1, 8)},
        "validation": figures(straight, faces.label),
        "validation_with_flip": figures(both, faces.label),
        "validation_without_repeats": figures(straight[new], faces.label[new]),
        "validation_without_repeats_with_flip": figures(both[new], faces.label[new]),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description="Trains the expression network on FER2013.")
    parser.add_argument("--data", type=Path, required=True, metavar="DIR")
    parser.add_argument("--out", type=Path, required=True, metavar="FILE")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there")
    parser.add_argument("--threads", type=int, default=2, metavar="N")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    cv2.setNumThreads(1)
    learnt = load(args.data, "train")
    rows, held_rows = split_off(learnt, HELD_OUT)
    faces, held = (Faces(learnt.gray[part], learnt.label[part]) for part in (rows, held_rows))
    network = train(faces, held, args.out.with_suffix(".pt"))
    logits = answers(network, held.gray)
    temperature = fit_temperature(logits, held.label)
    save(args.out, network, temperature)
    found = {
        "versions": {name: version(name) for name in ("torch", "onnxruntime", "numpy", "opencv-python-headless")},
        "epochs": EPOCHS,
        "learnt_from": len(rows),
        "held_out": figures(np.asarray(logits / temperature, np.float32), held.label),
        "temperature": round(temperature, 3),
        **costs(network),
        **measured(args.out, load(args.data, "validation"), learnt.gray),
    }
    if args.json:
        args.json.write_text(json.dumps({"benchmark": "expression", **found}, indent=1) + "\n")
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
