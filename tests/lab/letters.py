"""Mails for the tests of the lab, made by the standard library and by nothing of ours."""

from email.message import EmailMessage

BASE = "http://127.0.0.1:8025"
PIXEL = f"{BASE}/o/pixel.gif"
LEAVE = f"{BASE}/u/leave"
HTML = f"""<p>Grüße, <a href="{BASE}/c/one?a=1&amp;b=2">one</a> <a href='{BASE}/c/two'>two</a>
<a href="mailto:us@example.com">write</a> <a href="{LEAVE}">leave</a> <img src="{PIXEL}" alt=""></p>"""


def letter(number: int = 1, *, html: str = HTML, one_click: bool = True) -> bytes:
    """A mail with two links, a pixel and a way to leave, as bytes with CRLF."""
    mail = EmailMessage()
    mail["From"] = "Demo <news@example.com>"
    mail["To"] = "ada@x.test"
    mail["Subject"] = "Grüße aus dem Labor, die lang genug sind, dass die Zeile gefaltet werden muss"
    mail["Date"] = "Thu, 01 Jan 2026 10:00:00 +0000"
    mail["Message-ID"] = f"<{number}@example.com>"
    mail["Feedback-ID"] = "1:2:3:example"
    if one_click:
        mail["List-Unsubscribe"] = f"<mailto:leave@example.com>, <{LEAVE}>"
        mail["List-Unsubscribe-Post"] = "List-Unsubscribe=One-Click"
    mail.set_content("Grüße in plain text")
    mail.add_alternative(html, subtype="html")
    mail.set_boundary("=== boundary ===")
    return mail.as_bytes().replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")
