"""`/docs`: Swagger UI over the gateway's own OpenAPI document.

Everything that the page needs comes from this package, so that it works without the internet and tells nobody who looks
at it; its Content-Security-Policy holds the browser to that.
"""

from shop_services.gateway.docs.pages import docs_pages

__all__ = ["docs_pages"]
