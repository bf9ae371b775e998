"""Which products join and leave the open sockets, as frames. Pure.

They are merged as long as nobody has taken them: the venue counts messages, not products.
"""

from __future__ import annotations

from streams.venues.coinbase import urls


class Subscriptions:
    """Products that the next frames ask for, and those that they give up."""

    def __init__(self) -> None:
        self._joining: dict[str, None] = {}
        self._leaving: dict[str, None] = {}

    def join(self, product: str) -> None:
        """Carry one more."""
        self._joining[product] = None

    def leave(self, product: str) -> None:
        """Carry one less."""
        if product in self._joining:
            del self._joining[product]
        else:
            self._leaving[product] = None

    def forget(self, product: str = "") -> None:
        """This one, or whatever there is, is neither to be asked for nor given up any more."""
        for owed in (self._joining, self._leaving):
            if product:
                owed.pop(product, None)
            else:
                owed.clear()

    def frames(self) -> list[str]:
        """What is owed to every open socket, each frame once."""
        leaving, self._leaving = [*self._leaving], {}
        joining, self._joining = [*self._joining], {}
        frames: list[str] = []
        for channel in urls.CHANNELS:
            frames += urls.request("unsubscribe", channel, leaving) if leaving else []
        for channel in urls.CHANNELS:
            frames += urls.request("subscribe", channel, joining) if joining else []
        return frames
