"""The OpenAPI 3.1 document of the gateway, made from the same descriptors as its routes."""

from shop_services.gateway.openapi.comments import Comments
from shop_services.gateway.openapi.document import make_document

__all__ = ["Comments", "make_document"]
