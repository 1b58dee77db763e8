"""Labelled comments, what is fitted to a text model's answers to them, and how those are scored."""

import csv
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize, minimize_scalar

from affectline.models.signals import F32
from affectline.models.zoo.minilm import CLASSES, labels_of


@dataclass(frozen=True, slots=True)
class Comments:
    texts: tuple[str, ...]
    present: F32
    """[n, 28], 1 where the class was given."""


def load(data: Path, split: str) -> Comments:
    """One official part of the data."""
    with (data / "labels.csv").open(newline="", encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if row["split"] == split]
    given = [row["source_label"].split("|") for row in rows]
    present = np.array([[name in names for name in CLASSES] for names in given], np.float32)
    return Comments(tuple(row["text"] for row in rows), present)


def probabilities_of(logits: F32, slope: F32, offset: F32) -> F32:
    return np.asarray(1 / (1 + np.exp(-(logits * slope + offset))), np.float32)


def fit_calibration(logits: F32, present: F32) -> dict[str, npt.NDArray[Any]]:
    """Platt's slope and offset per class (Platt 1999), a sharpness for the labels, thresholds, and the mean answer."""
    fits = [_platt(column, truth) for column, truth in zip(logits.T, present.T, strict=True)]
    slope, offset = np.array(fits, np.float32).T
    found = probabilities_of(logits, slope, offset)
    mass = np.stack([labels_of(row) for row in found])
    truth = np.stack([labels_of(row) for row in present]).argmax(axis=1)

    def loss(sharpness: float) -> float:
        belief = mass**sharpness
        belief /= belief.sum(axis=1, keepdims=True)
        return float(-np.log(belief[np.arange(len(truth)), truth]).mean())

    sharpness = float(minimize_scalar(loss, bounds=(0.3, 5), method="bounded").x)
    belief = mass**sharpness
    prior = (belief / belief.sum(axis=1, keepdims=True)).mean(axis=0)
    return {
        "slope": slope,
        "offset": offset,
        "thresholds": best_thresholds(found, present),
        "sharpness": np.array(sharpness, np.float32),
        "prior": (prior / prior.sum()).astype(np.float32),
    }


def _platt(logits: F32, present: F32) -> tuple[float, float]:
    def loss(line: npt.NDArray[np.float64]) -> float:
        z = logits * line[0] + line[1]
        return float(np.mean(np.logaddexp(0, z) - present * z) + 1e-3 * (line[0] - 1) ** 2)

    slope, offset = minimize(loss, np.array([1.0, 0.0])).x
    return float(slope), float(offset)


def f1_scores(said: npt.NDArray[np.bool_], present: F32) -> F32:
    """Of each class; said, present [n, classes]."""
    right = (said & (present > 0)).sum(axis=0)
    return np.asarray(2 * right / np.maximum(said.sum(axis=0) + present.sum(axis=0), 1), np.float32)


def best_thresholds(found: F32, present: F32) -> F32:
    """Of each class, the one with the highest F1."""
    best, thresholds = np.full(len(CLASSES), -1.0), np.zeros(len(CLASSES), np.float32)
    for threshold in np.quantile(found, np.linspace(0.5, 0.9995, 400), axis=0):
        scores = f1_scores(found >= threshold, present)
        better = scores > best
        best[better], thresholds[better] = scores[better], threshold[better]
    return thresholds
