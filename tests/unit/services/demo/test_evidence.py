"""What the journey takes for a proof."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from grpc_registry import connect
from shop_services.demo import evidence
from shop_services.demo.front import Front
from shop_services.demo.stage import Stage
from shop_services.demo.story import Failed, Story
from shop_services.notification.mailbox import Mailbox
from shop_services.runtime.settings import Settings


@pytest.fixture
def lines() -> list[str]:
    return []


@pytest.fixture
async def stage(lines: list[str], tmp_path: Path) -> AsyncIterator[Stage]:
    async with connect("memory://") as registry:
        front = Front("http://127.0.0.1:1")
        settings, mailbox = Settings(data=tmp_path), tmp_path / "mail"
        yield Stage(Story(lines.append), front, registry, settings, kill=lambda _: 0, token="t", mailbox=mailbox)


@pytest.fixture
def mailbox(tmp_path: Path) -> Mailbox:
    return Mailbox(tmp_path / "mail", lambda: datetime(2026, 11, 22, tzinfo=UTC))


def mail(order: str) -> bytes:
    head = f"Delivered-To: ada@shop.example\r\nSubject: About {order}\r\nMessage-ID: <order-{order}@shop.example>\r\n"
    return f"{head}\r\nHello Ada,\r\n\r\nthank you.\r\nThe shop\r\n".encode()


async def test_the_e_mail_about_the_order_is_told(stage: Stage, mailbox: Mailbox, lines: list[str]) -> None:
    """Of all e-mails the one about the order is told, with as many lines as asked for."""
    mailbox.add(mail("one"))
    mailbox.add(mail("two"))
    await evidence.mailed(stage, "one", lines=2)
    told, *text = lines
    assert told.strip().startswith("e-mail to ada@shop.example")
    assert told.endswith("About one")
    assert [line.strip() for line in text] == ["| Hello Ada,", "| thank you."]


async def test_two_e_mails_about_one_order_are_one_too_many(stage: Stage, mailbox: Mailbox) -> None:
    """One order, one e-mail: the journey fails if there are two."""
    mailbox.add(mail("one"))
    mailbox.add(mail("one"))
    with pytest.raises(Failed, match="2 e-mails"):
        await evidence.mailed(stage, "one")


async def test_no_e_mail_fails(stage: Stage, mailbox: Mailbox, monkeypatch: pytest.MonkeyPatch) -> None:
    """An e-mail that does not come in time fails the journey."""
    monkeypatch.setattr(evidence, "_SECONDS", 0.1)
    mailbox.add(mail("two"))
    with pytest.raises(Failed, match="no e-mail came within"):
        await evidence.mailed(stage, "one")


async def test_a_mail_server_of_somebody_elses_is_not_looked_into(stage: Stage, lines: list[str]) -> None:
    """With SHOP_SMTP_URL the e-mails are elsewhere, which is said."""
    stage.mailbox = None
    await evidence.mailed(stage, "one")
    assert "SHOP_SMTP_URL" in lines[0]
