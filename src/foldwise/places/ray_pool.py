"""A stream of things worked on by actors of a Ray that each hold something large, its order kept.

In: what makes the large thing (a run's models) on whichever machine, and the stream. Out: the
answers, in the stream's order. No more is under way than `_AHEAD` for each actor, so memory is
bounded on all sides. What an actor that is lost had in hand is done again by a new one. Ray Data
isn't used: it reads the table itself, in blocks of its own cut, while a row's last digits hang on
the rows it is padded with; and it knows nothing of the parts that an interrupted call has done.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from foldwise.errors import FoldwiseError, RunInterrupted
from foldwise.places.on_ray import RayPlace, first_line
from foldwise.places.place import THREADS
from foldwise.places.ray_node import Holder, Make
from foldwise.places.work import LOSSES

_AHEAD = 2  # one that is worked on, and the next
_WAIT_S = 1.0


@dataclass(eq=False)
class _Held:
    """An actor, and what it has in hand."""

    actor: Any
    ready: Any
    sound: bool = False
    pieces: list[_Piece] = field(default_factory=list)


@dataclass(eq=False)
class _Piece:
    """A thing of the stream, on its way."""

    item: Any
    at: _Held
    answer: Any
    tries: int = 0


class Pool:
    """Actors that hold the same.

    Args:
        place: the machines.
        make: makes on each what it holds, and says what that is.
        tell: takes a line about an actor that is lost.
    """

    def __init__(self, place: RayPlace, make: Make, tell: Callable[[str], None]) -> None:
        import ray

        self.place, self.make, self.tell = place, make, tell
        self._ray: Any = ray
        self._holder = place.actor(Holder)
        self._actors = [self._begin() for _ in range(place.room)]
        try:
            self.identity: Mapping[str, Any] = self._wait(self._actors[0].ready)
        except ray.exceptions.RayActorError as error:
            raise RunInterrupted(f"a process was lost: {first_line(error)}") from error

    def __call__(self, items: Iterable[Any]) -> Iterator[Any]:
        """Yield the answer to each thing, in their order.

        Raises:
            FoldwiseError: of one that is wrong, or a machine on which something else is held.
            RunInterrupted: one kills what works on it time and again.
        """
        left, pieces = iter(items), deque[_Piece]()
        more = True
        while True:
            while more and len(pieces) < _AHEAD * len(self._actors):
                try:
                    item = next(left)
                except StopIteration:
                    more = False
                    break
                pieces.append(self._give(item))
            if not pieces:
                return
            answer = self._answer(pieces[0])
            piece = pieces.popleft()
            piece.at.pieces.remove(piece)
            yield answer

    def _begin(self) -> _Held:
        settings = dict.fromkeys(THREADS, str(self.place.threads))
        actor = self._holder.remote(self.place.wanted, settings)
        return _Held(actor, actor.hold.remote(self.make))

    def _give(self, item: Any) -> _Piece:
        held = min(self._actors, key=lambda each: len(each.pieces))
        piece = _Piece(item, held, held.actor.work.remote(item))
        held.pieces.append(piece)
        return piece

    def _answer(self, piece: _Piece) -> Any:
        while True:
            held = piece.at
            try:
                if not held.sound:
                    if self._wait(held.ready) != self.identity:
                        raise FoldwiseError("the machines of the Ray hold different models")
                    held.sound = True
                return self._wait(piece.answer)
            except self._ray.exceptions.RayActorError as error:
                piece.tries += 1
                if piece.tries > LOSSES:
                    raise RunInterrupted(
                        f"a process was lost {piece.tries} times at the same rows: "
                        f"{first_line(error)}"
                    ) from error
                self.tell(f"lost: {first_line(error)}; its rows are labelled again")
                self._replace(held)

    def _replace(self, lost: _Held) -> None:
        self._ray.kill(lost.actor)
        new = self._begin()
        self._actors[self._actors.index(lost)] = new
        for piece in lost.pieces:
            piece.at, piece.answer = new, new.actor.work.remote(piece.item)
        new.pieces = lost.pieces

    def _wait(self, answer: Any) -> Any:
        began = time.monotonic()
        while not self._ray.wait([answer], timeout=_WAIT_S)[0]:
            self.place.check_room(began)
        try:
            return self._ray.get(answer)
        except self._ray.exceptions.RayTaskError as error:
            if isinstance(error.cause, FoldwiseError | RunInterrupted):
                raise error.cause from None
            raise
