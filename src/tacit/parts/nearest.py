"""The nearest rows of a matrix, exactly: every row is looked at, equal distances are ordered by row.

Two looks. The first is a product in fp32 by blocks of rows (for one query in fp16), whose error is bounded; it keeps the rows that may
still be among the nearest. The second computes the distance of those few in fp64 from the stored values. Products of fp16 numbers are
exact in fp64, and so are their sums for vectors of about unit length: rows that are equal are equally far, wherever they stand.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

Metric = Literal["cosine", "euclidean"]
METRICS = ("cosine", "euclidean")
BLOCK = 2048  # rows at once: a block in fp32 and its products stay in the cache
QUERIES, FEW = 256, 4  # at once; so few are each faster alone
MOST_CANDIDATES = 2_000_000  # held at once; more happen only where very many rows are nearly equal
ROWS_AT_ONCE = 4096  # in fp64
FP16_NORMS = (1e-2, 3e4)  # lengths of rows between which a product in fp16 neither overflows nor fades
NEVER = -1e38  # lower than any product, higher than what is forbidden

Apart = Sequence[tuple[NDArray[np.int64], NDArray[np.int64]]]  # (code of each row (n,), code of each query (q,)): equal codes are kept apart


@dataclass(frozen=True)
class _Hits:
    """Candidates: which query, which row, and its product so far."""

    query: NDArray[np.int64]
    row: NDArray[np.int64]
    value: NDArray[np.float32]

    def and_more(self, query: NDArray[np.int64], row: NDArray[np.int64], value: NDArray[np.float32]) -> _Hits:
        """These and others."""
        return _Hits(np.concatenate([self.query, query]), np.concatenate([self.row, row]), np.concatenate([self.value, value]))


NO_HITS = _Hits(np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0, np.float32))


class Nearest:
    """Rows (n, d) fp16 or fp32 that queries are compared with. cosine: distance 2 − 2·cos, 0–4; euclidean: the length of the difference.

    A row or query of zeros has no direction: its cosine with anything is 0.
    """

    def __init__(self, values: NDArray, metric: Metric = "cosine") -> None:
        import torch

        self.values, self.metric = np.ascontiguousarray(values), metric
        self._torch: Any = torch
        self._rows = torch.from_numpy(self.values)
        lengths = np.concatenate([np.sqrt((part * part).sum(1)) for _, part in self._in_fp64()] or [np.zeros(0)])
        self._longest = float(lengths.max(initial=0.0))
        self._safe_in_fp16 = self.values.dtype == np.float16 and FP16_NORMS[0] <= lengths.min(initial=1.0) and self._longest <= FP16_NORMS[1]
        with np.errstate(divide="ignore"):
            gain, offset = (np.where(lengths > 0, 1 / lengths, 0.0), 0 * lengths) if metric == "cosine" else (2 + 0 * lengths, -(lengths**2))
        self._gain, self._offset = (torch.from_numpy(v.astype(np.float32)) for v in (gain, offset))

    def __len__(self) -> int:
        return len(self.values)

    def search(self, queries: NDArray, k: int, *, allowed: NDArray[np.bool_] | None = None, apart: Apart = ()) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """The k nearest rows of each query (q, d): row numbers (q, k), nearest first, and their distances. −1 and infinity where there are fewer.

        Queries are rounded to the rows' own precision, so that a row asks for itself at distance 0. allowed: (n,) rows that may be found.
        """
        q = np.asarray(queries).astype(self.values.dtype)
        rows, far = np.full((len(q), k), -1, np.int64), np.full((len(q), k), np.inf)
        offset = self._offset
        if allowed is not None:
            offset = self._torch.where(self._torch.from_numpy(allowed), offset, float("-inf"))
        alone = len(q) <= FEW and self._safe_in_fp16
        step = 1 if alone else QUERIES
        for first in range(0, len(q), step):
            part = slice(first, first + step)
            codes = [(of_rows, of_queries[part]) for of_rows, of_queries in apart]
            hits = (self._one if alone else self._many)(q[part], k, offset, codes)
            for i, found in enumerate(_by_query(hits, len(q[part]))):
                best, distance = self._exact(q[first + i], found, k)
                rows[first + i, : len(best)], far[first + i, : len(best)] = best, distance
        return rows, far

    def _many(self, q: NDArray, k: int, offset: Any, codes: Apart) -> _Hits:
        """Candidates of several queries. They are thinned whenever the rows seen have doubled."""
        torch = self._torch
        wide = q.astype(np.float32)
        lengths = np.sqrt((q.astype(np.float64) ** 2).sum(1)).astype(np.float32)
        if self.metric == "cosine":
            wide /= np.where(lengths > 0, lengths, 1)[:, None]
        ready = torch.from_numpy(wide)
        scale = 1.0 if self.metric == "cosine" else 2 * self._longest * (lengths + self._longest)
        slack = np.asarray(2 * (q.shape[1] + 8) * 2.0**-24 * scale * np.ones(len(q)), np.float32)  # twice the most that a product is off by
        hits, cut, due = NO_HITS, np.full(len(q), NEVER, np.float32), 0
        for first in range(0, len(self), BLOCK):
            block = slice(first, min(first + BLOCK, len(self)))
            products = ready @ self._rows[block].float().T * self._gain[block] + offset[block]
            for of_rows, of_queries in codes:
                products.masked_fill_(torch.from_numpy(of_queries[:, None] == of_rows[None, block]), float("-inf"))
            if first == 0 and k <= products.shape[1]:
                cut = np.maximum(products.topk(k, 1).values[:, -1].numpy() - slack, NEVER)
            query, row = (products >= torch.from_numpy(cut)[:, None]).nonzero(as_tuple=True)
            hits = hits.and_more(query.numpy(), row.numpy() + first, products[query, row].numpy())
            if block.stop >= due or len(hits.row) > MOST_CANDIDATES:
                hits, cut, due = *_thinned(hits, k, slack, cut), 2 * block.stop
                if len(hits.row) > MOST_CANDIDATES:
                    hits = self._settled(q, hits, k)
        return _thinned(hits, k, slack, cut)[0]

    def _one(self, q: NDArray, k: int, offset: Any, codes: Apart) -> _Hits:
        """Candidates of one query by a product in fp16, which reads half the bytes. Rounding the query and the product each cost 2^-11."""
        torch = self._torch
        length = float(np.sqrt((q.astype(np.float64) ** 2).sum()))
        direction = (q[0].astype(np.float64) / (length or 1.0)).astype(np.float16)
        products = (self._rows @ torch.from_numpy(direction)).float()
        products = products * self._gain * (length if self.metric == "euclidean" else 1.0) + offset
        for of_rows, of_queries in codes:
            products.masked_fill_(torch.from_numpy(of_rows == of_queries[0]), float("-inf"))
        error = 2.0**-10 + 2.0**-20 + (q.shape[1] + 8) * 2.0**-24 + q.shape[1] ** 0.5 * 2.0**-25
        slack = np.asarray([2 * error if self.metric == "cosine" else 4 * error * self._longest * (length + self._longest)], np.float32)
        least = float(products.topk(min(k, len(self))).values[-1]) if len(self) else 0.0
        row = (products >= max(least - float(slack[0]), NEVER)).nonzero()[:, 0]
        return _Hits(np.zeros(len(row), np.int64), row.numpy(), products[row].numpy())

    def _settled(self, q: NDArray, hits: _Hits, k: int) -> _Hits:
        """The k candidates of each query that are nearest exactly; who is beaten by k others now stays beaten."""
        kept = []
        for i, found in enumerate(_by_query(hits, len(q))):
            best, _ = self._exact(q[i], found, k)
            kept.append(np.isin(found, best))
        keep = np.zeros(len(hits.row), bool)
        keep[np.argsort(hits.query, kind="stable")] = np.concatenate(kept)
        return _Hits(hits.query[keep], hits.row[keep], hits.value[keep])

    def _exact(self, query: NDArray, rows: NDArray[np.int64], k: int) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """The k of `rows` nearest to a query (d,), and how far they are."""
        wide = query.astype(np.float64)
        own = float((wide * wide).sum())
        far = []
        for first in range(0, len(rows), ROWS_AT_ONCE):
            x = self.values[rows[first : first + ROWS_AT_ONCE]].astype(np.float64)
            far.append(np.sqrt(((x - wide) ** 2).sum(1)) if self.metric == "euclidean" else _turned(x, wide, own))
        distance = np.concatenate(far) if far else np.zeros(0)
        order = np.lexsort((rows, distance))[:k]
        return rows[order], distance[order]

    def _in_fp64(self) -> Iterator[tuple[int, NDArray[np.float64]]]:
        for first in range(0, len(self.values), ROWS_AT_ONCE):
            yield first, self.values[first : first + ROWS_AT_ONCE].astype(np.float64)


def _turned(x: NDArray[np.float64], query: NDArray[np.float64], own: float) -> NDArray[np.float64]:
    """2 − 2·cos of rows (m, d) with a query (d,) whose squared length is `own`."""
    squares = (x * x).sum(1) * own
    cosine = np.divide((x * query).sum(1), np.sqrt(squares), out=np.zeros(len(x)), where=squares > 0)
    return np.maximum(2 - 2 * cosine, 0.0)


def _by_query(hits: _Hits, queries: int) -> list[NDArray[np.int64]]:
    """The candidate rows of each query."""
    order = np.argsort(hits.query, kind="stable")
    return np.split(hits.row[order], np.searchsorted(hits.query[order], np.arange(1, queries)))


def _thinned(hits: _Hits, k: int, slack: NDArray[np.float32], cut: NDArray[np.float32]) -> tuple[_Hits, NDArray[np.float32]]:
    """Candidates that may still be among the k best of their query, and the product below which no other can be."""
    order = np.lexsort((-hits.value, hits.query))
    starts = np.searchsorted(hits.query[order], np.arange(len(cut) + 1))
    enough = np.diff(starts) >= k
    cut = cut.copy()
    cut[enough] = np.maximum(hits.value[order][starts[:-1][enough] + k - 1] - slack[enough], NEVER)
    keep = hits.value >= cut[hits.query]
    return _Hits(hits.query[keep], hits.row[keep], hits.value[keep]), cut
