"""What pages say. The rest of them is in test_forms and tests/consent."""

import pytest

from tracker.pages import Page, render
from tracker.words import WORDS


@pytest.mark.parametrize("language", WORDS)
def test_who_has_left_is_offered_to_undo_it_and_not_to_have_less(language: str) -> None:
    words = WORDS[language]
    before, after = (render(page, language, preferences="../p/x") for page in (Page.ASK, Page.DONE))

    assert words.preferences in before
    assert words.after_leaving in after
    assert words.preferences not in after
