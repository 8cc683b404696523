"""alembic runs this file to apply a service's migrations; what it does is in `shop_services.storage.migrations`."""

from shop_services.storage.migrations import run_scripts

run_scripts()
