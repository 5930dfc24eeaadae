"""What a user agent says about who asks. Our own list, with its date; pure.

Public lists of robots count Google's and Yahoo's image proxies among them, and a
mailer that took one over lost every open from Gmail. So proxies are asked first.
"""

import re
from datetime import date
from enum import Enum
from functools import lru_cache

# When somebody last went through this list; `mtad events reclassify` says it.
AGENTS_OF = date(2026, 11, 23)

# Longer ones say nothing more and would only fill the journal.
MAX_AGENT = 200

_PROXIES = ("GoogleImageProxy", "YahooMailProxy")

# Mail privacy proxy of Apple: loads every image of every mail, read or not.
_APPLE = "Mozilla/5.0"

# Gmail looks at images while it delivers, as browsers with this odd tail, and samples
# links as a browser of 2015 with another.
_GMAIL_PREFETCH_TAIL = " Mozilla/5.0"

# Not here: "bot" in CUBOT, a maker of phones.
_ROBOTS = re.compile(
    r"(?<!cu)bot\b|crawl|spider|slurp|scanner|scrapy|bingpreview|^java/|"
    r"curl/|wget/|python-|python/|aiohttp|httpx|go-http-client|libwww|node-fetch|axios/|undici|"
    r"content-sampling|headless|phantomjs|puppeteer|playwright|selenium|"
    r"barracuda|mimecast|proofpoint|safelinks|trendmicro|symantec|"
    r"facebookexternalhit|whatsapp/|skypeuripreview|monitor",
    re.IGNORECASE,
)

# With these, mail programs on phones load the pictures of a mail that is being read. A link they give to
# the browser; whoever follows one with them is a program.
_LIBRARIES = re.compile(r"(?!Mozilla/).*(?:okhttp/|dalvik/|apache-httpclient/|cfnetwork/)", re.IGNORECASE)


class Agent(Enum):
    """Kinds of user agents."""

    BROWSER = "browser"
    LIBRARY = "library"
    NONE = "none"
    ROBOT = "robot"
    IMAGE_PROXY = "image proxy"
    PRIVACY_PROXY = "privacy proxy"


# Few agents stand behind most hits, and each hit asks at least twice: 22 µs a time otherwise.
@lru_cache(maxsize=4096)
def kind_of_agent(text: str) -> Agent:
    """Who a User-Agent header says it is; a browser unless we know better."""
    if not text.strip():
        return Agent.NONE
    if any(proxy in text for proxy in _PROXIES):
        return Agent.IMAGE_PROXY
    if text == _APPLE:
        return Agent.PRIVACY_PROXY
    if text.endswith(_GMAIL_PREFETCH_TAIL) or _ROBOTS.search(text):
        return Agent.ROBOT
    return Agent.LIBRARY if _LIBRARIES.match(text) else Agent.BROWSER
