"""The e-mails about orders, as a mail program reads them."""

from __future__ import annotations

import re
from email import message_from_bytes
from email.message import EmailMessage
from email.policy import default
from html.parser import HTMLParser

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shop_services.notification.domain import Ending, Line, Outcome, one_line
from shop_services.notification.letters import UnfitAddress, write
from shop_services.runtime.money import Money
from tests.unit.services.notification.orders import NOON, SENDER, ending, mail

HEADERS = [
    "From",
    "To",
    "Subject",
    "Date",
    "Message-ID",
    "Auto-Submitted",
    "MIME-Version",
    "Content-Type",
]

anything = st.text(max_size=100)


class _Tags(HTMLParser):
    """The tags of a page, and its text."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.words: list[str] = []
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: object) -> None:
        self.tags.append(tag)

    def handle_data(self, data: str) -> None:
        self.words.append(data)


def delivered(about: Ending, *, address: str = "ann@example.com", name: str = "Ann") -> EmailMessage:
    """The e-mail as it arrives."""
    content = write(mail(about, address=address, name=name), about, SENDER).as_bytes()
    assert content.isascii()
    message: EmailMessage = message_from_bytes(content, policy=default)
    return message


def texts(message: EmailMessage) -> tuple[str, str]:
    """Its plain text and its page."""
    plain, page = (message.get_body((kind,)) for kind in ("plain", "html"))
    assert plain is not None
    assert page is not None
    return plain.get_content().replace("\r\n", "\n"), page.get_content().replace("\r\n", "\n")


def test_a_receipt_has_every_line_and_the_total() -> None:
    """A fulfilled order's e-mail lists what was bought and what was paid, in both of its parts."""
    lines = (Line("Pen", 2, Money("EUR", 500)), Line("Tinte, schwarz", 1, Money("EUR", 999)))
    message = delivered(ending(lines=lines, total=Money("EUR", 1499)))
    assert message["Subject"] == "Receipt for your order o1"
    plain, page = texts(message)
    assert "Hello Ann,\n" in plain
    assert "  2 x Pen: 5.00 EUR\n  1 x Tinte, schwarz: 9.99 EUR\n" in plain
    assert "Total, paid: 14.99 EUR" in plain
    words = _Tags(page).words
    for told in ("Hello Ann,", "Tinte, schwarz", "9.99 EUR", "Total, paid", "14.99 EUR"):
        assert told in words


@pytest.mark.parametrize(
    ("outcome", "reason", "subject", "told"),
    [
        (Outcome.FAILED, "payment refused: insufficient_funds", "could not be completed", "not enough money on the"),
        (Outcome.FAILED, "payment refused: insufficient_funds", "could not be completed", "You pay nothing."),
        (Outcome.FAILED, "there are 2 of 'Pen' left", "could not be completed", "There are 2 of 'Pen' left."),
        (Outcome.CANCELLED, "too slow", "was cancelled", "The reason that was given: too slow\n"),
        (Outcome.CANCELLED, "too slow", "was cancelled", "refunded in full"),
        (Outcome.CANCELLED, "", "was cancelled", "Your order was cancelled.\n\nYou pay nothing"),
    ],
)
def test_an_order_that_was_not_fulfilled_says_why_and_that_it_costs_nothing(
    outcome: Outcome, reason: str, subject: str, told: str
) -> None:
    """Each outcome has words of its own, and the reason among them."""
    message = delivered(ending(outcome=outcome, reason=reason))
    assert subject in message["Subject"]
    plain, page = texts(message)
    assert told in plain
    assert one_line(told.splitlines()[0]) in " ".join(_Tags(page).words)


def test_the_headers_are_those_of_an_automatic_mail() -> None:
    """From, To, Date and the Message-ID are what they must be, and machines are told not to answer."""
    message = delivered(ending())
    assert message.keys() == HEADERS
    assert message["From"].addresses[0].addr_spec == SENDER
    assert message["To"] == "ann@example.com"
    assert message["Date"].datetime == NOON
    assert message["Message-ID"] == "<order-o1@shop.example>"
    assert message["Auto-Submitted"] == "auto-generated"


def test_writing_it_again_gives_the_same_bytes() -> None:
    """An e-mail that is sent twice is the same e-mail."""
    about = ending()
    first, second = (write(mail(about), about, SENDER).as_bytes() for _ in range(2))
    assert first == second


@pytest.mark.parametrize(
    "name", ["山田 太郎", "Zoë Ünal", "محمد علی\u200cپور", "👩\u200d🚀 Ann", "Ann <b@c.example>, Bob", '"; DROP', "="]
)
def test_names_arrive_as_they_were_written(name: str) -> None:
    """Names in any script, with joiners or with signs that mean something in mail or HTML, arrive unchanged."""
    plain, page = texts(delivered(ending(lines=(Line(name, 1, Money("JPY", 100)),)), name=name))
    assert f"Hello {name},\n" in plain
    assert f"  1 x {name}: 1.00 JPY\n" in plain
    assert {f"Hello {name},", name} <= set(_Tags(page).words)


@given(name=anything, product=anything, reason=anything, outcome=st.sampled_from(Outcome))
def test_nothing_from_outside_becomes_a_header_or_a_tag(name: str, product: str, reason: str, outcome: Outcome) -> None:
    """Whatever a name, a product or a reason holds, the e-mail has the headers and the tags that it always has."""
    about = ending(outcome=outcome, reason=f"x {reason}", lines=(Line(product, 1, Money("EUR", 500)),))
    message = delivered(about, name=name)
    usual = delivered(ending(outcome=outcome, reason="x"))
    assert message.keys() == usual.keys()
    assert message["To"] == "ann@example.com"
    assert [part.get_content_type() for part in message.walk()] == [part.get_content_type() for part in usual.walk()]
    (plain, page), (usual_plain, usual_page) = texts(message), texts(usual)
    assert _Tags(page).tags == _Tags(usual_page).tags
    assert len(plain.splitlines()) == len(usual_plain.splitlines())
    assert f"  1 x {one_line(product)}: 5.00 EUR" in plain or not one_line(product)


@given(address=st.emails())
def test_an_address_is_kept_or_refused(address: str) -> None:
    """Whatever address a user has, the e-mail goes to exactly that one, or is not written at all."""
    try:
        message = delivered(ending(), address=address)
    except UnfitAddress:
        return
    assert [one.addr_spec for one in message["To"].addresses] == [address]


@pytest.mark.parametrize(
    "address", ["", "ann", "a..b@example.com", "ann@example.com\r\nBcc: b@c.example", "ä@example.com"]
)
def test_an_address_that_is_none_is_refused(address: str) -> None:
    """No e-mail is written to what is no address, and the error does not repeat it."""
    with pytest.raises(UnfitAddress, match=r"^the address cannot be written in an e-mail$"):
        delivered(ending(), address=address)


def test_no_line_is_too_long_for_smtp() -> None:
    """RFC 5322 allows 998 bytes a line, and long names and reasons stay within."""
    about = ending(outcome=Outcome.FAILED, reason="wörd" * 3000, lines=(Line("n" * 2000, 1, Money("EUR", 1)),))
    content = write(mail(about, name="x" * 3000), about, SENDER).as_bytes()
    assert max(map(len, content.split(b"\r\n"))) <= 998
    assert not re.search(rb"(?<!\r)\n", content)
