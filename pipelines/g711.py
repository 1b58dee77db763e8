"""G.711 companding (ITU-T Recommendation G.711, 1988): one byte per sample, as telephone lines carry it."""

from typing import Final

import numpy as np
import numpy.typing as npt

from affectline.models.signals import F32, U8

_FULL_SCALE = 32_768.0
_SEGMENT, _STEP = np.divmod(np.arange(128), 16)

# Magnitudes on the 16-bit scale, per code without its sign bit, in rising order:
# the output value, and the decision value from which the code is used.
_MULAW_LEVELS = ((2 * _STEP + 33) << (_SEGMENT + 2)) - 132
_MULAW_DECISIONS = np.maximum(((_STEP + 16) << (_SEGMENT + 3)) - 132, 0)
_ALAW_SHIFT = np.maximum(_SEGMENT - 1, 0)
_ALAW_STEP = _STEP + np.where(_SEGMENT > 0, 16, 0)
_ALAW_LEVELS = (16 * _ALAW_STEP + 8) << _ALAW_SHIFT
_ALAW_DECISIONS = (16 * _ALAW_STEP) << _ALAW_SHIFT

_RISING = np.concatenate((np.arange(127, -1, -1), np.arange(128, 256)))
"""Sign-and-magnitude codes (bit 7 set: positive) from the most negative value to the most positive."""


def _decode_table(levels: npt.NDArray[np.int64], flip: int) -> F32:
    codes = np.arange(256) ^ flip
    return np.asarray(np.where(codes & 0x80, 1, -1) * levels[codes & 0x7F] / _FULL_SCALE, np.float32)


def _thresholds(decisions: npt.NDArray[np.int64]) -> F32:
    return np.asarray(np.concatenate((-decisions[:0:-1], decisions)) / _FULL_SCALE, np.float32)


_MULAW_FLIP: Final = 0x7F
_ALAW_FLIP: Final = 0x55
_MULAW_TABLE = _decode_table(_MULAW_LEVELS, _MULAW_FLIP)
_ALAW_TABLE = _decode_table(_ALAW_LEVELS, _ALAW_FLIP)
_MULAW_THRESHOLDS = _thresholds(_MULAW_DECISIONS)
_ALAW_THRESHOLDS = _thresholds(_ALAW_DECISIONS)
_MULAW_CODES = (_RISING ^ _MULAW_FLIP).astype(np.uint8)
_ALAW_CODES = (_RISING ^ _ALAW_FLIP).astype(np.uint8)


def decode_mulaw(codes: U8) -> F32:
    """µ-law codes [n] -> samples [n] in (-1, 1); exactly the standard's 14-bit values over full scale."""
    return _MULAW_TABLE[codes]


def decode_alaw(codes: U8) -> F32:
    """A-law codes [n] -> samples [n] in (-1, 1); exactly the standard's 13-bit values over full scale."""
    return _ALAW_TABLE[codes]


def encode_mulaw(pcm: F32) -> U8:
    """Samples [n] in [-1, 1] -> µ-law codes [n]; louder samples clip to the outermost code."""
    return _MULAW_CODES[np.searchsorted(_MULAW_THRESHOLDS, pcm, side="right")]


def encode_alaw(pcm: F32) -> U8:
    """Samples [n] in [-1, 1] -> A-law codes [n]; louder samples clip to the outermost code."""
    return _ALAW_CODES[np.searchsorted(_ALAW_THRESHOLDS, pcm, side="right")]
