"""Who may see what: users with roles, sign-in, sessions in a signed cookie, and proof that a form is ours."""

import asyncio
import base64
import hmac
import re
import secrets
from collections import OrderedDict, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from hashlib import scrypt, sha256
from pathlib import Path
from time import monotonic, time
from typing import Final, Literal, get_args

from itsdangerous import BadSignature, URLSafeTimedSerializer
from pydantic import Field, field_validator
from pydantic_core import PydanticCustomError
from starlette.requests import Request

from affectline.models.errors import AffectlineError, InvalidInputError
from affectline.pipelines.checked_yaml import Strict, read_checked

Role = Literal["supervisor", "analyst", "agent"]
Right = Literal["live", "calls", "media", "insights", "correct", "policies", "trust"]

ROLES: Final[tuple[Role, ...]] = get_args(Role)
RIGHTS: Final[dict[Role, frozenset[Right]]] = {
    "supervisor": frozenset(get_args(Right)),
    "analyst": frozenset(("calls", "insights", "correct")),
    "agent": frozenset(),
}
"""An agent sees the live view of a call whose link they were given, and nothing else."""
SESSION_S: Final = 12 * 3600
LINK_S: Final = 12 * 3600
"""So long the link to a live call works."""
COOKIE: Final = "affectline_session"
TRIES: Final = 5
"""Wrong passwords for one name from one address …"""
TRIES_OF_ADDRESS: Final = 30
"""… and for all names from one address …"""
TRIES_S: Final = 300.0
"""… in so many seconds; then nobody gets in that way until some of them are older."""
MAX_REMEMBERED: Final = 10_000
SCRYPT: Final = {"n": 2**14, "r": 8, "p": 1}
NAME: Final = re.compile(r"[\w.@+-]{1,64}")
_HASH: Final = re.compile(r"scrypt:[A-Za-z0-9+/=]+:[A-Za-z0-9+/=]+")


class AccessError(AffectlineError):
    """Who asks may not have this. `status` is that of HTTP."""

    def __init__(self, status: int, message: str, retry_after_s: int | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.retry_after_s = retry_after_s


@dataclass(frozen=True, slots=True)
class User:
    name: str
    role: Role
    session: str = ""
    """Of this sign-in."""

    def may(self, right: Right) -> bool:
        return right in RIGHTS[self.role]


class _Known(Strict):
    role: Role
    password: str


class _Users(Strict):
    users: dict[str, _Known] = Field(min_length=1)

    @field_validator("users")
    @classmethod
    def _named(cls, users: dict[str, _Known]) -> dict[str, _Known]:
        if not all(map(NAME.fullmatch, users)):
            expected = "expected names of letters, digits and . @ + - _, at most 64 characters, found another one"
            raise PydanticCustomError("name", expected)
        return users


def read_users(path: Path) -> dict[str, "_Known"]:
    """Name -> role and password. Raises InvalidInputError, which never shows a password."""
    users = read_checked(path, _Users, "users").users
    for name, user in users.items():
        if not _HASH.fullmatch(user.password):
            expected = "expected a password as `affectline web add-user` writes it, found something else"
            raise InvalidInputError(f"{path.name}: {name}: {expected}")
    return users


def hashed(password: str) -> str:
    """A password as it stands in the file of users."""
    salt = secrets.token_bytes(16)
    return f"scrypt:{base64.b64encode(salt).decode()}:{base64.b64encode(_derived(password, salt)).decode()}"


def _derived(password: str, salt: bytes) -> bytes:
    return scrypt(password.encode(), salt=salt, dklen=32, **SCRYPT)


def _fits(password: str, stored: str) -> bool:
    _, salt, digest = stored.split(":")
    return hmac.compare_digest(_derived(password, base64.b64decode(salt)), base64.b64decode(digest))


_NOBODY: Final = hashed(secrets.token_hex())
"""Compared with when there is no such user, so that both answers take as long."""


@dataclass(slots=True)
class _Tries:
    """When wrong passwords came, by name and address; the ones not seen for longest are forgotten."""

    clock: Callable[[], float]
    _seen: OrderedDict[tuple[str, ...], deque[float]] = field(default_factory=OrderedDict)

    def wait_s(self, key: tuple[str, ...], most: int) -> float:
        """How long until another try is allowed."""
        seen = self._seen.get(key, deque())
        while seen and self.clock() - seen[0] > TRIES_S:
            seen.popleft()
        return TRIES_S - (self.clock() - seen[-most]) if len(seen) >= most else 0.0

    def add(self, key: tuple[str, ...]) -> None:
        self._seen.setdefault(key, deque(maxlen=TRIES_OF_ADDRESS)).append(self.clock())
        self._seen.move_to_end(key)
        while len(self._seen) > MAX_REMEMBERED:
            self._seen.popitem(last=False)

    def take_back(self, key: tuple[str, ...]) -> None:
        if seen := self._seen.get(key):
            seen.pop()

    def forget(self, key: tuple[str, ...]) -> None:
        self._seen.pop(key, None)


class Access:
    """Sign-in and what follows from it."""

    def __init__(
        self,
        users: Path | None,
        secret: str | None,
        *,
        secure: bool,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        """`users`: file of users; None: whoever comes is a supervisor. `secret`: signs cookies; without one they end
        with the server. `secure`: cookies go over TLS only. Raises InvalidInputError for a file that is not sound.
        """
        self._users = read_users(users) if users else None
        self.secure = secure
        key = secret or secrets.token_hex(32)
        self._sessions = URLSafeTimedSerializer(key, salt="affectline session")
        self._links = URLSafeTimedSerializer(key, salt="affectline live call")
        self._forms = sha256(f"affectline forms {key}".encode()).digest()
        self._tries = _Tries(clock)
        self._signed_out: dict[str, float] = {}
        self._hashing = asyncio.Semaphore(2)
        self._anybody = User("everyone", "supervisor", secrets.token_hex(8))

    @property
    def open(self) -> bool:
        """Nobody needs to sign in."""
        return self._users is None

    @property
    def people(self) -> list[tuple[str, Role]]:
        """Who may sign in, and as what."""
        return [(name, known.role) for name, known in (self._users or {}).items()]

    async def sign_in(self, name: str, password: str, address: str) -> str:
        """The value of the session's cookie. Raises AccessError."""
        both, alone = (name[:64], address), (address,)
        if wait_s := max(self._tries.wait_s(both, TRIES), self._tries.wait_s(alone, TRIES_OF_ADDRESS)):
            minutes = -(-round(wait_s) // 60)
            raise AccessError(429, f"Too many wrong tries. Wait {minutes} min, then try again.", round(wait_s) + 1)
        self._tries.add(both)  # before it is known whether it is wrong: many at once are many
        self._tries.add(alone)
        known = (self._users or {}).get(name)
        async with self._hashing:
            right = await asyncio.to_thread(_fits, password[:1024], known.password if known else _NOBODY)
        if known is None or not right:
            raise AccessError(401, "Name and password do not fit together.")
        self._tries.forget(both)
        self._tries.take_back(alone)
        return self._sessions.dumps([name, _mark(known), secrets.token_hex(8)])

    def user(self, request: Request) -> User | None:
        """Who asks; None without a valid session."""
        if self._users is None:
            return self._anybody
        try:
            name, mark, session = self._sessions.loads(request.cookies.get(COOKIE, ""), max_age=SESSION_S)
        except (BadSignature, ValueError, TypeError):
            return None
        known = self._users.get(name)
        if known is None or mark != _mark(known) or session in self._signed_out:
            return None
        return User(name, known.role, session)

    def sign_out(self, user: User) -> None:
        """Ends this session, in every copy of its cookie."""
        self._signed_out[user.session] = time()
        for session, at in list(self._signed_out.items()):
            if time() - at > SESSION_S:
                del self._signed_out[session]

    def form_token(self, user: User) -> str:
        return hmac.new(self._forms, user.session.encode(), "sha256").hexdigest()

    def check_form(self, request: Request, user: User | None, token: str) -> None:
        """Raises AccessError for a form that another site's page may have sent."""
        site, origin = request.headers.get("sec-fetch-site"), request.headers.get("origin")
        foreign = site not in (None, "same-origin", "none") or (
            origin is not None and origin.partition("://")[2] != request.headers.get("host")
        )
        if foreign or (user and not hmac.compare_digest(self.form_token(user), token)):
            raise AccessError(403, "This form is out of date or came from elsewhere. Load the page again and repeat.")

    def link_key(self, call_id: str) -> str:
        """Opens the live view of one call to an agent who is signed in, for LINK_S."""
        return self._links.dumps(call_id)

    def link_opens(self, key: str, call_id: str) -> bool:
        try:
            return bool(self._links.loads(key, max_age=LINK_S) == call_id)
        except BadSignature:
            return False


def _mark(known: _Known) -> str:
    """Changes with the password and the role, which ends sessions."""
    return sha256(f"{known.password} {known.role}".encode()).hexdigest()[:16]
