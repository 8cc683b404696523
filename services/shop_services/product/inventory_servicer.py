"""shop.product.v1.InventoryService: protobuf to the domain and back, nothing else."""

from __future__ import annotations

from shop.product.v1 import inventory_pb2 as pb
from shop.product.v1 import inventory_pb2_grpc
from shop_services.product.inventory_domain import Item, Reservation, Stock
from shop_services.product.inventory_usecases import Inventory
from shop_services.runtime.interceptor import Context
from shop_services.runtime.times import to_timestamp
from shop_services.storage import Replies


class InventoryServicer(inventory_pb2_grpc.InventoryServiceServicer):
    """Serves `Inventory`."""

    def __init__(self, inventory: Inventory, replies: Replies) -> None:
        self._inventory = inventory
        self._replies = replies

    # Methods are named as the RPCs that they serve.
    # ruff: noqa: N802
    async def ReserveStock(self, request: pb.ReserveStockRequest, context: Context) -> pb.ReserveStockResponse:
        items = [Item(item.product_id, item.quantity) for item in request.items]
        reservation = await self._inventory.reserve(request.order_id, items)
        return pb.ReserveStockResponse(reservation=reservation_to_proto(reservation))

    async def ReleaseStock(self, request: pb.ReleaseStockRequest, context: Context) -> pb.ReleaseStockResponse:
        reservation = await self._inventory.release(request.order_id)
        return pb.ReleaseStockResponse(reservation=reservation_to_proto(reservation))

    async def CommitStock(self, request: pb.CommitStockRequest, context: Context) -> pb.CommitStockResponse:
        reservation = await self._inventory.commit(request.order_id)
        return pb.CommitStockResponse(reservation=reservation_to_proto(reservation))

    async def GetStock(self, request: pb.GetStockRequest, context: Context) -> pb.GetStockResponse:
        return pb.GetStockResponse(stock=stock_to_proto(await self._inventory.get(request.product_id)))

    async def AdjustStock(self, request: pb.AdjustStockRequest, context: Context) -> pb.AdjustStockResponse:
        mutation = self._replies.mutation(request, pb.AdjustStockResponse, _adjusted)
        return await self._inventory.adjust(request.product_id, request.delta, mutation)


def stock_to_proto(stock: Stock) -> pb.Stock:
    """`stock` as the API shows it."""
    return pb.Stock(
        product_id=stock.product_id, available=stock.available, reserved=stock.reserved, committed=stock.committed
    )


def _adjusted(stock: Stock) -> pb.AdjustStockResponse:
    return pb.AdjustStockResponse(stock=stock_to_proto(stock))


def reservation_to_proto(reservation: Reservation) -> pb.Reservation:
    """`reservation` as the API shows it."""
    return pb.Reservation(
        order_id=reservation.order_id,
        state=pb.ReservationState.Value(f"RESERVATION_STATE_{reservation.state}"),
        items=[pb.StockItem(product_id=item.product_id, quantity=item.quantity) for item in reservation.items],
        create_time=to_timestamp(reservation.create_time),
        update_time=to_timestamp(reservation.update_time),
    )
