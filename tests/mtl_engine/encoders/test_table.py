"""The table encoder: running statistics against all rows at once, missing values, categories."""

from __future__ import annotations

import numpy as np
import torch

from mtl_engine.encoders.table import TableEncoder


def encoder(columns: int = 3, **more: object) -> TableEncoder:
    torch.manual_seed(0)
    return TableEncoder((columns,), 8, **more)  # type: ignore[arg-type]


def test_statistics_in_batches_are_those_of_all_rows() -> None:
    x = np.random.default_rng(1).normal([5, -3, 100], [1, 20, 0.1], (200, 3)).astype(np.float32)
    x[np.random.default_rng(2).random((200, 3)) < 0.3] = np.nan
    model = encoder()
    for start in range(0, 200, 7):
        model.observe(torch.from_numpy(x[start : start + 7]))
    count, mean, squares = model.stats_3F.numpy()
    assert np.array_equal(count, (~np.isnan(x)).sum(0))
    np.testing.assert_allclose(mean, np.nanmean(x, 0), rtol=1e-5)
    np.testing.assert_allclose(np.sqrt(squares / count), np.nanstd(x, 0), rtol=1e-2)


def test_the_scale_of_a_column_does_not_matter_once_it_is_known() -> None:
    x = torch.randn(64, 3, generator=torch.Generator().manual_seed(1))
    plain, scaled = encoder(), encoder()
    plain.observe(x)
    scaled.observe(x * 1000 + 7)
    torch.testing.assert_close(plain(x, None), scaled(x * 1000 + 7, None), atol=1e-3, rtol=1e-3)


def test_a_missing_value_is_not_the_mean() -> None:
    model = encoder()
    x = torch.randn(64, 3, generator=torch.Generator().manual_seed(1))
    model.observe(x)
    row = x[:1].clone()
    missing, mean = row.clone(), row.clone()
    missing[0, 1] = float("nan")
    mean[0, 1] = model.units_2F[0, 1]
    assert torch.isfinite(model(missing, None)).all()
    assert not torch.allclose(model(missing, None), model(mean, None))


def test_categories_and_their_absence_have_vectors_of_their_own() -> None:
    model = encoder(2, categorical=[1], buckets=4, dim=3)
    x = torch.tensor([[0.0, b] for b in (0.0, 1.0, 3.0, float("nan"))])
    h = model(x, None)
    assert len({tuple(row) for row in h.tolist()}) == 4


def test_two_categorical_columns_do_not_share_vectors() -> None:
    model = encoder(2, categorical=[0, 1], buckets=4, dim=3)
    h = model(torch.tensor([[1.0, 2.0], [2.0, 1.0]]), None)
    assert not torch.allclose(h[0], h[1])
