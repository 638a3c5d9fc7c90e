"""A DNS server on loopback that answers from a table."""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import dns.flags
import dns.message
import dns.rcode
import dns.rdatatype
import dns.rrset


class Names:
    """`records` holds, for a name and a type, the answers to give one after the other; the last one from then on."""

    def __init__(self, server: str) -> None:
        self.server = server
        self.records: dict[tuple[str, str], list[list[str]]] = {}
        self.questions: list[tuple[str, str]] = []
        self.silent = False

    def text(self, name: str, *texts: str) -> None:
        self.records[name, "TXT"] = [[f'"{text}"' for text in texts]]

    def host(self, name: str, *addresses: str) -> None:
        """All of a host's addresses, told in every answer."""
        self.then(name, *addresses)

    def then(self, name: str, *addresses: str) -> None:
        """Another answer for a host, after those that it has already."""
        for kind, mine in (("A", [a for a in addresses if ":" not in a]), ("AAAA", [a for a in addresses if ":" in a])):
            self.records.setdefault((name, kind), []).append(mine)

    def answer(self, query: dns.message.Message) -> dns.message.Message:
        (question,) = query.question
        name, kind = question.name.to_text(omit_final_dot=True), dns.rdatatype.to_text(question.rdtype)
        self.questions.append((name, kind))
        response = dns.message.make_response(query)
        response.flags |= dns.flags.RA
        answers = self.records.get((name, kind))
        if answers is None:
            if not any(known == name for known, _ in self.records):
                response.set_rcode(dns.rcode.NXDOMAIN)
            return response
        answer = answers.pop(0) if len(answers) > 1 else answers[0]
        if answer:
            response.answer.append(dns.rrset.from_text(f"{name}.", 60, "IN", kind, *answer))
        return response


@contextmanager
def naming() -> Iterator[Names]:
    endpoint = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    endpoint.bind(("127.0.0.1", 0))
    names = Names(f"127.0.0.1:{endpoint.getsockname()[1]}")
    stopped = threading.Event()

    def serve() -> None:
        while not stopped.is_set():
            wire, client = endpoint.recvfrom(4096)
            if wire and not names.silent:
                endpoint.sendto(names.answer(dns.message.from_wire(wire)).to_wire(), client)

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield names
    finally:
        stopped.set()
        endpoint.sendto(b"", endpoint.getsockname())
        thread.join()
        endpoint.close()
