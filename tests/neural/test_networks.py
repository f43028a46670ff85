"""Backbones against plain NumPy: embeddings, members, shifts, padding."""

import numpy as np
import pandas as pd
import pytest
import torch

import ppl_models as ppl
from ppl_models.models.rnn.series import after, calendar, season_of
from ppl_models.networks.images import Convolutional, Images, Shifts
from ppl_models.networks.recurrent import Recurrent, Steps
from ppl_models.networks.tabular import CellCoding, CellEmbedding, MemberLinear, Tabular


@pytest.fixture
def coded():
    rng = np.random.default_rng(0)
    x = rng.gamma(2.0, size=200)
    x[::25] = np.nan
    kind = np.where(np.arange(200) % 31 == 0, None, np.array(["a", "b", "c"])[rng.integers(0, 3, 200)])
    data = ppl.read(pd.DataFrame({"x": x, "kind": kind}))
    return data, CellCoding(data.schema, [0, 1], data.values)


def test_numbers_are_embedded_piecewise_linearly(coded):
    data, coding = coded
    torch.manual_seed(0)
    net = CellEmbedding(coding)
    torch.nn.init.normal_(net.bins)
    e = net(coding.rows(data.values))[:, :16].detach().numpy()
    column = data.schema.columns[0]
    z = (data.values[:, 0] - column.mean) / column.sd
    edges = coding.edges[0].numpy()
    heights = np.concatenate([np.zeros((1, 16)), net.bins[0].detach().numpy().cumsum(0)])
    inside = np.stack([np.interp(z, edges, heights[:, k]) for k in range(16)], 1)
    wanted = inside + z[:, None] * net.linear[0].detach().numpy() + net.offset[0].detach().numpy()
    known = ~np.isnan(z)
    np.testing.assert_allclose(e[known], wanted[known], atol=1e-4)
    np.testing.assert_array_equal(e[~known], np.zeros((8, 16), np.float32))


def test_a_value_that_most_rows_have_leaves_bins_to_the_others():
    x = np.r_[np.zeros(950), np.linspace(1.0, 9.0, 50)]
    data = ppl.read(pd.DataFrame({"x": x}))
    assert len(CellCoding(data.schema, [0], data.values).edges[0].unique()) > 20


def test_labels_and_missing_labels_have_embeddings_of_their_own(coded):
    data, coding = coded
    codes = coding.rows(data.values).codes[:, 0].numpy()
    cells = data.values[:, 1]
    np.testing.assert_array_equal(codes, np.where(np.isnan(cells), 3, cells))


def test_numbers_go_on_beyond_the_outer_bins(coded):
    data, coding = coded
    torch.manual_seed(0)
    net = CellEmbedding(coding)
    torch.nn.init.normal_(net.bins)
    far = np.array([[1e3, 0.0], [2e3, 0.0], [3e3, 0.0]])
    e = net(coding.rows(far))[:, :16]
    torch.testing.assert_close(e[2] - e[1], e[1] - e[0], rtol=1e-3, atol=1e-2)


def test_a_member_is_a_dense_layer_with_a_matrix_scaled_on_both_sides():
    torch.manual_seed(0)
    layer = MemberLinear(5, 4, 3, signs=True)
    torch.nn.init.normal_(layer.s)
    x = torch.randn(7, 5)
    found = layer(x[:, None])
    for m in range(3):
        own = layer.weight * layer.s[m][:, None] * layer.r[m]
        torch.testing.assert_close(found[:, m], x @ own.T + layer.bias[m])
    assert set(layer.r.detach().unique().tolist()) == {-1.0, 1.0}


def test_one_member_has_no_factors(coded):
    names = [name for name, _ in Tabular(coded[1], (8,), 4, 1, 0.0).named_parameters()]
    assert not [name for name in names if name.endswith((".r", ".s"))]


def test_a_shift_moves_whole_images_and_draws_their_edges_out():
    torch.manual_seed(0)
    x = torch.randn(6, 2, 5, 4)
    moved = Shifts(1)(Images(x)).x
    for image, found in zip(x, moved, strict=True):
        padded = torch.nn.functional.pad(image[None], (1, 1, 1, 1), mode="replicate")[0]
        possible = [padded[:, i : i + 5, j : j + 4] for i in range(3) for j in range(3)]
        assert any(torch.equal(found, each) for each in possible)
    signal = torch.randn(3, 1, 1, 9)
    assert Shifts(4)(Images(signal)).x.shape == signal.shape


@pytest.mark.parametrize("shape", [(1, 28, 28), (3, 64, 64), (1, 1, 40), (1, 1, 2), (2, 5, 40)])
def test_images_and_signals_of_any_size_become_features(shape):
    net = Convolutional(shape, 7, 2, 0.0)
    assert net(Images(torch.randn(3, *shape))).shape == (3, 2, 7)


@pytest.mark.parametrize("steps", [False, True])
def test_padding_is_not_seen(steps):
    torch.manual_seed(0)
    net = Recurrent(3, 4, 1, 5, 1, 6, 2, 0.0, steps).eval()
    length = torch.tensor([7, 2, 4])
    x, codes = torch.randn(3, 7, 3), torch.randint(0, 4, (3, 7, 1))
    every = Steps(x, codes, length)
    together = net(every)
    noisy = torch.where(every.mask[..., None], x, 99.0)
    torch.testing.assert_close(net(Steps(noisy, codes, length)), together)
    alone = [net(every.at(torch.tensor([i]))) for i in range(3)]
    torch.testing.assert_close(torch.cat(alone), together)


def test_seasons_are_found_where_there_are_some():
    rng = np.random.default_rng(0)
    t = np.arange(300)
    wave = np.sin(2 * np.pi * t / 12) + 0.1 * rng.normal(size=300)
    assert season_of(ppl.read(wave[:, None])) == 12
    assert season_of(ppl.read(rng.normal(size=(300, 2)).cumsum(0))) == 1
    assert season_of(ppl.read(rng.normal(size=(300, 1)))) == 1
    wave[rng.random(300) < 0.3] = np.nan
    assert season_of(ppl.read(wave[:, None])) % 12 == 0


def test_calendar_features_go_on_as_the_dates_do():
    days = pd.date_range("2024-02-27", periods=10, freq="6h").strftime("%Y-%m-%dT%H:%M:%S")
    every = calendar(tuple(days), 10)
    np.testing.assert_allclose(after(every[:6], 4), every[6:], atol=1e-9)
    np.testing.assert_array_equal(calendar(None, 3), np.zeros((3, 6)))
