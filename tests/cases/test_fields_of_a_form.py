"""Answers in the form of a ticket: the row is what the field says that holds the text, without the field's name."""

from __future__ import annotations

import pytest

from stepsynth.filters.layout import Layout
from stepsynth.filters.normalise import clean

BODY = "I was charged twice for the desk. Please give the money back."


@pytest.mark.parametrize(
    "answer",
    [
        f"**Support Ticket**\n\n**Subject:** Question about my desk\n\n**Description:** {BODY}",
        f"# Ticket\n\n**Title:** A desk\n\n**Body:** {BODY}",
        f"**Subject:** A desk\n\n**Description:** {BODY}",
        f"**Subject:** Why was I charged twice?\n**Priority:** High\n**Message:** {BODY}",
        f"Priority: High\nSubject: A desk\nDescription: {BODY}",
        f"Subject: A desk\n\nMessage:\n\n{BODY}",
        f"**Subject**: A desk\n\n**Issue Description**:\n{BODY}",
        f"## Subject\nA desk\n\n## Description\n{BODY}",
        f"**Description:** {BODY}",
        f"**Description:** {BODY}\n\n**Priority:** High",
        f"**Emne:** Et bord\n\n**Forklaring:** {BODY}",
        f"**Subject:** A desk\n\n**Body:** Dear team,\n\n{BODY}\n\nKind regards,\nAnn",
        f"Sure!\n\n**Subject:** A desk\n\n**Text:** {BODY}",
    ],
)
def test_the_row_is_the_text_of_the_field(answer: str) -> None:
    assert clean(answer) == BODY


@pytest.mark.parametrize(
    ("answer", "row"),
    [
        ("**Ann:** Where is it?\n\n**Bob:** It has gone.", "**Ann:** Where is it?"),
        ("**Ann:** Hi there\n\n**Bob:** Hello\n\n**Ann:** The tram is late.", "**Ann:** Hi there"),
        ("Order: 12\nError message: card was declined", "Order: 12 Error message: card was declined"),
        ("The tram was late.\n\n**Description:** It never came at all.", "The tram was late."),
        ("Message: the doors shut on my arm.", "Message: the doors shut on my arm."),
    ],
)
def test_who_speaks_is_no_field(answer: str, row: str) -> None:
    assert clean(answer) == row


@pytest.mark.parametrize(
    "form", ["Description: It broke.", "**Description:** It broke.", "Subject: A desk Description: It broke."]
)
def test_where_real_texts_are_forms_written_ones_are_too(form: str) -> None:
    forms = [form] * 3
    assert clean(f"**Description:** {BODY}", layout=Layout.like(forms)) == f"**Description:** {BODY}"
