"""The catalog, and the stock of what is in it: `ProductService` and `InventoryService`, over one database."""
