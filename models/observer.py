"""What a model, or what runs it, tells of its work; who listens is decided above."""

from typing import Final, Protocol


class Observer(Protocol):
    """Called from any thread, and quick. Names are the program's own words, never a caller's."""

    def skipped(self, work: str, count: int = 1) -> None:
        """So much work of a kind was left out for want of time."""
        ...

    def waited(self, work: str, seconds: float, left: int) -> None:
        """A piece of work of a kind got its turn after so long; `left` pieces of any kind still wait for theirs."""
        ...


class Unobserved:
    """Nobody listens."""

    def skipped(self, work: str, count: int = 1) -> None:
        pass

    def waited(self, work: str, seconds: float, left: int) -> None:
        pass


UNOBSERVED: Final[Observer] = Unobserved()
