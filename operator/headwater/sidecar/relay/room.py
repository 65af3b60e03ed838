"""What all held bodies together may take of a container's memory."""

from collections import deque
from collections.abc import Callable

Granted = Callable[[int], None]


class Room:
    """So many bytes, for which whoever finds too few left waits in line."""

    def __init__(self, size: int) -> None:
        self._size = self._left = size
        self._waiting: deque[tuple[int, Granted]] = deque()

    def take(self, size: int, then: Granted) -> int:
        """Take what a body of this size needs, and return it; else return 0, and call `then` later.

        What is larger than all of the room takes all of it.
        """
        size = min(size, self._size)
        if size <= self._left and not self._waiting:
            self._left -= size
            return size
        self._waiting.append((size, then))
        return 0

    def give(self, size: int) -> None:
        """Give back what was taken; it goes to those who waited the longest."""
        self._left += size
        while self._waiting and self._waiting[0][0] <= self._left:
            needed, then = self._waiting.popleft()
            self._left -= needed
            then(needed)

    def forget(self, then: Granted) -> None:
        """Let whoever asked so wait no longer."""
        self._waiting = deque(each for each in self._waiting if each[1] != then)
        self.give(0)  # the next one may fit
