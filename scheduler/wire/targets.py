"""Where a webhook may go: its URL, and which addresses its host may turn out to have. Pure.

https, or http to this machine. Never to link-local addresses (169.254.0.0/16, fe80::/10) nor the others under which
clouds hand out credentials, whatever name they are hidden behind; addresses are judged when they are connected to.
Private networks are where receivers usually live: those are allowed.
"""

from __future__ import annotations

import ipaddress
import re
from urllib.parse import urlsplit

from msgspec import Struct

from scheduler.core.errors import InvalidArgument

URL_MAX = 2048
_METADATA = frozenset({"fd00:ec2::254", "100.100.100.200", "192.0.0.192", "168.63.129.16"})
_NAT64 = ipaddress.ip_network("64:ff9b::/96")
_HOST = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?\.?", re.ASCII)
_Address = ipaddress.IPv4Address | ipaddress.IPv6Address


class Target(Struct, frozen=True):
    """A checked URL. `path` has the query with it; `allow_http`, `allow_link_local`: see `scheduler.wire.webhooks`."""

    scheme: str
    host: str
    port: int
    path: str
    allow_http: bool = False
    allow_link_local: bool = False

    @property
    def is_tls(self) -> bool:
        return self.scheme == "https"

    @property
    def host_header(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == (443 if self.is_tls else 80) else f"{host}:{self.port}"

    def __repr__(self) -> str:
        return f"Target({self.scheme}, …)"  # the rest may be a secret

    def problem_with(self, address: str) -> str | None:
        """Why this address of the host must not be connected to, in a word; None if it may."""
        found = _unwrapped(address)
        if found is None or found.is_multicast or found.is_unspecified or str(found) == "255.255.255.255":
            return "address_refused"
        if not self.allow_link_local and (found.is_link_local or str(found) in _METADATA):
            return "address_refused"
        if not self.is_tls and not self.allow_http and not found.is_loopback:
            return "http_refused"
        return None


def read_target(url: str, *, field: str, allow_http: bool = False, allow_link_local: bool = False) -> Target:
    """Raises InvalidArgument, which does not show the URL."""
    try:
        found = urlsplit(url)
        port = found.port
    except ValueError:
        raise InvalidArgument(f"{field}: not a URL", field=field) from None
    if len(url) > URL_MAX or not url.isascii() or not url.isprintable() or " " in url:
        raise InvalidArgument(f"{field}: not a URL of at most {URL_MAX} ASCII characters", field=field)
    if found.scheme not in {"http", "https"} or not found.hostname or port == 0:
        raise InvalidArgument(f"{field}: write https://HOST[:PORT]/PATH", field=field)
    if found.username is not None or found.password is not None:
        raise InvalidArgument(f"{field}: no user and password in it; use headers", field=field)
    path = (found.path or "/") + (f"?{found.query}" if found.query else "")
    default = 443 if found.scheme == "https" else 80
    target = Target(found.scheme, found.hostname, port or default, path, allow_http, allow_link_local)
    _check_host(target, field)
    return target


def _check_host(target: Target, field: str) -> None:
    """What can be told without asking anybody where the host is."""
    problem = None
    if _unwrapped(target.host) is not None:
        problem = target.problem_with(target.host)
    elif not _HOST.fullmatch(target.host):
        raise InvalidArgument(f"{field}: no host in it", field=field)
    elif not target.is_tls and not target.allow_http and target.host != "localhost":
        problem = "http_refused"
    if problem == "http_refused":
        raise InvalidArgument(f"{field}: http to another machine needs allow_http: true; use https", field=field)
    if problem is not None:
        raise InvalidArgument(
            f"{field}: this address is refused (link-local ones need allow_link_local: true)", field=field
        )


def _unwrapped(text: str) -> _Address | None:
    """The address in a text, an IPv4 one that is dressed up as IPv6 undressed; None if it is none."""
    try:
        found = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return None
    if isinstance(found, ipaddress.IPv6Address):
        inner = found.ipv4_mapped or found.sixtofour
        if inner is None and found in _NAT64:
            inner = ipaddress.IPv4Address(int(found) & 0xFFFFFFFF)
        return inner or found
    return found
