"""The DNS records without which mail is refused or its links lead nowhere. Pure: names in, records out."""

from collections.abc import Mapping

import msgspec

# RFC 1035 section 3.3.14: a TXT record is made of strings of at most this many octets.
_LONGEST_STRING = 255


class Record(msgspec.Struct, frozen=True):
    """One record to publish. A value in <> is for the operator to fill in."""

    name: str
    type: str
    value: str
    why: str

    def zone_line(self) -> str:
        """The record as a zone file has it; long texts as several strings."""
        value = self.value
        if self.type == "TXT":
            pieces = [value[at : at + _LONGEST_STRING] for at in range(0, len(value), _LONGEST_STRING)]
            value = " ".join(f'"{piece}"' for piece in pieces)
        return f"{self.name}. IN {self.type} {value}"


def records_to_publish(
    domain: str, *, hostname: str, return_path_domain: str, tracker_host: str, dkim: Mapping[str, str]
) -> list[Record]:
    """What an installation needs in DNS, in the order in which a receiver looks at it.

    SPF is checked for the return path and for the name in EHLO (RFC 7208 section 2.3),
    never for the domain in From, so the organisation's own SPF record stays as it is.
    `dkim` has the record of each selector.
    """
    return [
        Record(hostname, "A", "<this host's public address>", "the name that we say in EHLO"),
        Record(hostname, "TXT", "v=spf1 a -all", "SPF of that name, for mail without a return path"),
        Record(return_path_domain, "MX", f"10 {hostname}.", "bounces come back to us"),
        Record(return_path_domain, "TXT", f"v=spf1 a:{hostname} -all", "SPF: this host may send with our return path"),
        *(
            Record(f"{selector}._domainkey.{domain}", "TXT", record, "DKIM: the public half of the signing key")
            for selector, record in dkim.items()
        ),
        Record(
            f"_dmarc.{domain}", "TXT", f"v=DMARC1; p=none; rua=mailto:dmarc@{domain}",
            "DMARC: reports first; keep a record that you have, tighten p= when reports are clean",
        ),
        Record(tracker_host, "CNAME", f"{hostname}.", "links, pixel and unsubscribe pages, behind TLS"),
    ]  # fmt: skip


def reverse_reminder(hostname: str) -> str:
    """What no zone of the organisation's own can hold."""
    return f"Ask your network's provider: the PTR record of this host's address must be {hostname}."
