"""What a call asks before it does heavy work: when there is a place for it, and whether there is time for it at all."""

from contextlib import AbstractContextManager, nullcontext
from typing import Final, Literal, Protocol

Reading = Literal["final", "partial"]
"""What takes turns: an utterance's final results, and the partial ones before."""
Work = Literal["final", "partial", "translation", "picture"]
"""An utterance's final results, the partial ones before, their translation to English, the look at a picture."""


class Pace(Protocol):
    """Shared by the calls that run at a time; called from their threads."""

    def turn(self, work: Reading) -> AbstractContextManager[None]:
        """Waits for a place; heavy work is done within."""
        ...

    def affords(self, work: Work) -> bool:
        """Whether there is time now for work that a call can do without; `final` always."""
        ...

    def left_out(self, work: Work) -> None:
        """For want of time, work was not done."""
        ...


class Unhurried:
    """One call has the machine for itself."""

    def turn(self, work: Reading) -> AbstractContextManager[None]:
        return nullcontext()

    def affords(self, work: Work) -> bool:
        return True

    def left_out(self, work: Work) -> None:
        pass


UNHURRIED: Final[Pace] = Unhurried()
