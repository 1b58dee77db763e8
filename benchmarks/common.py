"""What the benchmarks share: their arguments, their data, the machine they ran on, and how results are written."""

import argparse
import csv
import json
import os
import platform
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from affectline.models.ports import RATE_HZ
from affectline.models.registry import all_models, load_model
from affectline.models.runtime import Runtime
from affectline.models.signals import F32
from affectline.models.store import Store, default_root
from affectline.pipelines.media import open_recording
from affectline.pipelines.resample import Resampler

SEED = 7
PACKAGES = (
    "presidio-analyzer",
    "onnxruntime",
    "numpy",
    "scipy",
    "scikit-learn",
    "librosa",
    "praat-parselmouth",
    "faster-whisper",
    "ctranslate2",
    "openai-whisper",
    "torch",
    "tensorflow",
    "fer",
    "deepface",
)


@dataclass(frozen=True, slots=True)
class Clip:
    path: Path
    label: str
    speaker: str
    row: Mapping[str, str]
    """The whole line of labels.csv."""


def arguments(summary: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=summary)
    parser.add_argument(
        "--data",
        type=Path,
        metavar="DIR",
        default=Path("../shared/data/ravdess_speech"),
        help="folder with labels.csv (path,label,speaker,…); %(default)s when absent",
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the results there")
    parser.add_argument("--limit", type=int, metavar="N", help="use N clips, drawn with a fixed seed")
    return parser


def load_clips(data: Path, limit: int | None = None) -> list[Clip]:
    """The clips of DIR/labels.csv, or `limit` of them in a seeded order. Exits with a sentence when there are none."""
    labels = data / "labels.csv"
    if not labels.is_file():
        sys.exit(f"expected labels.csv (path,label,speaker,…) in {data}, found none: give a folder with --data DIR")
    with labels.open(newline="") as file:
        rows = list(csv.DictReader(file))
    missing = {"path", "label", "speaker"} - set(rows[0] if rows else ())
    if missing:
        sys.exit(f"{labels}: expected the columns path, label and speaker; found no {', '.join(sorted(missing))}")
    clips = [Clip(data / row["path"], row["label"], row["speaker"], row) for row in rows]
    if limit is None or limit >= len(clips):
        return clips
    return [clips[i] for i in np.random.default_rng(SEED).permutation(len(clips))[:limit]]


def read_sound(path: Path) -> tuple[F32, int]:
    """(samples [channels, n], rate_hz) of a recording."""
    recording = open_recording(path)
    parts: list[list[F32]] = [[] for _ in range(recording.channels)]
    for chunk in recording.chunks():
        parts[chunk.channel].append(chunk.pcm)
    return np.stack([np.concatenate(part) for part in parts]), recording.rate_hz


def resampled(pcm: F32, rate_hz: int, to_hz: int = RATE_HZ) -> F32:
    resampler = Resampler(rate_hz, to_hz)
    return np.concatenate((resampler.feed(pcm), resampler.finish()))


def pulled(name: str, runtime: Runtime) -> Any:
    """A model of the zoo, fetched when it is not in the store yet."""
    spec, store = all_models()[name], Store(default_root())
    if spec.artifact:
        store.pull(spec.artifact)
    return load_model(spec, store, runtime)


def bootstrap(
    statistic: Callable[[npt.NDArray[Any]], float], values: npt.NDArray[Any], groups: Sequence[str]
) -> tuple[float, float]:
    """95 % interval of statistic(values): whole groups (speakers) are drawn again 2,000 times, seeded.

    values [n, …], groups [n]. Efron & Tibshirani 1993, percentile interval.
    """
    rng = np.random.default_rng(SEED)
    names = np.asarray(groups)
    rows = [np.flatnonzero(names == name) for name in sorted(set(groups))]
    drawn = [
        statistic(values[np.concatenate([rows[i] for i in rng.integers(len(rows), size=len(rows))])])
        for _ in range(2_000)
    ]
    low, high = np.quantile(drawn, (0.025, 0.975))
    return float(low), float(high)


def environment() -> dict[str, Any]:
    """The machine, the versions, and the command line."""
    return {
        "cpu": _cpu(),
        "cores": os.cpu_count(),
        "memory_gb": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "os": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "versions": {name: found for name in PACKAGES if (found := _version(name))},
        "revision": _revision(),
        "command": _command(),
    }


def report(name: str, results: Mapping[str, Any], headline: Mapping[str, Any], json_path: Path | None) -> None:
    """Prints the header and the RESULT line; writes all of it as JSON, whole or not at all."""
    document = {"benchmark": name, "environment": environment(), **results, "headline": dict(headline)}
    for key, value in document["environment"].items():
        print(f"{key}: {value}")
    if json_path:
        json_path.parent.mkdir(parents=True, exist_ok=True)
        part = json_path.with_name(json_path.name + ".part")
        part.write_text(json.dumps(document, indent=1) + "\n")
        part.replace(json_path)
    print("RESULT", *(f"{key}={value}" for key, value in headline.items()))


def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "unknown")


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _revision() -> str | None:
    """The commit of the code that ran; None outside a checkout."""
    git = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty"]
    try:
        return subprocess.run(git, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None


def _command() -> str:
    """As typed, with folders outside the project reduced to their names."""
    module = Path(sys.argv[0]).stem
    words = [Path(word).name if Path(word).is_absolute() else word for word in sys.argv[1:]]
    return " ".join(("python -m", f"benchmarks.{module}", *words))
