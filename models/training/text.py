"""Fine-tunes MiniLM-L6 on GoEmotions (Demszky et al. 2020): low-rank adapter, head, calibration, thresholds, card.

    python -m affectline.models.training.text --data DIR

`--data` holds labels.csv (text, source_label as `class|class`, split of train, valid, test). Needs the extra `train`
and about 15 minutes on one core; seeded. The training part is learnt from, calibration and thresholds come from the
validation part as the int8 network answers it, and the test part is only measured on.
"""

import argparse
import math
import sys
import tarfile
import time
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import torch
from tokenizers import Tokenizer
from torch import nn
from transformers import AutoModel

from affectline.models.convert.minilm import LINEARS, convert
from affectline.models.labels import LABELS
from affectline.models.runtime import Runtime
from affectline.models.signals import F32
from affectline.models.store import Store, default_root
from affectline.models.training.comments import Comments, fit_calibration, load
from affectline.models.zoo.minilm import ADAPTER, ARTIFACT, CLASSES, MAX_TOKENS, MiniLmWords, readable

SEED: Final = 1
RANK: Final = 32
EPOCHS: Final = 3
BATCH: Final = 32
RATE: Final = 8e-4
HEAD_RATE: Final = 8e-3
WARM_UP: Final = 0.1
AVERAGING: Final = 0.998
"""Weights are averaged over the steps with this decay (Polyak & Juditsky 1992)."""


class LowRank(nn.Module):
    """A fixed matrix plus a learnt product of two thin ones (Hu et al. 2021)."""

    def __init__(self, fixed: nn.Linear) -> None:
        super().__init__()
        self.fixed = fixed.requires_grad_(False)
        self.fixed.bias.requires_grad_(True)
        self.down = nn.Parameter(torch.randn(RANK, fixed.in_features) / math.sqrt(fixed.in_features))
        self.up = nn.Parameter(torch.zeros(fixed.out_features, RANK))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fixed(x) + 2 * (x @ self.down.T @ self.up.T)


class Network(nn.Module):
    """MiniLM, mean over tokens, linear head."""

    def __init__(self, checkpoint: Path, base_rate: F32) -> None:
        super().__init__()
        self.encoder = AutoModel.from_pretrained(checkpoint, add_pooling_layer=False).requires_grad_(False)
        for name, part in self.encoder.named_modules():
            if isinstance(part, nn.LayerNorm):
                part.requires_grad_(True)
            for linear in LINEARS:
                if name.endswith(f".{linear}"):
                    owner, _, attribute = name.rpartition(".")
                    setattr(self.encoder.get_submodule(owner), attribute, LowRank(part))
        self.drop = nn.Dropout(0.1)
        self.head = nn.Linear(self.encoder.config.hidden_size, len(CLASSES))
        with torch.no_grad():
            self.head.weight.mul_(0.1)
            self.head.bias.copy_(torch.tensor(np.log(base_rate / (1 - base_rate))))

    def forward(self, tokens: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        hidden = self.encoder(input_ids=tokens, attention_mask=mask).last_hidden_state
        weight = mask[..., None].to(hidden.dtype)
        return self.head(self.drop((hidden * weight).sum(1) / weight.sum(1)))

    def adapter(self) -> dict[str, npt.NDArray[Any]]:
        """What was learnt, by the checkpoint's names; see convert.minilm.merged."""
        found = {"head.weight": self.head.weight, "head.bias": self.head.bias}
        for name, value in self.encoder.named_parameters():
            if name.endswith(".up"):
                found[name.replace(".up", ".weight.up")] = 2 * value
            elif name.endswith(".down"):
                found[name.replace(".down", ".weight.down")] = value
            elif value.requires_grad:
                found[name.replace(".fixed.", ".")] = value
        return {name: value.detach().numpy().astype(np.float16) for name, value in found.items()}


def batches(lengths: Sequence[int], random: np.random.Generator) -> Iterator[list[int]]:
    """Every row once in a random order, rows of like length together."""
    order, found = random.permutation(len(lengths)), []
    for start in range(0, len(order), 50 * BATCH):
        near = sorted(order[start : start + 50 * BATCH].tolist(), key=lambda row: lengths[row])
        found += [near[i : i + BATCH] for i in range(0, len(near), BATCH)]
    for number in random.permutation(len(found)):
        yield found[number]


def fine_tune(comments: Comments, checkpoint: Path) -> dict[str, npt.NDArray[Any]]:
    """The adapter after EPOCHS of binary cross-entropy over the classes."""
    torch.manual_seed(SEED)
    random = np.random.default_rng(SEED)
    tokenizer = Tokenizer.from_file(str(checkpoint / "tokenizer.json"))
    tokenizer.no_padding()
    rows = [tokenizer.encode(readable(text)).ids[:MAX_TOKENS] for text in comments.texts]
    lengths, target = [len(row) for row in rows], torch.tensor(comments.present)
    network = Network(checkpoint, comments.present.mean(axis=0)).train()
    head = list(network.head.parameters())
    rest = [p for p in network.encoder.parameters() if p.requires_grad]
    optimiser = torch.optim.AdamW(
        [{"params": rest, "lr": RATE}, {"params": head, "lr": HEAD_RATE}], betas=(0.9, 0.98), weight_decay=0.01
    )
    steps = EPOCHS * math.ceil(len(rows) / BATCH)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimiser, lambda step: min(1.0, step / (WARM_UP * steps)) * max(0.02, 1 - step / steps)
    )
    average = torch.optim.swa_utils.AveragedModel(
        network, multi_avg_fn=torch.optim.swa_utils.get_ema_multi_avg_fn(AVERAGING)
    )
    started_s, step, losses = time.monotonic(), 0, []
    for _ in range(EPOCHS):
        for batch in batches(lengths, random):
            tokens = torch.zeros(len(batch), max(lengths[i] for i in batch), dtype=torch.long)
            mask = torch.zeros_like(tokens)
            for place, i in enumerate(batch):
                tokens[place, : lengths[i]] = torch.tensor(rows[i])
                mask[place, : lengths[i]] = 1
            with torch.autocast("cpu", torch.bfloat16):
                logits = network(tokens, mask)
            loss = nn.functional.binary_cross_entropy_with_logits(logits.float(), target[batch]) * len(CLASSES)
            optimiser.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(head + rest, 1.0)
            optimiser.step()
            schedule.step()
            average.update_parameters(network)
            losses.append(loss.item())
            step += 1
            if step % 200 == 0:
                left_min = (time.monotonic() - started_s) / step * (steps - step) / 60
                print(f"step {step} of {steps}, loss {np.mean(losses[-200:]):.3f}, {left_min:.0f} min left", flush=True)
    averaged = average.module
    assert isinstance(averaged, Network)
    return averaged.adapter()


def main() -> None:
    parser = argparse.ArgumentParser(description="Fine-tunes the text model on GoEmotions.")
    parser.add_argument("--data", type=Path, required=True, metavar="DIR")
    parser.add_argument("--out", type=Path, default=ADAPTER, metavar="FILE", help="%(default)s when absent")
    args = parser.parse_args()
    if not (args.data / "labels.csv").is_file():
        sys.exit(f"expected labels.csv in {args.data}, found none")
    with TemporaryDirectory() as folder:
        raw, tuned = Path(folder) / "raw", Path(folder) / "tuned"
        tuned.mkdir()
        Store(default_root()).bundle([ARTIFACT], Path(folder) / "raw.tar")
        with tarfile.open(Path(folder) / "raw.tar") as tar:
            tar.extractall(raw, filter="data")
        checkpoint = raw / ARTIFACT.name
        part = args.out.with_suffix(".part.npz")
        _save(part, fine_tune(load(args.data, "train"), checkpoint))
        finish(part, args.out, checkpoint, tuned, load(args.data, "valid"))
        part.unlink()


def _save(path: Path, arrays: dict[str, npt.NDArray[Any]]) -> None:
    """One compressed .npz, the same bytes for the same arrays."""
    with zipfile.ZipFile(path, "w") as archive:
        for name, array in sorted(arrays.items()):
            entry = zipfile.ZipInfo(f"{name}.npy")
            entry.compress_type = zipfile.ZIP_DEFLATED
            with archive.open(entry, "w") as file:
                np.lib.format.write_array(file, np.asarray(array))


def finish(learnt: Path, out: Path, checkpoint: Path, folder: Path, valid: Comments) -> None:
    """Calibrates the int8 network made of an adapter on the validation part, and writes both to `out`."""
    ones = np.ones(len(CLASSES), np.float32)
    unset: dict[str, npt.NDArray[Any]] = {
        "slope": ones,
        "offset": 0 * ones,
        "thresholds": ones,
        "sharpness": ones[0:1].reshape(()),
        "prior": ones[: len(LABELS)],
    }
    with np.load(learnt) as stored:
        adapter = dict(stored)
    _save(folder / "uncalibrated.npz", {**adapter, **unset})
    convert(checkpoint, folder, adapter=folder / "uncalibrated.npz")
    model = MiniLmWords(folder, Runtime(threads=1))
    logits = np.stack([model.logits(text) for text in valid.texts])
    _save(out, {**adapter, **fit_calibration(logits, valid.present)})
    print(f"{out}: {out.stat().st_size / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
