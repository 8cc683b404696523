"""Notifications: a worker that sends each shopper one e-mail when an order has ended, and a mail server to try it."""
