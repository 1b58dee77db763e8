"""Faces: expression accuracy, detection, and the whole path from picture to answer, beside what others would use.

    python -m benchmarks.face --data DIR [--clips DIR] [--json FILE]
    python -m benchmarks.face --stream [--clips DIR] [--json FILE]

DIR holds labels.csv (path, label, and maybe split, of which `validation` or `test` is scored) and gray or colour faces,
or a faces.zip of the same. `--clips` holds labels.csv (path, label of face, no_face, face_then_no_face,
no_face_then_face) and video files, for detection and for the whole path. Peers run in the same run where they are
installed: the `fer` package and DeepFace, each with its own detector and its own network, and its network alone on the
same faces. Everything runs on one thread of one core. Where DeepFace's weights cannot be had, its network runs with
random ones, for its speed only. `--stream` measures only what a live H.264 stream costs: a clip as 640×480, 15 frames a
second, all decoded, and five a second looked at.
"""

import argparse
import csv
import io
import os
import sys
import time
import zipfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import partial
from importlib import import_module
from itertools import groupby
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final
from unittest.mock import patch

import av
import cv2
import numpy as np
import numpy.typing as npt

from affectline.models.registry import all_models
from affectline.models.runtime import Runtime
from affectline.models.signals import F32, U8, EncodedFrame, VideoFrame
from affectline.models.training.voice import calibration_error, uar
from affectline.pipelines.face import FaceStream
from affectline.pipelines.video import StreamDecoder
from benchmarks.common import arguments, bootstrap, pulled, report
from benchmarks.peers_weights import random_deepface

CLASSES: Final = ("anger", "disgust", "fear", "happiness", "sadness", "surprise", "neutral")
"""Of FER2013, in the order of the networks' columns."""
ALSO: Final = {
    "angry": "anger", "happy": "happiness", "sad": "sadness", "ang": "anger", "dis": "disgust", "fea": "fear",
    "hap": "happiness", "sur": "surprise", "neu": "neutral", "disgusted": "disgust", "fearful": "fear",
    "surprised": "surprise",
}  # fmt: skip
EVERY_US: Final = 200_000
clock_s: Final = time.process_time
"""Of the processor, so that other work on the machine does not count: on one core, what an idle machine takes."""
ONE_THREAD: Final = dict.fromkeys(("OMP_NUM_THREADS", "TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS"), "1")
Answer = Callable[[Sequence[U8]], F32]
"""Gray faces [side, side] -> probabilities [n, 7] in the order of CLASSES."""


@dataclass(frozen=True, slots=True)
class Faces:
    gray: tuple[U8, ...]
    label: npt.NDArray[np.int64]


def load_faces(data: Path, limit: int | None) -> Faces:
    """Exits with a sentence when there is nothing to score."""
    packed = data / "faces.zip"
    archive = zipfile.ZipFile(packed) if packed.is_file() else None

    def read(name: str) -> bytes:
        return archive.read(name) if archive else (data / name).read_bytes()

    try:
        rows = list(csv.DictReader(io.StringIO(read("labels.csv").decode("utf-8"))))
    except (OSError, KeyError):
        sys.exit(f"expected labels.csv (path,label) or faces.zip in {data}, found none: give a folder with --data DIR")
    parts = {row.get("split", "") for row in rows}
    part = next((name for name in ("test", "validation", "valid", "val") if name in parts), None)
    rows = [row for row in rows if part is None or row["split"] == part]
    known = [(row["path"], ALSO.get(row["label"], row["label"])) for row in rows]
    known = [(path, label) for path, label in known if label in CLASSES]
    if not known:
        sys.exit(f"expected labels of {', '.join(CLASSES)}; found {', '.join(sorted({r['label'] for r in rows})[:9])}")
    if limit is not None:
        known = [known[i] for i in np.random.default_rng(7).permutation(len(known))[:limit]]
    pictures = tuple(_gray(read(path)) for path, _ in known)
    return Faces(pictures, np.array([CLASSES.index(label) for _, label in known]))


def _gray(data: bytes) -> U8:
    found = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_GRAYSCALE)
    assert found is not None, "a picture that does not decode"
    return np.asarray(found, np.uint8)


def ours(name: str) -> Answer:
    model = pulled(name, Runtime(threads=1))

    def answer(faces: Sequence[U8]) -> F32:
        finest = min(len(face) for face in faces)
        how = cv2.INTER_AREA if model.side < finest else cv2.INTER_LINEAR
        resized = [cv2.resize(face, (model.side, model.side), interpolation=how) for face in faces]
        return np.asarray(model.estimate(np.stack(resized)[..., None].repeat(3, axis=-1)).probabilities, np.float32)

    return answer


def score(faces: Faces, answer: Answer) -> dict[str, Any]:
    """Accuracy, UAR, calibration error with intervals, recall per class, and milliseconds per face."""
    probabilities = np.concatenate([answer(faces.gray[i : i + 64]) for i in range(0, len(faces.gray), 64)])
    guess = probabilities.argmax(axis=1)
    pairs = np.stack((faces.label, guess), axis=1)
    low, high = bootstrap(lambda p: float((p[:, 0] == p[:, 1]).mean()), pairs, [str(i) for i in range(len(pairs))])
    return {
        "n": len(guess),
        "accuracy": round(float((guess == faces.label).mean()), 4),
        "accuracy_95": [round(low, 4), round(high, 4)],
        "uar": round(uar(faces.label, guess), 4),
        "ece": round(calibration_error(guess == faces.label, probabilities.max(axis=1)), 4),
        "recall": {
            name: round(float((guess[faces.label == i] == i).mean()), 3)
            for i, name in enumerate(CLASSES)
            if (faces.label == i).any()
        },
        "ms_per_face": ms_per_face(faces, answer),
    }


def ms_per_face(faces: Faces, answer: Answer) -> float:
    """From a gray face to its probabilities, one at a time; the median of 200."""
    took = []
    for face in faces.gray[:200]:
        started_s = clock_s()
        answer([face])
        took.append(clock_s() - started_s)
    return round(1e3 * float(np.median(took)), 2)


def pictures(path: Path, every_us: int = EVERY_US) -> Iterator[VideoFrame]:
    next_us = 0
    with av.open(str(path)) as container:
        for frame in container.decode(video=0):
            at_us = round((frame.time or 0) * 1e6)
            if at_us >= next_us:
                next_us = at_us + every_us
                yield VideoFrame("front", np.asarray(frame.to_ndarray(format="rgb24"), np.uint8), at_us)


def watch(clips: Path, expression: str) -> dict[str, Any]:
    """Whether face and absence come as labelled, and what a picture costs from pixels to answer, on one thread."""
    runtime = Runtime(threads=1)
    detector, network = pulled("centerface", runtime), pulled(expression, runtime)
    with (clips / "labels.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    right, detect_ms, whole_ms, seen, shown = {}, [], [], 0, 0
    for row in rows:
        stream, states = FaceStream(detector, network), []
        for picture in pictures(clips / row["path"]):
            small = np.asarray(cv2.resize(picture.rgb, (640, 480), interpolation=cv2.INTER_AREA), np.uint8)
            started_s = clock_s()
            found = detector.detect(small)
            detect_ms.append(1e3 * (clock_s() - started_s))
            if row["label"] == "face":
                shown += 1
                seen += bool(found)
            started_s = clock_s()
            look = stream.feed(picture)
            whole_ms.append(1e3 * (clock_s() - started_s))
            if look is not None and "a face that only just came" not in look.flaws:
                states.append("face" if look.face is not None else "no_face")
        steady = [name for name, run in groupby(states) if len(list(run)) > 1]
        right[row["path"]] = "_then_".join(name for name, _ in groupby(steady)) == row["label"]
    return {
        "clips": len(rows),
        "switching_right": sum(right.values()),
        "wrong": [path for path, ok in right.items() if not ok],
        "detection_recall": round(seen / max(1, shown), 4),
        "detect_640x480_ms": round(float(np.median(detect_ms)), 1),
        "whole_ms": round(float(np.median(whole_ms)), 1),
        "pictures_per_second": round(1e3 / float(np.median(whole_ms)), 1),
    }


@dataclass(frozen=True, slots=True)
class Peer:
    """What another package does."""

    whole: Callable[[U8], Any]
    """RGB picture -> answer, with its own detector."""
    answer: Answer
    """Its expression step alone, called as the package itself calls it."""
    weights: bool = True
    """Whether its weights are here."""


def peers() -> Iterator[tuple[str, Peer]]:
    """Those that are installed, each to be measured before the next one is asked for.

    DeepFace has one engine at a time, and comes first: it chooses TensorFlow's Keras for the process.
    """
    makers: dict[str, Callable[[], Peer]] = {
        "DeepFace (TensorFlow)": partial(_deepface, "tensorflow"),
        "DeepFace (onnxruntime)": partial(_deepface, "onnx"),
        "fer": _fer,
        "fer (Keras)": partial(_fer, use_tflite=False),
    }
    for name, make in makers.items():
        try:
            peer = make()
        except Exception as error:  # a peer may fail in any way it likes
            print(f"{name}: not run ({type(error).__name__}: {error})")
        else:
            yield name, peer


def _fer(*, use_tflite: bool = True) -> Peer:
    """By default it runs a quantised copy of its network; before 2025 there was only the one for Keras."""
    package = import_module("fer.fer").FER(mtcnn=False, use_tflite=use_tflite)

    def answer(faces: Sequence[U8]) -> F32:
        resized = np.array([cv2.resize(face, (64, 64)) for face in faces], np.float32)
        return np.asarray(package._classify_emotions((resized / 255.0 - 0.5) * 2.0), np.float32)

    return Peer(lambda rgb: package.detect_emotions(np.ascontiguousarray(rgb[..., ::-1])), answer)


def _deepface(engine: str) -> Peer:
    package = import_module("deepface.DeepFace")
    package.backend_utils._backend_engine = engine
    if "facial_attribute" in (cached := getattr(package.modeling, "cached_models", {})):
        cached["facial_attribute"].clear()
    build = partial(package.build_model, task="facial_attribute", model_name="Emotion")
    weights = True
    try:
        build()
    except ValueError as error:
        print(f"DeepFace: random weights, for speed only ({error})")
        weights = False
        with (
            TemporaryDirectory() as folder,
            patch.multiple(
                "deepface.commons.weight_utils",
                download_weights_if_necessary=lambda **_: str(random_deepface(Path(folder))),
                load_model_weights=lambda model, **_: model,
            ),
        ):
            build()

    def analyze(rgb: U8, **chosen: Any) -> list[dict[str, Any]]:
        bgr = np.ascontiguousarray(rgb[..., ::-1])
        found: list[dict[str, Any]] = package.analyze(bgr, actions=["emotion"], silent=True, **chosen)
        return found

    def answer(faces: Sequence[U8]) -> F32:
        found = [analyze(np.stack((face, face, face), axis=-1), detector_backend="skip")[0] for face in faces]
        names = ("angry", "disgust", "fear", "happy", "sad", "surprise", "neutral")
        return np.array([[result["emotion"][name] / 100 for name in names] for result in found], np.float32)

    return Peer(lambda rgb: analyze(rgb, enforce_detection=False), answer, weights)


def measure_peers(faces: Faces, clips: Path) -> dict[str, Any]:
    """Each peer's expression step on the same faces, and its whole path over the pictures of the clips with a face."""
    results: dict[str, Any] = {}
    for name, peer in peers():
        try:
            found = score(faces, peer.answer) if peer.weights else {"ms_per_face": ms_per_face(faces, peer.answer)}
            results[name] = {"weights": peer.weights, "expression": found}
            took = []
            for row in csv.DictReader((clips / "labels.csv").open(newline="", encoding="utf-8")):
                for picture in pictures(clips / row["path"]) if row["label"] == "face" else ():
                    started_s = clock_s()
                    peer.whole(picture.rgb)
                    took.append(1e3 * (clock_s() - started_s))
            results[name] |= {"whole_ms": round(float(np.median(took)), 1), "pictures": len(took)}
        except Exception as error:
            print(f"{name}: stopped ({type(error).__name__}: {error})")
    return results


def h264(clip: Path, rate: int = 15) -> list[EncodedFrame]:
    """The clip as H.264 without reordering, padded to 640×480, a key frame every two seconds."""
    context = av.CodecContext.create("libx264", "w")
    assert isinstance(context, av.VideoCodecContext)
    context.width, context.height, context.pix_fmt = 640, 480, "yuv420p"
    context.time_base, context.framerate, context.gop_size = Fraction(1, rate), Fraction(rate), 2 * rate
    context.options = {"tune": "zerolatency"}
    packets = []
    for number, picture in enumerate(pictures(clip, 1_000_000 // rate)):
        height, width = picture.rgb.shape[:2]
        scale = min(640 / width, 480 / height)
        small = cv2.resize(picture.rgb, (round(width * scale), round(height * scale)), interpolation=cv2.INTER_AREA)
        canvas = np.zeros((480, 640, 3), np.uint8)
        canvas[: small.shape[0], : small.shape[1]] = small
        frame = av.VideoFrame.from_ndarray(canvas)
        frame.pts, frame.time_base = number, Fraction(1, rate)
        packets += context.encode(frame)
    packets += context.encode(None)
    return [EncodedFrame("front", bytes(p), (p.pts or 0) * 1_000_000 // rate) for p in packets]


def stream_cost(clips: Path) -> dict[str, Any]:
    """Milliseconds of the processor to decode a frame, and to decode and look at a second of the call."""
    rows = list(csv.DictReader((clips / "labels.csv").open(newline="", encoding="utf-8")))
    clip = max((row for row in rows if row["label"] == "face"), key=lambda row: int(row["frames"]))
    frames = h264(clips / clip["path"])
    runtime = Runtime(threads=1)
    stream = FaceStream(pulled("centerface", runtime), pulled("mini-xception", runtime))
    decoder, follower = StreamDecoder("h264"), StreamDecoder("h264")
    decode_ms, looked = [], 0
    for frame in frames:
        started_s = time.process_time()
        follower.decode(replace(frame, use="follow"))
        decode_ms.append(1e3 * (time.process_time() - started_s))
    started_s = time.process_time()
    for frame in frames:
        picture = decoder.decode(frame)
        if picture is not None:
            stream.feed(picture)
            looked += 1
    seconds = len(frames) / 15
    return {
        "clip": clip["path"],
        "frames": len(frames),
        "kbit_per_s": round(sum(len(frame.image) for frame in frames) * 8 / 1e3 / seconds),
        "decode_ms": round(float(np.median(decode_ms)), 2),
        "looked_at_per_s": round(looked / seconds, 1),
        "ms_per_second": round(1e3 * (time.process_time() - started_s) / seconds, 1),
    }


def main() -> None:
    parser: argparse.ArgumentParser = arguments("Faces: expression, detection, and the whole path.")
    parser.set_defaults(data=Path("../shared/data/fer2013"))
    parser.add_argument("--clips", type=Path, metavar="DIR", default=Path("../shared/data/face_video_clips"))
    parser.add_argument("--stream", action="store_true", help="measure only a live H.264 stream")
    args = parser.parse_args()
    os.environ |= ONE_THREAD
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    cv2.setNumThreads(1)
    if args.stream:
        cost = stream_cost(args.clips)
        report("face", {"data": {"name": args.clips.name}, "stream": cost}, cost, args.json)
        return
    faces = load_faces(args.data, args.limit)
    names = [name for name, spec in all_models().items() if spec.task == "expression" and not spec.extra]
    results: dict[str, Any] = {"expression": {name: score(faces, ours(name)) for name in names}}
    best = max(names, key=lambda name: results["expression"][name]["accuracy"])
    if (args.clips / "labels.csv").is_file():
        results["path"] = {"expression": best, **watch(args.clips, best)}
        results["peers"] = measure_peers(faces, args.clips)
    for name, values in results.items():
        print(f"{name}: {values}", flush=True)
    headline = {key: results["expression"][best][key] for key in ("accuracy", "uar", "ece", "n", "ms_per_face")}
    headline |= {key: value for key, value in results.get("path", {}).items() if isinstance(value, int | float)}
    report("face", {"data": {"name": args.data.name}, "best": best, **results}, headline, args.json)


if __name__ == "__main__":
    main()
