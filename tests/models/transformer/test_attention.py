"""The network: causal, its heads over one field each, and its cache against computing everything again."""

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from ppl_models.inference.muon import Muon, orthogonal
from ppl_models.models.transformer.drawing import Temper
from ppl_models.networks.attention import Transformer

pytestmark = pytest.mark.usefixtures("one_thread")
SIZES = (3, 5, 2)


def network(sizes=SIZES, width=16, layers=2, context=24, smooth=None, heads=2):
    torch.manual_seed(0)
    net = Transformer(sizes, width, layers, heads, context, smooth=smooth)
    for p in net.parameters():  # blocks are the identity at first
        p.data.normal_(0, 0.3)
    return net.eval().requires_grad_(False)


def places(net, rows, length):
    field = torch.randint(len(net.sizes), (rows, length))
    starts = torch.tensor(net.starts)
    value = starts[field] + (torch.rand(rows, length) * torch.tensor(net.sizes)[field]).long()
    before = torch.cat([torch.full((rows, 1), net.begin), value[:, :-1]], 1)
    return before, field, value


def test_a_place_depends_on_what_came_before_it_alone():
    net = network()
    before, field, _ = places(net, 2, 9)
    h = net(before, field, net.vectors())
    other = before.clone()
    other[:, 5:] = 1
    changed = net(other, field, net.vectors())
    torch.testing.assert_close(changed[:, :5], h[:, :5])
    assert (changed[:, 5:] - h[:, 5:]).abs().amax() > 1e-3


def test_a_head_is_the_softmax_over_its_field_alone():
    smooth = torch.tensor([torch.nan] * 3 + [0.1, 0.3, 0.5, 0.7, 0.9] + [torch.nan] * 2)
    net = network(smooth=smooth)
    before, field, value = places(net, 4, 6)
    vectors = net.vectors()
    h = net(before, field, vectors).flatten(0, 1)
    found = net.log_prob(h, field.flatten(), value.flatten(), vectors)
    every = h @ vectors[:-1].mT + net.bias  # bare: all values, those of other fields masked
    own = torch.repeat_interleave(torch.arange(3), torch.tensor(SIZES))
    masked = every.masked_fill(own != field.flatten()[:, None], -torch.inf)
    torch.testing.assert_close(found, masked.log_softmax(1).gather(1, value.flatten()[:, None])[:, 0])
    angle = torch.pi * torch.arange(1, 9) * 0.3
    along = (angle.cos() / torch.arange(1, 9)) @ net.harmonic[8:16]
    torch.testing.assert_close(vectors[4], net.value[4] + along, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("pieces", [(24,), (1,) * 24, (7, 1, 1, 9, 6)])
def test_the_cache_is_what_computing_everything_again_gives(pieces):
    net = network()
    before, field, _ = places(net, 3, 24)
    whole = net(before, field, net.vectors())
    cache, found = net.cache(3, 24), []
    for b, f in zip(before.split(pieces, 1), field.split(pieces, 1), strict=True):
        found.append(net(b, f, net.vectors(), cache))
    assert (torch.cat(found, 1) - whole).abs().max() < 1e-5
    twice = net(
        before[:, :1].repeat(2, 1), field[:, :1].repeat(2, 1), net.vectors(), net.cache(3, 9).repeated(2)
    )
    torch.testing.assert_close(twice, whole[:, :1].repeat(2, 1, 1))


def operations(call):
    """Multiplications and additions of a call, and what it gives."""
    with FlopCounterMode(display=False) as counter:
        found = call()
    return counter.get_total_flops(), found


def test_the_cache_saves_all_but_a_tenth_of_the_work_at_a_thousand_values():
    net = network(width=64, context=1_001, heads=4)
    before, field, _ = places(net, 1, 1_001)
    vectors, cache = net.vectors(), net.cache(1, 1_001)
    net(before[:, :1_000], field[:, :1_000], vectors, cache)
    all_of_it, whole = operations(lambda: net(before, field, vectors))
    one, cached = operations(lambda: net(before[:, 1_000:], field[:, 1_000:], vectors, cache))
    assert (cached - whole[:, -1:]).abs().max() < 1e-5
    assert 0 < 10 * one < all_of_it


def test_muon_takes_the_steps_of_torch():
    torch.manual_seed(0)
    start = [torch.randn(6, 4), torch.randn(3, 5), torch.randn(4)]
    mine, theirs = ([torch.nn.Parameter(w.clone()) for w in start] for _ in range(2))
    own = Muon(mine, mine[:2], lr=0.01)
    peers = [
        torch.optim.Muon(
            theirs[:2], lr=0.01, weight_decay=0.0, momentum=0.95, adjust_lr_fn="match_rms_adamw"
        ),
        torch.optim.Adam(theirs[2:], lr=0.01, betas=(0.9, 0.95)),
    ]
    for _ in range(3):
        for a, b in zip(mine, theirs, strict=True):
            a.grad = torch.randn_like(a)
            b.grad = a.grad.clone()
        own.step()
        for peer in peers:
            peer.step()
    for a, b, w in zip(mine, theirs, start, strict=True):
        assert (a - w).abs().max() > 0.005
        assert (
            (a - b).norm() / (a - w).norm()
        ) < 0.2  # torch's momentum is an average, and its products bfloat16


def test_orthogonal_has_the_directions_and_singular_values_of_about_one():
    x = torch.randn(12, 7, generator=torch.Generator().manual_seed(1)).double()
    u, _, v = torch.linalg.svd(x, full_matrices=False)
    inside = u.mT @ orthogonal(x) @ v.mT
    assert inside.diagonal().min() > 0.65
    assert inside.diagonal().max() < 1.25
    assert (inside - inside.diagonal().diag()).abs().max() < 1e-6


def test_temperature_and_top_p_draw_what_they_say():
    torch.manual_seed(0)
    logits = torch.tensor([0.5, 0.3, 0.15, 0.05]).log().expand(20_000, -1)
    for temper, wanted in [
        (Temper(), [0.5, 0.3, 0.15, 0.05]),
        (Temper(0.5), [0.25, 0.09, 0.0225, 0.0025]),
        (Temper(top_p=0.7), [0.5, 0.3, 0, 0]),
        (Temper(top_p=0.5), [1, 0, 0, 0]),
        (Temper(0), [1, 0, 0, 0]),
    ]:
        share = torch.bincount(temper.draw(logits), minlength=4) / len(logits)
        wanted = torch.tensor(wanted) / sum(wanted)
        assert ((share - wanted).abs() <= 4 * (wanted * (1 - wanted) / len(logits)).sqrt()).all(), temper
