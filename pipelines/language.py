"""The language of a written turn; of speech, the recogniser tells it."""

from functools import cache

from py3langid.langid import MODEL_FILE, LanguageIdentifier

LANGUAGES = (  # noqa: SIM905
    "ar bg bn ca cs da de el en es et fa fi fr gu he hi hr hu id is it ja ka kn ko lt lv mk ml mr ms ne nl no pa pl pt "
    "ro ru sk sl sq sr sv sw ta te th tl tr uk ur vi zh"
).split()
"""Told apart; of more, short turns would be taken for rare ones."""
SURE = 0.8
"""Less sure than this, a writer goes on in the language used so far."""
ENOUGH_LETTERS = 12
"""Of a first turn: what is shorter says nothing for sure, and is taken as English."""
MAX_CHARACTERS = 2_000
"""As much of a text is looked at."""


@cache
def _identifier() -> LanguageIdentifier:
    identifier = LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)
    identifier.set_languages(LANGUAGES)
    return identifier


def written_language(text: str, usual: str | None = None) -> str:
    """ISO 639-1 code (Lui & Baldwin 2012, langid.py), or `usual` (`en` without one) where the text cannot tell."""
    found, belief = _identifier().classify(text[:MAX_CHARACTERS])
    letters = sum(char.isalpha() for char in text[:MAX_CHARACTERS])
    latin = sum("a" <= char <= "z" for char in text[:MAX_CHARACTERS].lower())
    if letters and 2 * latin < letters:
        return str(found)  # the script tells more than the length
    return str(found) if belief >= SURE and letters >= ENOUGH_LETTERS else usual or "en"
