"""Who may see which web page, and what a stranger's page cannot do."""

import base64
import gzip
import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from affectline.models.errors import InvalidInputError
from affectline.pipelines.outcomes import CallDetails
from affectline.server.cli import app as cli
from affectline.server.config import ServerConfig, load_config
from affectline.server.store.calls import CallStore
from affectline.server.web.access import TRIES, TRIES_S, Access, AccessError, hashed, read_users

from .sample_timeline import sample_timeline
from .web_server import Pages, serving

pytestmark = pytest.mark.integration

PASSWORD = "quite a long one"
SECRET = "0123456789abcdef0123456789abcdef"
PEOPLE = {"sue": "supervisor", "ann": "analyst", "lee": "analyst", "gus": "agent"}
PAGES = ("/live", "/live/events", "/calls", "/calls/one", "/insights", "/insights/read", "/policies", "/trust")


@pytest.fixture(scope="module")
def users(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("users") / "users.yaml"
    lines = [f"  {name}: {{role: {role}, password: '{hashed(PASSWORD)}'}}\n" for name, role in PEOPLE.items()]
    file.write_text("users:\n" + "".join(lines))
    return file


@pytest.fixture(scope="module")
def pages(users: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pages]:
    folder = tmp_path_factory.mktemp("store")
    media = folder / "media"
    media.mkdir()
    (media / "one.wav").write_bytes(b"RIFF")
    (folder / "secret.wav").write_bytes(b"RIFF")
    place = folder / "calls.db"
    store = CallStore(str(place))
    store.add(CallDetails("one"), sample_timeline())
    store.close()
    config = ServerConfig(
        listen="127.0.0.1:0",
        web_address="127.0.0.1:0",
        web_users=users,
        web_secret=SECRET,  # type: ignore[arg-type]
        web_media=media,
        store=str(place),
    )
    with serving(config) as found:
        yield found


@pytest.fixture
def stranger(pages: Pages) -> Pages:
    return Pages(pages.port, pages.server, pages.loop)


def test_a_stranger_is_sent_to_sign_in_and_back_again(stranger: Pages) -> None:
    answer = stranger.ask("/calls?q=cancel")
    assert answer.status == 303
    assert answer.headers["location"] == "/sign-in?next=%2Fcalls%3Fq%3Dcancel"
    form = {"name": "sue", "password": PASSWORD, "next": "/calls?q=cancel"}
    assert stranger.ask("/sign-in", form).headers["location"] == "/calls?q=cancel"
    assert stranger.ask("/calls?q=cancel").status == 200


@pytest.mark.parametrize("path", [*PAGES, "/calls/one/timeline.json", "/calls/one/audio", "/calls/one/export/json"])
def test_without_a_session_nothing_is_told(stranger: Pages, path: str) -> None:
    assert stranger.ask(path, headers={"accept": "*/*"}).status == 401
    forged = {"cookie": "affectline_session=WyJzdWUiLCJ4IiwieSJd.aaaa.bbbb", "accept": "*/*"}
    assert stranger.ask(path, headers=forged).status == 401


@pytest.mark.parametrize("target", ["//evil.example", "https://evil.example", "/\\evil.example", "javascript:alert(1)"])
def test_signing_in_leads_nowhere_else(stranger: Pages, target: str) -> None:
    answer = stranger.ask("/sign-in", {"name": "sue", "password": PASSWORD, "next": target})
    assert answer.headers["location"] == "/"


@pytest.mark.parametrize(
    ("name", "allowed"),
    [("sue", set(PAGES)), ("ann", {"/calls", "/calls/one", "/insights", "/insights/read"}), ("gus", set())],
)
def test_each_role_sees_its_pages(pages: Pages, name: str, allowed: set[str]) -> None:
    person = pages.as_(name, PASSWORD)
    for path in PAGES:
        if path == "/live/events" and path in allowed:
            continue  # never ends
        assert person.ask(path).status == (200 if path in allowed else 403), path
    home = person.ask("/")
    links = set(re.findall(r'<a href="(/\w+)"', person.ask(home.headers["location"]).text))
    assert {"/live", "/calls", "/insights", "/policies", "/trust"} & links == allowed & {
        f"/{p.split('/')[1]}" for p in PAGES
    }


def test_sound_and_pictures_are_for_supervisors(pages: Pages) -> None:
    supervisor, analyst = pages.as_("sue", PASSWORD), pages.as_("ann", PASSWORD)
    for path in ("/calls/one/timeline.json", "/calls/one/export/json"):
        assert len(supervisor.ask(path).json["snapshots"]) == 1
        assert analyst.ask(path).json["snapshots"] == []
    packed = re.search(r'id="call">([^<]+)<', analyst.ask("/calls/one/export/html").text)
    assert packed is not None
    assert json.loads(gzip.decompress(base64.b64decode(packed[1])))["snapshots"] == []
    assert analyst.ask("/calls/one/audio").status == 403
    assert analyst.ask("/calls/one/export/page-with-sound").status == 403
    assert "/calls/one/audio" in supervisor.ask("/calls/one").text
    assert "/calls/one/audio" not in analyst.ask("/calls/one").text


def test_an_agent_opens_one_running_call_by_its_link(pages: Pages) -> None:
    agent, supervisor = pages.as_("gus", PASSWORD), pages.as_("sue", PASSWORD)
    hub, participants = pages.server.hub, sample_timeline().participants
    calls = [hub.call(each, CallDetails(each), participants) for each in ("first", "second")]
    for call in calls:
        pages.call(call.__enter__)
    key = re.search(r'data-key="([^"]+)"', supervisor.ask("/live/first").text)
    assert key is not None
    assert agent.ask(f"/live/first?key={key[1]}").status == 200
    assert "Copy the agent" not in agent.ask(f"/live/first?key={key[1]}").text
    for path in ("/live/first", f"/live/second?key={key[1]}", "/live/first?key=x", f"/live/second/events?key={key[1]}"):
        assert agent.ask(path).status == 403
    assert pages.as_("ann", PASSWORD).ask("/live/first").status == 403
    assert Pages(pages.port, pages.server, pages.loop).ask(f"/live/first?key={key[1]}").status == 303
    for call in calls:
        pages.call(lambda call=call: call.__exit__(None, None, None))
    assert agent.ask(f"/live/first?key={key[1]}").status == 404


def test_a_wrong_password_is_refused_and_soon_every_one(stranger: Pages) -> None:
    for _ in range(TRIES):
        answer = stranger.sign_in("lee", "wrong")
        assert answer.status == 401
        assert "do not fit together" in answer.text
    late = stranger.sign_in("lee", PASSWORD)
    assert late.status == 429
    assert 0 < int(late.headers["retry-after"]) <= TRIES_S + 1
    assert "Wait 5 min" in late.text
    assert stranger.sign_in("nobody", "wrong").status == 401
    assert stranger.sign_in("sue", PASSWORD).status == 303


async def test_tries_are_counted_before_they_are_checked_and_forgotten_in_time(users: Path) -> None:
    now = 0.0
    access = Access(users, SECRET, secure=True, clock=lambda: now)
    for _ in range(TRIES):
        with pytest.raises(AccessError, match="do not fit"):
            await access.sign_in("gus", "wrong", "192.0.2.1")
    with pytest.raises(AccessError, match="Too many"):
        await access.sign_in("gus", PASSWORD, "192.0.2.1")
    assert await access.sign_in("gus", PASSWORD, "192.0.2.2")
    now = TRIES_S + 1
    assert await access.sign_in("gus", PASSWORD, "192.0.2.1")


def test_forms_need_their_token_and_our_own_page(pages: Pages) -> None:
    person = pages.as_("ann", PASSWORD)
    page = person.ask("/calls/one").text
    token = re.search(r'name="form-token" content="(\w+)"', page)
    assert token is not None
    moment = person.ask("/calls/one/timeline.json").json["moments"][1]["id"]
    form = {"moment": moment, "label": "sad"}
    right = {**form, "form_token": token[1]}
    assert person.ask("/calls/one/labels", form).status == 403
    assert person.ask("/calls/one/labels", {**form, "form_token": "0" * 64}).status == 403
    for foreign in ({"origin": "https://evil.example"}, {"origin": "null"}, {"sec-fetch-site": "cross-site"}):
        assert person.ask("/calls/one/labels", right, foreign).status == 403
    other = pages.as_("ann", PASSWORD)  # the token is of one session
    assert other.ask("/calls/one/labels", right).status == 403
    assert person.ask("/calls/one/labels", right, {"content-type": "text/plain"}).status == 415
    assert person.ask("/calls/one/labels", right, {"origin": person.address}).json["label"] == "sad"
    assert person.ask("/calls/one/labels", {**right, "label": "lying"}).status == 400
    assert person.ask("/calls/one/labels", {**right, "moment": "none"}).status == 404
    assert person.ask("/calls/one/labels", {**right, "note": "x" * 600_000}).status == 413
    assert (
        person.ask("/sign-in", {"name": "sue", "password": PASSWORD}, {"origin": "https://evil.example"}).status == 403
    )


def test_signing_out_ends_the_session_in_every_copy(pages: Pages) -> None:
    person = pages.as_("sue", PASSWORD)
    kept = person.cookie
    token = re.search(r'name="form_token" value="(\w+)"', person.ask("/trust").text)
    assert token is not None
    assert person.ask("/sign-out", {}).status == 403
    assert person.ask("/sign-out", {"form_token": token[1]}).status == 303
    person.cookie = kept
    assert person.ask("/trust").status == 303


async def test_another_password_or_role_ends_sessions(users: Path, tmp_path: Path) -> None:
    class Asked:
        def __init__(self, cookie: str) -> None:
            self.cookies = {"affectline_session": cookie}

    cookie = await Access(users, SECRET, secure=True).sign_in("ann", PASSWORD, "192.0.2.9")
    user = Access(users, SECRET, secure=True).user(Asked(cookie))  # type: ignore[arg-type]
    assert user is not None
    assert user.role == "analyst"
    file = tmp_path / "users.yaml"
    file.write_text(users.read_text().replace("analyst", "supervisor"))
    assert Access(file, SECRET, secure=True).user(Asked(cookie)) is None  # type: ignore[arg-type]
    assert Access(users, SECRET[::-1], secure=True).user(Asked(cookie)) is None  # type: ignore[arg-type]


def test_the_cookie_is_for_this_site_alone(stranger: Pages) -> None:
    cookie = stranger.sign_in("sue", PASSWORD).headers["set-cookie"].lower()
    assert "httponly" in cookie
    assert "samesite=lax" in cookie


@pytest.mark.parametrize(
    "path", ["/sign-in", "/calls", "/calls/one", "/insights", "/policies", "/trust", "/live", "/nope"]
)
def test_every_page_keeps_the_browser_strict(pages: Pages, path: str) -> None:
    answer = pages.as_("sue", PASSWORD).ask(path) if path != "/sign-in" else pages.ask(path)
    policy = answer.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert "frame-ancestors 'none'" in policy
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["cache-control"] == "no-store"
    assert " style=" not in answer.text
    assert not re.search(r"\son\w+=", answer.text)
    for script in re.findall(r"<script[^>]*>", answer.text):
        assert "src=" in script or 'type="application/json"' in script


@pytest.mark.parametrize(
    "path",
    [
        "/assets/000000000000/site.css",
        "/assets/x/../../../pyproject.toml",
        "/assets/x/access.py",
        "/calls/..%2Fsecret/audio",
        "/calls/..%2f..%2fetc%2fpasswd",
        "/calls/none",
        "/calls/one/export/exe",
    ],
)
def test_what_is_not_there_is_not_found(pages: Pages, path: str) -> None:
    answer = pages.as_("sue", PASSWORD).ask(path)
    assert answer.status == 404
    assert "There is no such" in answer.text


@pytest.mark.parametrize(
    "query",
    ["from=yesterday", "label=lying", "least=x&label=sad", "order=best", "outcome=good", "page=x", "from=0001-01-01"],
)
def test_an_address_that_cannot_be_read_says_what_was_expected(pages: Pages, query: str) -> None:
    answer = pages.as_("sue", PASSWORD).ask(f"/calls?{query}")
    assert answer.status == 400
    assert "expected" in answer.text


def test_open_pages_answer_under_loopback_names_only(tmp_path: Path) -> None:
    config = ServerConfig(listen="127.0.0.1:0", web_address="127.0.0.1:0", web_open=True)
    with serving(config) as pages:
        assert pages.ask("/trust").status == 200
        for host in ("evil.example", f"evil.example:{pages.port}", "127.0.0.1.evil.example", ""):
            assert pages.ask("/trust", headers={"host": host}).status == 421
        assert pages.ask("/trust", headers={"host": f"localhost:{pages.port}"}).status == 200
        assert pages.ask("/policies/preview", {"pack": "x"}, {"origin": "https://evil.example"}).status == 403
        assert "Calls are not kept" in pages.ask("/calls").text


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"web_address": "127.0.0.1:0"}, "expected web_users, or web_open"),
        ({"web_address": "0.0.0.0:8080", "web_open": True}, "expected a loopback web_address"),
        ({"web_address": "8080"}, "expected HOST:PORT"),
        ({"web_address": "127.0.0.1:0", "web_secret": "short"}, "web_secret"),
        ({"web_users": "/none"}, "expected a file"),
    ],
)
def test_settings_that_would_leave_a_door_open_are_refused(
    settings: dict[str, object], expected: str, tmp_path: Path
) -> None:
    import yaml

    file = tmp_path / "settings.yaml"
    file.write_text(yaml.safe_dump(settings))
    with pytest.raises(InvalidInputError, match=expected):
        load_config(file, {})


def test_a_plain_password_in_the_file_is_refused_and_not_shown(tmp_path: Path) -> None:
    file = tmp_path / "users.yaml"
    file.write_text("users:\n  eve: {role: agent, password: hunter2}\n")
    with pytest.raises(InvalidInputError, match="eve: expected a password") as raised:
        read_users(file)
    assert "hunter2" not in str(raised.value)


def test_users_are_added_on_the_command_line(tmp_path: Path) -> None:
    from typer.testing import CliRunner

    file = tmp_path / "users.yaml"
    run = CliRunner().invoke
    added = run(cli, ["web", "add-user", "eva", "--role", "analyst", "--file", str(file), "--generate"])
    assert added.exit_code == 0, added.output
    password = added.output.split()[-1]
    typed = run(
        cli, ["web", "add-user", "bo", "--role", "agent", "--file", str(file)], input=f"{PASSWORD}\n{PASSWORD}\n"
    )
    assert typed.exit_code == 0, typed.output
    assert {name: user.role for name, user in read_users(file).items()} == {"eva": "analyst", "bo": "agent"}
    assert password not in file.read_text()
    assert file.stat().st_mode & 0o077 == 0
    for wrong in (["eva", "--role", "king"], ["e v", "--role", "agent"]):
        assert run(cli, ["web", "add-user", *wrong, "--file", str(file), "--generate"]).exit_code == 1
    short = run(cli, ["web", "add-user", "al", "--role", "agent", "--file", str(file)], input="short\nshort\n")
    assert short.exit_code == 1
