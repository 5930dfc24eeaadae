"""The mails that ask to confirm: subject and plain text by language. Pure.

They say who asks, what for, and what happens if nobody answers, and nothing else:
what advertises needs the very consent that is asked for.
"""

from collections.abc import Mapping

# TITLE is what the stream is called.
CONFIRMATIONS: Mapping[str, tuple[str, str]] = {
    "en": (
        "Please confirm your address",
        """Hello,

somebody (you, we hope) gave us this address to subscribe to: TITLE

Please open this page and press the button, and you are subscribed:
{{ confirm_url }}

If that was not you, there is nothing to do. You get no more mail from us,
and after 7 days we forget the address.

{{ imprint }}
""",
    ),
    "de": (
        "Bitte bestätigen Sie Ihre Adresse",
        """Guten Tag,

jemand (wir hoffen, Sie) hat sich mit dieser Adresse angemeldet für: TITLE

Bitte öffnen Sie diese Seite und drücken Sie den Knopf, dann sind Sie angemeldet:
{{ confirm_url }}

Waren das nicht Sie, dann ist nichts zu tun. Sie bekommen keine weitere Mail von uns,
und nach 7 Tagen vergessen wir die Adresse.

{{ imprint }}
""",
    ),
    "ru": (
        "Пожалуйста, подтвердите адрес",
        """Здравствуйте!

Кто-то (надеемся, что вы) указал этот адрес, чтобы подписаться на: TITLE

Откройте, пожалуйста, эту страницу и нажмите кнопку, и вы подписаны:
{{ confirm_url }}

Если это были не вы, делать ничего не нужно. Больше писем от нас не будет.
Через 7 дней мы забудем этот адрес.

{{ imprint }}
""",
    ),
}
