"""The e-mail about an order: plain text and HTML with the same words, from the files in `templates`.

All that comes from outside is text, and stays text: HTML is escaped, and a name cannot begin a header or a line of its
own. The same order always gives the same bytes, so that one which is sent twice can be recognised.
"""

from __future__ import annotations

import html
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from email.errors import HeaderParseError
from email.headerregistry import Address
from email.message import EmailMessage
from email.policy import SMTP
from importlib.resources import files
from string import Template

from shop_services.notification.domain import Ending, Line, Mail, Outcome, one_line
from shop_services.notification.reasons import kindly

SHOP = "The shop"


class UnfitAddress(Exception):
    """What a user gave as their e-mail address is not one that e-mails can be sent to."""


@dataclass(frozen=True, slots=True)
class _Words:
    subject: str
    """With `$order_id` in it."""
    paragraphs: tuple[str, ...]
    """One with `$reason` in it is left out if there is none."""
    total_label: str


_WORDS: Mapping[Outcome, _Words] = {
    Outcome.FULFILLED: _Words(
        "Receipt for your order $order_id",
        ("Thank you for your order. It is complete, and this is your receipt.",),
        "Total, paid",
    ),
    Outcome.FAILED: _Words(
        "Your order $order_id could not be completed",
        (
            "We are sorry: your order could not be completed.",
            "$reason",
            "You pay nothing. Should an amount for it appear on your card, it is given back in full.",
        ),
        "Total, not charged",
    ),
    Outcome.CANCELLED: _Words(
        "Your order $order_id was cancelled",
        (
            "Your order was cancelled.",
            "The reason that was given: $reason",
            "You pay nothing: what was charged for it is refunded in full.",
        ),
        "Total, refunded",
    ),
}


def subject_of(ending: Ending) -> str:
    """The subject of the e-mail about an order."""
    return Template(_WORDS[ending.outcome].subject).substitute(order_id=ending.order_id)


def write(mail: Mail, ending: Ending, sender: str) -> EmailMessage:
    """The whole e-mail, in 7 bits, so that every server takes it.

    Raises:
        UnfitAddress: no e-mail can be sent to the recipient's address.
    """
    message = EmailMessage(policy=SMTP)
    message["From"] = Address(SHOP, addr_spec=sender)
    # Without the name: where Python folds a long header it loses the quotes of a name (python/cpython#121284), and one
    # with commas in it reads as more addresses.
    message["To"] = _address(mail.recipient.address)
    message["Subject"] = mail.subject
    message["Date"] = mail.create_time
    message["Message-ID"] = mail.message_id
    message["Auto-Submitted"] = "auto-generated"  # RFC 3834: no out-of-office reply, please
    message.set_content(_text(mail, ending), cte="quoted-printable")
    message.add_alternative(_html(mail, ending), subtype="html", cte="quoted-printable")
    message.set_boundary(f"=_order-{ending.order_id}")
    return message


def _address(text: str) -> Address:
    try:
        if text.isascii():  # RFC 6531 allows more, and few servers do
            return Address(addr_spec=text)
    except (ValueError, IndexError, HeaderParseError):  # the parser has its ways to say no
        pass
    raise UnfitAddress("the address cannot be written in an e-mail")


def _text(mail: Mail, ending: Ending) -> str:
    lines = "".join(_filled("line.txt", _line(line), one_line) for line in ending.lines)
    parts = {"message": "\n\n".join(_paragraphs(ending)), "lines": lines.rstrip("\n")}
    return _filled("letter.txt", _facts(mail, ending), one_line, **parts)


def _html(mail: Mail, ending: Ending) -> str:
    lines = "".join(_filled("line.html", _line(line), _escaped) for line in ending.lines)
    paragraphs = "\n".join(f'<p dir="auto">{_escaped(paragraph)}</p>' for paragraph in _paragraphs(ending))
    parts = {"message": paragraphs, "lines": lines.rstrip("\n")}
    return _filled("letter.html", _facts(mail, ending), _escaped, **parts)


def _paragraphs(ending: Ending) -> list[str]:
    # A failure's reason is a program's, and is put into words. Why a user cancelled is said as they said it.
    reason = kindly(ending.reason) if ending.outcome is Outcome.FAILED else one_line(ending.reason)
    return [
        paragraph.replace("$reason", reason)
        for paragraph in _WORDS[ending.outcome].paragraphs
        if reason or "$reason" not in paragraph
    ]


def _facts(mail: Mail, ending: Ending) -> dict[str, str]:
    name = mail.recipient.name
    return {
        "title": mail.subject,
        "greeting": f"Hello {name}," if name else "Hello,",
        "total_label": _WORDS[ending.outcome].total_label,
        "total": str(ending.total),
        "order_id": ending.order_id,
        "date": f"{ending.time:%Y-%m-%d}",
        "sender": SHOP,
    }


def _line(line: Line) -> dict[str, str]:
    return {"quantity": str(line.quantity), "product": line.product_name, "subtotal": str(line.subtotal)}


def _filled(name: str, facts: Mapping[str, str], shown: Callable[[str], str], **parts: str) -> str:
    """The template `name` with `facts` as `shown` shows them, and with `parts` that are ready."""
    return _TEMPLATES[name].substitute({key: shown(fact) for key, fact in facts.items()}, **parts)


def _escaped(text: str) -> str:
    return html.escape(one_line(text))


_TEMPLATES = {
    name: Template((files(__package__) / "templates" / name).read_text(encoding="utf-8"))
    for name in ("letter.txt", "line.txt", "letter.html", "line.html")
}
