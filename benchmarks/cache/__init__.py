"""The caches: what the memory backend costs, what its policies remember, and what a cached catalog and a herd gain.

- the memory backend: microseconds of an awaited `get` and `set` with all limits on (entries, bytes, TTL) ÷ those of the
  bare cache of cachetools with the same policy, which is called without a coroutine and has a limit of entries alone,
  and ÷ those of aiocache's own memory cache, which has no limit. That one is measured without its timeout, and as it
  comes. Values have 100 bytes. Timed is the processor time of the thread, which does nothing else and never waits, so
  that what runs beside it on the machine counts less.
- sizes: the same from a thousand entries to a million. `few keys`: 64 of them over and over, which stay in the
  processor's caches at every size, so that what still grows is the algorithm; that is what is promised. `any key`: most
  of a million entries have to be fetched from memory, and what evicts finds the oldest there. How the bare cache of
  cachetools grows with its entries is shown beside: that much is the machine's and the dictionary's.
- bytes an entry: tracemalloc's count, with key and value, of a cache just filled, and of one that has evicted since
  twice as many entries as it holds.
- hit ratios: a trace of popularity 1 ÷ rank (Zipf's law, exponent 1) over 100,000 keys; every miss is stored. Beside it
  the hits that a simple implementation of the policy, which shares no code with the cache, has on the same trace.
- the catalog: 100,000 products in a real database, read by that popularity. `by use case`: in one process, 16 reads at
  a time, through the caches of the product service as its wiring makes them, with room for a tenth of the catalog:
  alone (it finds no shared cache, and looks again once a second), and before a shared cache that has all of it. `over
  gRPC`: GetProduct of a product service that is one process, by one client, 32 calls at a time.
- the herd: 1,000 reads of one key at the same moment, which no cache has. Counted is how often the source is asked,
  which takes 20 ms to answer: in one process, and in four processes at once that share a Valkey.

All that is compared takes turns in one run; a ratio is of one turn, and the median of all turns counts.
"""

from benchmarks.cache.command import add_options, run

__all__ = ["add_options", "run"]
