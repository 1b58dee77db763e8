"""Searches in plain words, and what they are taken for."""

import pytest

from affectline.server.web.plain_words import understood

pytestmark = pytest.mark.unit

KNOWN = {"queue": ("billing", "Claims"), "product": ("Mesh router", "claims")}


@pytest.mark.parametrize(
    ("text", "fields"),
    [
        ("frustrated for over 20 s about billing", {"label": "frustrated", "least": "20", "queue": "billing"}),
        ("Frustrated  at least 1.5 minutes", {"label": "frustrated", "least": "90"}),
        ("sounds angry ≥ 3 s in the closing", {"label": "angry", "least": "3", "stage": "closing"}),
        ("angry > 8 sec during stage problem", {"label": "angry", "least": "8", "stage": "problem"}),
        ("sad about MESH router", {"label": "sad", "product": "Mesh router"}),
        ("confused about claims", {"label": "confused", "queue": "Claims"}),
        ("anxious for 10s about my late parcel", {"label": "anxious", "least": "10", "q": "my late parcel"}),
    ],
)
def test_a_feeling_how_long_where_and_about_what(text: str, fields: dict[str, str]) -> None:
    found = understood(text, KNOWN)
    assert found is not None
    assert dict(found) == fields


@pytest.mark.parametrize(
    "text",
    [
        "",
        "angry",
        "angry customer",
        "billing",
        '"frustrated for over 20 s"',
        "20 s",
        "I am sad about it",
        "angry 5 sheep",
    ],
)
def test_all_else_is_words_that_were_said(text: str) -> None:
    assert understood(text, KNOWN) is None
