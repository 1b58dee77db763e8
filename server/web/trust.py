"""Consent, keeping, models and what is written down: facts for who has to vouch for them."""

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Final

import yaml
from sqlalchemy import case, func, select
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from affectline.models import cards
from affectline.server.store.calls import CallStore
from affectline.server.store.tables import (
    CALLS,
    CONSENTS,
    CORRECTIONS,
    FEEDBACK,
    MODELS,
    OUTCOMES,
    PARTICIPANTS,
)
from affectline.server.web.access import User
from affectline.server.web.site import Site, needs, render

CARDS: Final = Path(cards.__path__[0])


@dataclass(frozen=True, slots=True)
class ConsentCount:
    """Parties of one role in kept calls."""

    role: str
    granted: int
    pending: int
    denied: int
    biometric: int
    """With a recorded legal basis for the emotion of their voice and face."""
    pictures: int
    """Who agreed to pictures."""


@dataclass(frozen=True, slots=True)
class Kept:
    """What the store holds."""

    calls: int
    demo: int
    oldest: datetime | None
    newest: datetime | None
    with_customer: int
    consents: tuple[ConsentCount, ...]
    changes: int
    """Consents that were said."""
    written: tuple[tuple[str, int], ...]
    """What is only ever added to -> rows."""
    models: tuple[tuple[str, str, int], ...]
    """Task, `name@version` and the calls it worked on."""


async def _trust(request: Request, site: Site, user: User) -> Response:
    kept = await site.run(_facts, site.store) if site.store else None
    known = await site.run(_cards)
    return render(
        request,
        "trust.html",
        kept=kept,
        cards=known,
        hashes=site.store is not None and site.store.hashes_customers,
        media=site.config.web_media is not None,
        keeps_sound=site.config.keep_recordings,
        people=site.access.people,
        config=site.config,
    )


def _facts(store: CallStore) -> Kept:
    def count(*conditions: Any) -> Any:
        """Rows for which all hold."""
        combined = conditions[0]
        for each in conditions[1:]:
            combined &= each
        return func.coalesce(func.sum(case((combined, 1), else_=0)), 0)

    party = PARTICIPANTS.c
    by_role = (
        select(
            party.role,
            count(party.consent == "granted"),
            count(party.consent == "pending"),
            count(party.consent == "denied"),
            count(party.biometric_basis.is_not(None)),
            count(party.pictures_agreed.is_(True)),
        )
        .group_by(party.role)
        .order_by(party.role)
    )
    by_model = (
        select(MODELS.c.task, MODELS.c.model, func.count())
        .group_by(MODELS.c.task, MODELS.c.model)
        .order_by(MODELS.c.task, MODELS.c.model)
    )
    whole = select(
        func.count(),
        count(CALLS.c.demo.is_(True)),
        func.min(CALLS.c.began),
        func.max(CALLS.c.began),
        func.count(CALLS.c.customer),
    ).select_from(CALLS)
    with store.database.reading() as connection:
        calls, demo, oldest, newest, with_customer = connection.execute(whole).one()
        consents = tuple(ConsentCount(*map(_plain, row)) for row in connection.execute(by_role))
        models = tuple((row[0], row[1], row[2]) for row in connection.execute(by_model))
        rows = {
            table.name: connection.scalar(select(func.count()).select_from(table)) or 0
            for table in (CONSENTS, OUTCOMES, FEEDBACK, CORRECTIONS)
        }
    written = (
        ("outcomes of calls", rows["outcomes"]),
        ("feedback on suggestions", rows["feedback"]),
        ("corrections of labels", rows["corrections"]),
    )
    return Kept(calls, int(demo), oldest, newest, with_customer, consents, rows["consents"], written, models)


def _plain(value: Any) -> Any:
    return value if isinstance(value, str) else int(value)


def _cards() -> list[dict[str, Any]]:
    """The models' cards by name."""
    found = [yaml.safe_load(path.read_text(encoding="utf-8")) for path in CARDS.glob("*.yaml")]
    return sorted(found, key=lambda card: str(card["name"]))


ROUTES: Final = (Route("/trust", needs("trust", _trust)),)
