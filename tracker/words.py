"""What pages say, in the languages that we speak. Pure.

`{…}` is filled by `pages`; everything else is shown as it stands.
"""

from collections.abc import Mapping

import msgspec


class Said(msgspec.Struct, frozen=True):
    """A page of a heading and a sentence."""

    title: str
    text: str


class Words(msgspec.Struct, frozen=True, kw_only=True):
    """One language."""

    months: tuple[str, ...]
    date: str  # {day} {month} {year}
    # one sentence and no more
    noted: Said  # journalled; the database will have it later
    nobody: Said  # the mail was a preview or a test
    bad_link: Said
    later: Said  # nothing could be noted
    check_mail: Said  # a mail is on its way
    confirmed: Said
    used: Said  # confirmed once, and left since
    gone: Said  # not confirmed in time
    slow: Said  # too many tries
    # leaving
    leave: Said
    leave_stream: str  # the heading where we know which stream: {stream}
    left: Said
    leave_button: str
    preferences: str  # the link
    after_leaving: str  # the same link, once nothing is left to have less of
    # confirming
    confirm: Said
    agreeing: str  # above the words that the button agrees to
    confirm_button: str
    # preferences
    choices: str
    for_address: str  # {address}
    gets: str
    pauses: str  # {date}
    gets_nothing: str
    unmeasured: str
    pause_button: str
    resume_button: str
    unmeasure_button: str
    undo_button: str
    return_button: str
    everywhere: str  # the heading above what concerns all streams
    leave_all_button: str
    unmeasure_all_button: str
    no_streams: str
    done: str
    nothing_done: str
    asked_again: str
    asked_before: str  # too soon for another mail
    # signing up
    subscribe: str  # {stream}
    address: str
    subscribe_button: str
    bad_address: str
    must_agree: str
    changed: str  # the words of consent, since the form was shown
    leave_empty: str


WORDS: Mapping[str, Words] = {
    "en": Words(
        months=(
            "January", "February", "March", "April", "May", "June", "July", "August", "September", "October",
            "November", "December",
        ),
        date="{day}\N{NO-BREAK SPACE}{month}\N{NO-BREAK SPACE}{year}",
        noted=Said("We have noted it", "Your wish is saved and takes effect in a moment. Nothing else to do."),
        nobody=Said("This mail was a test", "It was sent to try it out, so there is nothing to change."),
        bad_link=Said("This link does not work", "Please use the whole link as it stands in the mail."),
        later=Said("That did not work just now", "It is our fault. Please try again in a minute."),
        check_mail=Said(
            "Almost done: look into your mailbox",
            "We are sending a mail to your address. Open the page in it to confirm."
            " Nothing there after some minutes? Please look among the spam.",
        ),
        confirmed=Said("You are subscribed", "Thank you, that is all. You can close this page."),
        used=Said(
            "This mail was used before",
            "You confirmed with it once and have left since. To come back, please sign up anew.",
        ),
        gone=Said("This link has expired", "It was not confirmed in time, so we forgot it. Please sign up anew."),
        slow=Said("Too many tries", "Please wait some minutes, then try again."),
        leave=Said("Unsubscribe?", "Press the button and you will get no more of these mails."),
        leave_stream="Unsubscribe from {stream}?",
        left=Said("You are unsubscribed", "You will get no more of these mails. You can close this page."),
        leave_button="Unsubscribe",
        preferences="Fewer mails, a break, and other settings",
        after_leaving="Undo, and other settings",
        confirm=Said(
            "Confirm your address?",
            "Press the button and you are subscribed. If that was not you, just close this page.",
        ),
        agreeing="By pressing it you agree to this:",
        confirm_button="Yes, subscribe me",
        choices="Your mails from us",
        for_address="For {address}",
        gets="You get these mails.",
        pauses="You have a break until {date}.",
        gets_nothing="You do not get these mails.",
        unmeasured="Whether you open them is not measured.",
        pause_button="Break of 30 days",
        resume_button="End the break",
        unmeasure_button="Do not measure me",
        undo_button="Undo",
        return_button="Subscribe again",
        everywhere="For all of them",
        leave_all_button="Unsubscribe from everything",
        unmeasure_all_button="Do not measure me anywhere",
        no_streams="There is no mail from us that you could get here.",
        done="Saved.",
        nothing_done="There was nothing to change.",
        asked_again="We are sending you a mail: please confirm with it that you want to come back.",
        asked_before="We have sent you mails for that already: please look into your mailbox.",
        subscribe="Subscribe to {stream}",
        address="Your mail address",
        subscribe_button="Subscribe",
        bad_address="This is not a mail address.",
        must_agree="Please tick this box: without your consent we may not write to you.",
        changed="These are the words that count now: please read them, and tick this box if you agree.",
        leave_empty="Please leave this empty",
    ),
    "de": Words(
        months=(
            "Januar", "Februar", "März", "April", "Mai", "Juni", "Juli", "August", "September", "Oktober",
            "November", "Dezember",
        ),
        date="{day}.\N{NO-BREAK SPACE}{month}\N{NO-BREAK SPACE}{year}",
        noted=Said("Wir haben es notiert", "Ihr Wunsch ist gespeichert und gilt gleich. Mehr ist nicht zu tun."),
        nobody=Said("Diese Mail war ein Test", "Sie war nur zur Probe; es gibt also nichts zu ändern."),
        bad_link=Said("Dieser Link geht nicht", "Bitte nehmen Sie den ganzen Link, wie er in der Mail steht."),
        later=Said("Das ging gerade nicht", "Es liegt an uns. Bitte versuchen Sie es in einer Minute wieder."),
        check_mail=Said(
            "Fast fertig: schauen Sie in Ihr Postfach",
            "Wir schicken eine Mail an Ihre Adresse. Öffnen Sie die Seite darin, um zu bestätigen."
            " Nach einigen Minuten nichts da? Bitte schauen Sie auch im Spam nach.",
        ),
        confirmed=Said("Sie sind angemeldet", "Danke, das war alles. Sie können die Seite schließen."),
        used=Said(
            "Diese Mail wurde schon benutzt",
            "Sie haben damit einmal bestätigt und sich seither abgemeldet. Bitte melden Sie sich neu an.",
        ),
        gone=Said(
            "Dieser Link ist abgelaufen",
            "Er wurde nicht rechtzeitig bestätigt, darum haben wir ihn vergessen. Bitte melden Sie sich neu an.",
        ),
        slow=Said("Zu viele Versuche", "Bitte warten Sie einige Minuten und versuchen Sie es dann wieder."),
        leave=Said("Abmelden?", "Ein Klick auf den Knopf, und diese Mails kommen nicht mehr."),
        leave_stream="{stream} abmelden?",
        left=Said("Sie sind abgemeldet", "Diese Mails kommen nicht mehr. Sie können die Seite schließen."),
        leave_button="Abmelden",
        preferences="Weniger Mails, eine Pause und andere Einstellungen",
        after_leaving="Rückgängig machen und andere Einstellungen",
        confirm=Said(
            "Adresse bestätigen?",
            "Ein Klick auf den Knopf, und Sie sind angemeldet. Waren das nicht Sie, dann schließen Sie die Seite.",
        ),
        agreeing="Mit dem Klick stimmen Sie dem zu:",
        confirm_button="Ja, anmelden",
        choices="Ihre Mails von uns",
        for_address="Für {address}",
        gets="Sie bekommen diese Mails.",
        pauses="Sie haben Pause bis {date}.",
        gets_nothing="Sie bekommen diese Mails nicht.",
        unmeasured="Ob Sie sie öffnen, wird nicht gemessen.",
        pause_button="30 Tage Pause",
        resume_button="Pause beenden",
        unmeasure_button="Nicht messen",
        undo_button="Rückgängig machen",
        return_button="Wieder anmelden",
        everywhere="Für alle zusammen",
        leave_all_button="Von allem abmelden",
        unmeasure_all_button="Nirgends messen",
        no_streams="Es gibt hier keine Mails von uns für Sie.",
        done="Gespeichert.",
        nothing_done="Es war nichts zu ändern.",
        asked_again="Wir schicken Ihnen eine Mail: bitte bestätigen Sie damit, dass Sie zurück möchten.",
        asked_before="Dafür haben wir Ihnen schon Mails geschickt: bitte schauen Sie in Ihr Postfach.",
        subscribe="{stream} anmelden",
        address="Ihre Mailadresse",
        subscribe_button="Anmelden",
        bad_address="Das ist keine Mailadresse.",
        must_agree="Bitte kreuzen Sie das an: ohne Ihre Einwilligung dürfen wir Ihnen nicht schreiben.",
        changed="Dieser Wortlaut gilt jetzt: bitte lesen Sie ihn, und kreuzen Sie ihn an, wenn Sie zustimmen.",
        leave_empty="Bitte leer lassen",
    ),
    "ru": Words(
        months=(
            "января", "февраля", "марта", "апреля", "мая", "июня", "июля", "августа", "сентября", "октября",
            "ноября", "декабря",
        ),
        date="{day}\N{NO-BREAK SPACE}{month}\N{NO-BREAK SPACE}{year}\N{NO-BREAK SPACE}г.",
        noted=Said("Мы это записали", "Ваше желание сохранено и скоро подействует. Больше ничего не нужно."),
        nobody=Said("Это было пробное письмо", "Это только проверка рассылки: менять нечего."),
        bad_link=Said("Ссылка не работает", "Пожалуйста, откройте ссылку целиком, как она стоит в письме."),
        later=Said("Сейчас не получилось", "Это наша ошибка. Пожалуйста, попробуйте ещё раз через минуту."),
        check_mail=Said(
            "Почти готово: проверьте почту",
            "Мы отправляем письмо на ваш адрес. Откройте страницу из него, чтобы подтвердить."
            " Через несколько минут ничего нет? Посмотрите, пожалуйста, в папке «Спам».",
        ),
        confirmed=Said("Вы подписаны", "Спасибо, это всё. Страницу можно закрыть."),
        used=Said(
            "Это письмо уже использовано",
            "Вы подтвердили им подписку, а потом отписались. Чтобы вернуться, подпишитесь, пожалуйста, заново.",
        ),
        gone=Said(
            "Срок ссылки истёк",
            "Её не подтвердили вовремя, и мы её забыли. Пожалуйста, подпишитесь заново.",
        ),
        slow=Said("Слишком много попыток", "Подождите, пожалуйста, несколько минут и попробуйте ещё раз."),
        leave=Said("Отписаться?", "Нажмите кнопку, и эти письма больше не будут приходить."),
        leave_stream="Отписаться: {stream}?",
        left=Said("Вы отписаны", "Эти письма больше не будут приходить. Страницу можно закрыть."),
        leave_button="Отписаться",
        preferences="Перерыв и другие настройки",
        after_leaving="Отменить отписку и другие настройки",
        confirm=Said(
            "Подтвердить адрес?",
            "Нажмите кнопку, и вы подписаны. Если это были не вы, просто закройте страницу.",
        ),
        agreeing="Нажимая её, вы соглашаетесь:",
        confirm_button="Да, подписаться",
        choices="Ваши письма от нас",
        for_address="Для {address}",
        gets="Вы получаете эти письма.",
        pauses="У вас перерыв до {date}",
        gets_nothing="Вы не получаете эти письма.",
        unmeasured="Мы не измеряем, открываете ли вы их.",
        pause_button="Перерыв на 30 дней",
        resume_button="Закончить перерыв",
        unmeasure_button="Не измерять",
        undo_button="Отменить",
        return_button="Подписаться снова",
        everywhere="Для всех сразу",
        leave_all_button="Отписаться от всего",
        unmeasure_all_button="Нигде не измерять",
        no_streams="Здесь нет писем, которые вы могли бы получать.",
        done="Сохранено.",
        nothing_done="Менять было нечего.",
        asked_again="Мы отправляем вам письмо: подтвердите им, пожалуйста, что хотите вернуться.",
        asked_before="Мы уже отправили вам письма об этом: проверьте, пожалуйста, почту.",
        subscribe="Подписка: {stream}",
        address="Ваш адрес почты",
        subscribe_button="Подписаться",
        bad_address="Это не адрес почты.",
        must_agree="Отметьте, пожалуйста: без вашего согласия мы не можем вам писать.",
        changed="Теперь действует этот текст: прочтите его, пожалуйста, и отметьте, если согласны.",
        leave_empty="Пожалуйста, оставьте это поле пустым",
    ),
}  # fmt: skip
