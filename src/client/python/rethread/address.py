"""Addresses: ``host:port``, ``[ipv6]:port``, ``host`` (default port) and ``unix:/path``."""

from __future__ import annotations

from dataclasses import dataclass

PORT_DEFAULT = 7411


@dataclass(frozen=True)
class Address:
    """Either ``path`` is set (a unix socket) or ``host`` and ``port`` are."""

    host: str = ""
    port: int = 0
    path: str = ""


def parse(text: str) -> Address:
    """ValueError, naming the address, where it makes no sense."""
    if text.startswith("unix:"):
        path = text[len("unix:"):]
        if not path:
            raise ValueError("address 'unix:' lacks a path")
        return Address(path=path)
    if text.startswith("["):
        host, bracket, rest = text[1:].partition("]")
        if not bracket or (rest and not rest.startswith(":")):
            raise ValueError(f"address {text!r} is not [host]:port")
        port_text = rest[1:]
    elif text.count(":") > 1:
        raise ValueError(f"address {text!r}: write an IPv6 host in brackets")
    else:
        host, _, port_text = text.partition(":")
    port = PORT_DEFAULT
    if port_text:
        if not port_text.isascii() or not port_text.isdigit() or not 0 < int(port_text) < 65536:
            raise ValueError(f"address {text!r} has no sound port")
        port = int(port_text)
    if not host:
        raise ValueError(f"address {text!r} lacks a host")
    return Address(host=host, port=port)
