"""Addresses to listen on, as people write them: `:8080`, `127.0.0.1:0`, `[::1]:9000`, `off`.

A `?` behind the port makes it a wish: where it is taken, any free one will do (`127.0.0.1:8080?`).
"""

from __future__ import annotations

import ipaddress
import re

from msgspec import Struct

from scheduler.core.errors import InvalidArgument

OFF = "off"
_ADDRESS = re.compile(
    r"(?:\[(?P<six>[0-9A-Fa-f:.%]{2,64})\]|(?P<host>[A-Za-z0-9._-]{0,253})):(?P<port>[0-9]{1,5})(?P<wish>\??)", re.ASCII
)


class Address(Struct, frozen=True):
    """Where to listen. An empty host means every interface; port 0 lets the system pick one.

    `or_any`: the port is a wish, and any free one will do.
    """

    host: str
    port: int
    or_any: bool = False

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}{'?' if self.or_any else ''}"

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine can reach it; a name other than localhost is not trusted to stay here."""
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return self.host == "localhost"


def parse_address(text: str, *, field: str) -> Address | None:
    """The address, or None for `off`. Raises InvalidArgument that names `field`."""
    if text == OFF:
        return None
    match = _ADDRESS.fullmatch(text)
    six = match["six"] if match else None
    if match is None or int(match["port"]) > 65535 or (six is not None and not _is_ipv6(six)):
        rule = "write HOST:PORT, :PORT, [IPV6]:PORT or off, with a port from 0 (any free one) to 65535"
        raise InvalidArgument(f"{text!r:.80} is not an address: {rule}", field=field)
    return Address(six or match["host"] or "", int(match["port"]), bool(match["wish"]))


def _is_ipv6(text: str) -> bool:
    try:
        return ipaddress.ip_address(text).version == 6
    except ValueError:
        return False
