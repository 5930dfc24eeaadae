"""What is sent to whom: seeded people, and one campaign whose message has about the wanted size. Pure but for files."""

import random
from collections.abc import Sequence
from itertools import accumulate
from pathlib import Path

DOMAIN = "example.com"
STREAM = "news"
CAMPAIGN = "letter"

# Headers with a signature of RSA-2048, both parts with their greeting, five links, imprint
# and pixel: what a message has beside its filling. A smaller --size sends this much.
OVERHEAD = 2_740

# The share of a message's filling that stands in its HTML; the rest is the plain text.
_HTML = 0.6

_STREAM_FILE = f"""
name = "{STREAM}"
from = "Example <news@{DOMAIN}>"
imprint = "Example GmbH, Street 1, 20457 Hamburg"
tracking = "full"
"""

_CAMPAIGN_FILE = f"""
name = "{CAMPAIGN}"
kind = "campaign"
stream = "{STREAM}"
[[step]]
message = "letter"
"""

_SUBJECT = '{{ first_name | default("Hello") }}, what is new in {{ city }}'

_HTML_FILE = """<html><body>
<h1>Hello {{{{ first_name | default("there") }}}} {{{{ last_name }}}}</h1>
<p>You have {{{{ points }}}} points on the plan {{{{ plan }}}}, and live in {{{{ city }}}}.</p>
<p><a href="https://shop.example/new?from=letter">New</a> <a href="https://shop.example/plans">Plans</a>
<a href="https://shop.example/points">Points</a> <a href="https://shop.example/help">Help</a></p>
{filling}
<p>{{{{ imprint }}}} <a href="{{{{ unsubscribe_url }}}}">Leave</a></p>
</body></html>
"""

_TEXT_FILE = """Hello {{{{ first_name | default("there") }}}} {{{{ last_name }}}},

you have {{{{ points }}}} points on the plan {{{{ plan }}}}, and live in {{{{ city }}}}.

{filling}
{{{{ imprint }}}}
{{{{ unsubscribe_url }}}}
"""

_TEXT = (
    "about above across after again almost along always among around because before behind below between "
    "both came could down early enough every first found given great house large later letter light little "
    "morning never night often other people place point right river second small sound still street their "
    "there thing think three today together under until water where which while white whole world write year"
)
_NAMES = ("Ada", "Björn", "Chiara", "Dilek", "Emil", "Frida", "Goran", "Hanna", "Ines", "José", "Kim", "Lena")
_CITIES = ("Aachen", "Bern", "Graz", "Hamburg", "Köln", "Linz", "Mainz", "Wien", "Zürich")
_COLUMNS = "email,first_name,last_name,city,country,plan,points,joined"


def write_people(path: Path, contacts: int, domains: Sequence[str], draw: random.Random) -> None:
    """A CSV file with seven attributes; domains by Zipf's law, the k-th with weight 1/k."""
    weights = list(accumulate(1 / rank for rank in range(1, len(domains) + 1)))
    with path.open("w", encoding="utf-8") as file:
        file.write(_COLUMNS + "\n")
        for number, domain in enumerate(draw.choices(domains, cum_weights=weights, k=contacts)):
            name, city = draw.choice(_NAMES), draw.choice(_CITIES)
            plan = draw.choice(("free", "basic", "pro"))
            joined = f"20{draw.randrange(10, 26)}-{draw.randrange(1, 13):02}-{draw.randrange(1, 29):02}"
            file.write(
                f"p{number}@{domain},{name},Person {number},{city},{draw.choice(('DE', 'AT', 'CH'))},"
                f"{plan},{draw.randrange(1000)},{joined}\n"
            )


def write_campaign(folder: Path, size: int, draw: random.Random) -> list[tuple[str, Path]]:
    """Stream, program and message as files; what to `apply`, in order."""
    filling = max(0, size - OVERHEAD)
    message = folder / "letter"
    message.mkdir()
    html = _HTML_FILE.format(filling=_paragraphs(round(filling * _HTML), draw, "<p>{}</p>"))
    text = _TEXT_FILE.format(filling=_paragraphs(round(filling * (1 - _HTML)), draw, "{}\n"))
    for name, content in (("subject.txt", _SUBJECT), ("message.html", html), ("message.txt", text)):
        (message / name).write_text(content, encoding="utf-8")
    (folder / "stream.toml").write_text(_STREAM_FILE, encoding="utf-8")
    (folder / "campaign.toml").write_text(_CAMPAIGN_FILE, encoding="utf-8")
    return [("stream", folder / "stream.toml"), ("program", folder / "campaign.toml")]


def _paragraphs(size: int, draw: random.Random, shape: str) -> str:
    """About `size` characters of words, in lines that quoted-printable leaves as they are."""
    words = _TEXT.split()
    lines: list[str] = []
    while size > 0:
        line = shape.format(" ".join(draw.choices(words, k=9)))
        lines.append(line)
        size -= len(line) + 2  # CRLF
    return "\n".join(lines)
