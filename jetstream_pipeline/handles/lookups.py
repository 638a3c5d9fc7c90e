"""DNS, with a deadline: texts and addresses of a name. What they are good for is not judged here."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Any

import dns.asyncresolver
import dns.exception
import dns.name
import dns.nameserver
import dns.rdatatype
import dns.resolver

from jetstream_pipeline.handles.addresses import Address
from jetstream_pipeline.handles.endpoints import parse_server
from jetstream_pipeline.handles.errors import NotThere, Unreachable


@dataclass(frozen=True)
class Lookups:
    """Asks one DNS server, `HOST[:PORT]`, or the system's. It does not read this machine's own list of hosts."""

    server: str | None
    deadline_sec: float

    async def texts(self, name: str) -> list[bytes]:
        """The texts of a name; none where the name does not exist."""
        return [b"".join(record.strings) for record in await self._records(name, dns.rdatatype.TXT)]

    async def addresses(self, host: str) -> list[Address]:
        """All addresses of a host, IPv4 first: IPv6 is what a network more often lacks."""
        kinds = (dns.rdatatype.A, dns.rdatatype.AAAA)
        answers = await asyncio.gather(*(self._records(host, kind) for kind in kinds))
        found = [ip_address(record.address) for answer in answers for record in answer]
        if not found:
            raise NotThere(f"no host {host}")
        return found

    async def _records(self, name: str, kind: dns.rdatatype.RdataType) -> list[Any]:
        try:
            async with asyncio.timeout(self.deadline_sec):
                resolver = await self._resolver()
                answer = await resolver.resolve(f"{name}.", kind, lifetime=self.deadline_sec, search=False)
        except (dns.resolver.NXDOMAIN, dns.resolver.NoAnswer):
            return []
        except (dns.name.NameTooLong, dns.name.LabelTooLong):
            raise NotThere("the name is too long for DNS") from None
        except dns.resolver.NoResolverConfiguration:
            raise Unreachable("this system names no DNS server, set JETSTREAM_DNS_SERVER") from None
        except (dns.exception.Timeout, TimeoutError):
            raise Unreachable(f"DNS did not answer within {self.deadline_sec:g} s") from None
        except (dns.exception.DNSException, OSError):
            raise Unreachable(f"DNS failed for {name}") from None
        return list(answer)

    async def _resolver(self) -> dns.asyncresolver.Resolver:
        if self.server is None:
            return dns.asyncresolver.Resolver()
        host, port = parse_server(self.server)
        found = await asyncio.get_running_loop().getaddrinfo(host, port)
        resolver = dns.asyncresolver.Resolver(configure=False)
        resolver.nameservers = [dns.nameserver.Do53Nameserver(str(found[0][4][0]), port)]
        return resolver
