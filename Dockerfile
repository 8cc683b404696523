# One image for every service and worker: `shop serve NAME`, `shop worker TOPIC`, set up by the environment (see
# docker-compose.yml).
FROM python:3.11.17-slim-bookworm AS build
WORKDIR /src
RUN python -m venv /opt/shop
COPY . .
RUN /opt/shop/bin/pip install --no-cache-dir --constraint buildscripts/pins.txt ./protos ./registry ./client ./services

FROM python:3.11.17-slim-bookworm
RUN useradd --system --no-create-home shop
COPY --from=build /opt/shop /opt/shop
ENV PATH=/opt/shop/bin:$PATH PYTHONUNBUFFERED=1
USER shop
ENTRYPOINT ["shop"]
