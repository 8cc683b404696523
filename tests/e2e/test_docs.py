"""`/docs` in a browser, as somebody uses it who has just heard of the shop."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import urlsplit
from uuid import uuid4

from playwright.sync_api import Page, expect

from tests.e2e.browser import browsing
from tests.e2e.running_shop import RunningShop


def try_out(page: Page, operation: str, body: object = None, **parameters: str) -> Any:
    """Click on an operation, "Try it out", fill it in, and "Execute"; returns the answer that the page shows."""
    block = page.locator(f"[id$='-{operation}']")
    block.locator(".opblock-summary-control").click()
    block.get_by_role("button", name="Try it out").click()
    for name, value in parameters.items():
        block.get_by_placeholder(name).fill(value)
    if body is not None:
        block.locator("textarea.body-param__text").fill(json.dumps(body))
    block.get_by_role("button", name="Execute").click()
    answer = block.locator(".live-responses-table tr.response")
    expect(answer.locator(".response-col_status")).to_have_text("200", timeout=60_000)
    shown = answer.locator(".highlight-code code").first.inner_text()
    block.locator(".opblock-summary-control").click()
    return json.loads(shown)


def test_an_order_is_made_from_the_page(shop: RunningShop) -> None:
    """Sign up, log in, authorize, choose a product and order it: by clicks alone, and no request leaves the machine."""
    name = f"u{uuid4().hex[:12]}"
    account = {"email": f"{name}@shop.example", "username": name, "password": "correct horse"}
    with browsing() as (page, seen):
        page.goto(f"{shop.gateway}/docs")
        user = try_out(page, "UserService_CreateUser", account)["user"]
        login = {"login": name, "password": account["password"]}
        token = try_out(page, "UserService_Login", login)["tokens"]["accessToken"]

        page.locator(".auth-wrapper button.authorize").click()
        dialog = page.locator(".dialog-ux")
        dialog.get_by_label("auth-bearer-value").fill(token)
        dialog.get_by_role("button", name="Apply credentials").click()
        dialog.get_by_role("button", name="Close", exact=True).click()

        product = try_out(page, "ProductService_ListProducts")["products"][0]
        items = [{"productId": product["id"], "quantity": "2"}]
        asked = {"requestId": name, "userId": user["id"], "items": items}
        order = try_out(page, "OrderService_CreateOrder", asked)["order"]
        assert try_out(page, "OrderService_GetOrder", order_id=order["id"])["order"]["userId"] == user["id"]
    assert order["items"][0]["unitPrice"] == product["price"]
    assert {urlsplit(url).netloc for url in seen.requests} == {urlsplit(shop.gateway).netloc}
    assert seen.left == []
    assert seen.complaints == []


def test_the_browser_would_have_been_seen_to_leave(shop: RunningShop) -> None:
    """A page that does ask another machine is found out, so that the test above can fail; `/docs` may not."""
    with browsing() as (page, seen):
        page.goto(f"{shop.gateway}/healthz")
        page.evaluate("fetch('http://elsewhere.invalid/', {mode: 'no-cors'}).catch(() => null)")
        assert seen.left == ["elsewhere.invalid"]
        page.goto(f"{shop.gateway}/docs")
        refused = page.evaluate("fetch('http://elsewhere.invalid/', {mode: 'no-cors'}).then(() => 0, () => 1)")
        assert refused == 1
        assert seen.left == ["elsewhere.invalid"]
        assert any("Content Security Policy" in complaint for complaint in seen.complaints)
