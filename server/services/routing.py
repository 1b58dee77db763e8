"""Where a call might go: one question, one answer, nothing kept."""

from collections.abc import Sequence
from dataclasses import replace
from uuid import uuid4

from affectline.models.signals import TextEvent
from affectline.pipelines.chat import ChatConfig
from affectline.pipelines.routing import DEFAULT_ROUTING, load_routing, recommend
from affectline.pipelines.timeline import CallTimeline, Participant
from affectline.protos.v1 import routing_pb2
from affectline.protos.v1.routing_pb2_grpc import RoutingServiceServicer
from affectline.server import wire
from affectline.server.config import ServerConfig
from affectline.server.services.sessions import Context, Opener, Sessions, statuses

CALLER = Participant("customer", "customer", 0, "granted")


class RoutingService(RoutingServiceServicer):
    """Raises InvalidInputError when the site's file is not sound."""

    def __init__(self, sessions: Sessions, config: ServerConfig) -> None:
        self._sessions = sessions
        self._config = load_routing(config.routing or DEFAULT_ROUTING)

    async def Recommend(self, request: routing_pb2.RecommendRequest, context: Context) -> routing_pb2.RecommendResponse:
        async with statuses(context, f"recommendation {uuid4().hex[:12]}"):
            asked, said, language = await self._sessions.run(wire.read_recommend_request, request)
            if said:
                menu = await self._sessions.run(understand_menu, self._sessions.opener, said, language)
                asked = replace(asked, ivr=menu)
            answer = await self._sessions.run(recommend, self._config, asked)
        return wire.recommendation(answer)


def understand_menu(opener: Opener, said: Sequence[str], language: str | None) -> CallTimeline:
    """What a consenting customer said to the voice menu, as a written conversation."""
    chat = opener.open_chat(ChatConfig("voice menu", (CALLER,), language))
    for number, text in enumerate(said):
        chat.push(TextEvent(CALLER.id, text, number * 1_000_000))
    return chat.finish()
