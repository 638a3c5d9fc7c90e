"""Which network addresses are the public internet's. Names are looked up elsewhere."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

Address = IPv4Address | IPv6Address

_GLOBAL_UNICAST_6 = IPv6Network("2000::/3")
_NAT64 = IPv6Network("64:ff9b::/96")
_SPECIAL_4 = (IPv4Network("192.0.0.0/24"), IPv4Network("192.88.99.0/24"))
_SPECIAL_6 = (IPv6Network("3fff::/20"),)
"""Special-purpose networks of IANA's registries that not every supported Python's `is_global` knows."""


def is_public(address: Address) -> bool:
    """Whether this is one host on the public internet. An IPv4 address wrapped in an IPv6 one decides for both."""
    if isinstance(address, IPv4Address):
        special = any(address in network for network in _SPECIAL_4)
        return address.is_global and not (address.is_multicast or address.is_reserved or special)
    wrapped = _wrapped(address)
    if wrapped is not None:
        return is_public(wrapped)
    special = any(address in network for network in _SPECIAL_6)
    return address.is_global and address in _GLOBAL_UNICAST_6 and not special


def _wrapped(address: IPv6Address) -> IPv4Address | None:
    """The IPv4 address that packets to this one end at: mapped, 6to4, or NAT64."""
    if address in _NAT64:
        return IPv4Address(int(address) & 0xFFFF_FFFF)
    return address.ipv4_mapped or address.sixtofour
