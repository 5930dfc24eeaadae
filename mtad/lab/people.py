"""The demo's contacts: a file of them, with rows that cannot be taken, and who is suppressed. Pure.

How the receiving server treats an address stands in its local part (mtad.lab.sink);
what its owner does follows from address and seed (mtad.lab.recipients).
"""

import csv
import io
import random
from collections.abc import Sequence

import msgspec

# A site each: the demo routes them to different ports of the sink.
DOMAINS = ("brook.example", "harbour.example", "meadow.example", "summit.example")
VIEWER_DOMAIN = "you.example"
VIEWER = f"you@{VIEWER_DOMAIN}"
VIEWER_NAME = "Robin"

_FIRST = ("Ada", "Ben", "Carla", "Emil", "Fatma", "Hugo", "Ida", "Karim", "Lina", "Mara", "Nils", "Zoe")
_LAST = ("Berg", "Dorn", "Falk", "Heide", "Kern", "Linde", "Moos", "Quell", "Sand", "Stern", "Vogel", "Winter")
_COURSES = ("Italian", "Portuguese", "Spanish", "Japanese", "Swedish", "Arabic")
_COUNTRIES = ("DE", "DE", "DE", "DE", "AT", "AT", "CH")

# Of 1000 addresses, how many the receiving server treats so.
_TREATED = (("unknown-", 30), ("defer1-", 30), ("defer2-", 10), ("full1-", 5), ("spam-", 5))

# What a file from the wild brings along; none of these rows can be taken.
BAD_ROWS = (
    ("no-at-sign.example", "Nadja", "DE", "Italian"),
    ("two@@brook.example", "Tobias", "DE", "Spanish"),
    ("dots..inside@meadow.example", "Dora", "AT", "Swedish"),
    ("@summit.example", "Sven", "CH", "Arabic"),
    ("blank in it@brook.example", "Bruno", "DE", "Italian"),
    ("", "Nobody", "DE", "Japanese"),
)

HEADER = ("email", "first_name", "country", "course")


# Whose mail the receiving server never takes.
_REFUSED = ("unknown-", "spam-")


class Crowd(msgspec.Struct, frozen=True):
    """Who takes part. `addresses` are those of the good rows without the viewer's, in order."""

    addresses: tuple[str, ...]
    contacts_csv: str
    suppressed_csv: str
    suppressed: frozenset[str]

    @property
    def reachable(self) -> tuple[str, ...]:
        """Those whom a mail can reach at all."""
        return tuple(a for a in self.addresses if a not in self.suppressed and not a.startswith(_REFUSED))


def crowd(count: int, seed: int) -> Crowd:
    """`count` contacts, and the viewer after them; the same for the same seed."""
    dice = random.Random(seed)  # noqa: S311 - repeatable on purpose
    people = [_person(number, dice) for number in range(1, count + 1)]
    rows: list[Sequence[str]] = list(people)
    for bad in BAD_ROWS:
        rows.insert(dice.randrange(len(rows) + 1), bad)
    rows.append((VIEWER, VIEWER_NAME, "DE", "Italian"))
    addresses = tuple(person[0] for person in people)
    suppressed = dice.sample(addresses, k=max(1, count // 100))
    return Crowd(
        addresses=addresses,
        contacts_csv=_csv([HEADER, *rows]),
        suppressed_csv=_csv([("email",), *((address,) for address in suppressed)]),
        suppressed=frozenset(suppressed),
    )


def _person(number: int, dice: random.Random) -> tuple[str, str, str, str]:
    first, last = dice.choice(_FIRST), dice.choice(_LAST)
    ticket, prefix = dice.randrange(1000), ""
    for name, share in _TREATED:
        if 0 <= ticket < share:
            prefix = name
        ticket -= share
    address = f"{prefix}{first}.{last}.{number}@{dice.choice(DOMAINS)}".lower()
    # One in twenty did not give a name: the templates have a default for them.
    return address, first if dice.random() > 0.05 else "", dice.choice(_COUNTRIES), dice.choice(_COURSES)


def _csv(rows: Sequence[Sequence[str]]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue()
