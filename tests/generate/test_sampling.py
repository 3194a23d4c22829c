"""Draws follow the exact distribution, belong to their own seed, and carry the log-prob before any cut."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from torch import Tensor

from palmier.errors import Refusal
from palmier.generate import sampling as sampling_module
from palmier.generate.sampling import Rows, sample, sample_seed, uniforms
from palmier.records import Sampling

VOCAB = 40
DRAWS = 100_000


PROMPT, ANSWER = (3, 3, 4, 17), (5, 5, 5, 17, 9)


def exact_distribution(logits_V: Tensor, sampling: Sampling) -> np.ndarray:
    """The slow, obvious way, in float64: one token after the other, then sort, the k best, the nucleus, min-p."""
    logits = [float(logit) for logit in logits_V.double()]
    for token, bias in sampling.logit_bias:
        logits[token] += bias
    for token in set(PROMPT + ANSWER):
        logits[token] *= 1 / sampling.repetition_penalty if logits[token] > 0 else sampling.repetition_penalty
    for token in set(ANSWER):
        logits[token] -= sampling.presence_penalty + sampling.frequency_penalty * ANSWER.count(token)
    scaled = torch.tensor(logits, dtype=torch.float64) / sampling.temperature
    probability = torch.softmax(scaled, dim=-1).tolist()
    best = max(probability)
    order = sorted(range(len(probability)), key=lambda i: -probability[i])
    if sampling.top_k:
        floor = probability[order[min(sampling.top_k, len(order)) - 1]]
        probability = [p if p >= floor else 0.0 for p in probability]
    total, mass = sum(probability), 0.0
    for i in order:
        mass += probability[i]
        if mass >= sampling.top_p * total:
            probability = [p if p >= probability[i] else 0.0 for p in probability]
            break
    probability = [p if p >= sampling.min_p * best else 0.0 for p in probability]
    return np.array(probability) / sum(probability)


def draw(logits_V: Tensor, sampling: Sampling, draws: int = DRAWS) -> tuple[np.ndarray, Tensor]:
    """Draw as one row after the other of a batch, each with its own seed."""
    seeds = [sample_seed(sampling.seed, i) for i in range(draws)]
    rows = Rows([sampling] * draws, seeds, [(PROMPT, ANSWER)] * draws)
    tokens_B, logprobs_B, _ = sample(logits_V.expand(draws, -1).contiguous(), rows, [3] * draws)
    return np.bincount(tokens_B.numpy(), minlength=len(logits_V)), logprobs_B


@pytest.fixture(params=["in one block", "in several"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """A vocabulary that is one block, and one of whole blocks and the rest."""
    if request.param == "in several":
        monkeypatch.setattr(sampling_module, "BLOCK", 7)
    return str(request.param)


BIAS = ((2, 1.5), (5, -3.0), (17, 0.5))


MORE = (
    Sampling(1.0),
    Sampling(1.3, seed=2),
    Sampling(1.3, top_k=12, top_p=0.9, min_p=0.05),
    Sampling(1.0, top_k=1000),
    Sampling(1.0, frequency_penalty=-0.4, presence_penalty=-0.3),
    Sampling(0.8, 20, 0.95, 9, 4, 0.02, 1.3, 0.2, 0.3, BIAS),
)


@pytest.mark.parametrize(
    "sampling",
    [
        Sampling(0.5, seed=1),
        Sampling(1.0, top_k=5),
        Sampling(0.8, top_p=0.7),
        Sampling(1.0, min_p=0.2),
        Sampling(1.0, repetition_penalty=1.8),
        Sampling(0.7, presence_penalty=0.9),
        Sampling(1.0, frequency_penalty=0.4),
        Sampling(1.3, logit_bias=BIAS),
        *MORE,
    ],
    ids=lambda s: "-".join(f"{k}={v}" for k, v in vars(s).items() if v != getattr(Sampling(), k)) or "plain",
)
@pytest.mark.parametrize("draws", [10_000, pytest.param(DRAWS, marks=pytest.mark.long)])
@pytest.mark.usefixtures("way")
def test_draws_follow_the_exact_distribution(sampling: Sampling, draws: int) -> None:
    logits_V = torch.randn(VOCAB, generator=torch.Generator().manual_seed(5)) * 1.5
    expected = exact_distribution(logits_V, sampling)
    counts, _ = draw(logits_V, sampling, draws)
    assert counts[expected == 0].sum() == 0, "a token was drawn that the cut forbids"
    kept = expected > 0
    assert stats.chisquare(counts[kept], expected[kept] * draws).pvalue > 1e-4


def test_a_draw_seldom_moves_where_the_distribution_moves_a_little() -> None:
    """As bf16's rounding moves it: about as often as the two distributions differ, over a vocabulary of many blocks."""
    generator = torch.Generator().manual_seed(6)
    logits_V = torch.randn(5000, generator=generator) * 2
    moved_V = logits_V + 0.02 * torch.randn(5000, generator=generator)
    differ = float((logits_V.double().softmax(-1) - moved_V.double().softmax(-1)).abs().sum()) / 2
    rows = Rows([Sampling(1.0)] * 4000, list(range(4000)))
    drawn, other = (sample(x_V.expand(4000, -1).contiguous(), rows, [3] * 4000).tokens_B for x_V in (logits_V, moved_V))
    share = float((drawn != other).double().mean())
    assert 0 < share < 3 * differ < 0.05


@pytest.mark.parametrize("penalty", [0.6, 1.0, 1.7])
def test_the_repetition_penalty_is_transformers_own(penalty: float) -> None:
    """Also while the answer grows: the rows count what they draw."""
    processor = pytest.importorskip("transformers").RepetitionPenaltyLogitsProcessor(penalty)
    logits_BV = torch.randn(2, VOCAB, generator=torch.Generator().manual_seed(8)) * 3
    texts = [[3, 3, 4], [0, 8]]
    rows = Rows([Sampling(0, repetition_penalty=penalty)] * 2, [0, 1], [(text, ()) for text in texts])
    for position in range(12):
        tokens_B = sample(logits_BV, rows, [position] * 2).tokens_B
        for row, text in enumerate(texts):
            theirs = processor(torch.tensor([text]), logits_BV[row : row + 1])
            assert tokens_B[row] == theirs.argmax()
            text.append(int(tokens_B[row]))


def test_presence_and_frequency_count_the_answer_alone_while_it_grows() -> None:
    logits_BV = torch.zeros(2, VOCAB)
    logits_BV[:, 7], logits_BV[:, 9], logits_BV[:, 11] = 3.0, 2.5, 1.0
    each = [Sampling(0, presence_penalty=1.0), Sampling(0, frequency_penalty=1.0)]
    rows = Rows(each, [0, 0], [((7, 7, 7), ())] * 2)
    drawn = [sample(logits_BV, rows, [i, i]).tokens_B.tolist() for i in range(6)]
    # 3.0 2.5 1.0: presence lowers each once; frequency again and again.
    assert [one[0] for one in drawn] == [7, 9, 7, 7, 7, 7]
    assert [one[1] for one in drawn] == [7, 9, 7, 9, 7, 11]


def test_the_likeliest_tokens_are_told_with_their_logprobs() -> None:
    logits_BV = torch.randn(3, VOCAB, generator=torch.Generator().manual_seed(8)) * 3
    bent = Sampling(0.7, min_p=0.5, logit_bias=((4, 50.0),), seed=2)
    rows = Rows([Sampling(1.3), bent, Sampling(0)], [1, 2, 3], tops=[0, 5, 99])
    drawn = sample(logits_BV, rows, [0] * 3)
    assert drawn.top[0] == ()
    assert drawn.tokens_B[1] == 4, "the bias forces it"
    for row, count, temperature in ((1, 5, 0.7), (2, VOCAB, 1.0)):
        expected = torch.log_softmax(logits_BV[row].double() / temperature, -1).sort(descending=True)
        assert [token for token, _ in drawn.top[row]] == expected.indices[:count].tolist()
        assert [value for _, value in drawn.top[row]] == pytest.approx(expected.values[:count].tolist(), abs=2e-6)
    own = torch.log_softmax(logits_BV[1].double() / 0.7, -1)[4]
    assert drawn.logprobs_B[1] == pytest.approx(float(own), abs=1e-5), "told before the bias"


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    temperature=st.sampled_from([0.3, 1.0, 2.0]),
    top_k=st.integers(0, 150),
    top_p=st.sampled_from([1.0, 0.99, 0.9, 0.5, 1e-6]),
    coarse=st.booleans(),
)
def test_the_cut_keeps_the_exact_set(seed: int, temperature: float, top_k: int, top_p: float, coarse: bool) -> None:
    """Every token that may be drawn is drawn and no other: 2000 draws hit only the kept set, ties and all."""
    generator = torch.Generator().manual_seed(seed)
    logits_V = torch.randn(120, generator=generator) * 2
    if coarse:
        logits_V = logits_V.round()
    sampling = Sampling(temperature, top_k, top_p)
    expected = exact_distribution(logits_V, sampling)
    counts, _ = draw(logits_V, sampling, 2000)
    assert counts[expected == 0].sum() == 0
    assert (counts[expected > 0.01] > 0).all()


def test_a_wide_nucleus_is_whole() -> None:
    """Hundreds of tokens of nearly equal weight."""
    for top_p in (0.5, 0.9):
        counts, _ = draw(torch.linspace(0, 0.01, 700), Sampling(1.0, top_p=top_p), 16_000)
        edge = round(700 * (1 - top_p))
        assert (counts[edge + 3 :] > 0).all()
        assert counts[: edge - 3].sum() == 0


@pytest.mark.parametrize("temperature", [0.5, 1.0, 1.3])
@pytest.mark.parametrize("cut", [{}, {"top_k": 3}, {"top_p": 0.5}])
def test_logprob_is_the_tempered_one_before_any_cut(temperature: float, cut: dict[str, float]) -> None:
    logits_BV = torch.randn(64, VOCAB, generator=torch.Generator().manual_seed(1)) * 3
    rows = Rows([Sampling(temperature, **cut)] * 64, list(range(64)))  # type: ignore[arg-type]  # one of two fields
    tokens_B, logprobs_B, _ = sample(logits_BV, rows, [0] * 64)
    expected_B = torch.log_softmax(logits_BV / temperature, dim=-1).gather(1, tokens_B[:, None])[:, 0]
    torch.testing.assert_close(logprobs_B, expected_B, rtol=0, atol=2e-6)


def test_greedy_rows_take_the_best_with_its_logprob_at_temperature_1() -> None:
    logits_BV = torch.randn(6, VOCAB, generator=torch.Generator().manual_seed(1)) * 3
    mixed = [Sampling(0), Sampling(2.0), Sampling(0, top_k=2), Sampling(0.1), Sampling(0, top_p=0.1), Sampling(1)]
    tokens_B, logprobs_B, _ = sample(logits_BV, Rows(mixed, [0] * 6), [0] * 6)
    alone_B, alone_logprobs_B, _ = sample(logits_BV, Rows([Sampling(0)] * 6, [0] * 6), [0] * 6)
    greedy = [0, 2, 4]
    assert torch.equal(tokens_B[greedy], logits_BV.argmax(-1)[greedy])
    assert torch.equal(alone_B, logits_BV.argmax(-1))
    torch.testing.assert_close(alone_logprobs_B, torch.log_softmax(logits_BV, -1).max(-1).values)
    assert torch.equal(logprobs_B[greedy], alone_logprobs_B[greedy])


def test_a_draw_does_not_depend_on_the_company() -> None:
    generator = torch.Generator().manual_seed(3)
    logits_BV = torch.randn(32, VOCAB, generator=generator)
    mixed = [
        Sampling(
            (0, 0.7, 1, 1.4)[i % 4],
            top_k=(0, 4, 0)[i % 3],
            top_p=(1.0, 0.8)[i % 2],
            seed=i * 7,
            min_p=(0, 0.1)[i // 5 % 2],
            repetition_penalty=(1.0, 1.4)[i // 3 % 2],
            frequency_penalty=(0.0, 0.5)[i // 7 % 2],
            logit_bias=((), ((i, 2.0),))[i // 11 % 2],
        )
        for i in range(32)
    ]
    texts = [(range(i % 5), [i] * (i % 3)) for i in range(32)]
    positions = [i % 9 for i in range(32)]
    tokens_B, logprobs_B, _ = sample(logits_BV, Rows(mixed, [s.seed for s in mixed], texts), positions)
    for i in range(32):
        token_1, logprob_1, _ = sample(
            logits_BV[i : i + 1], Rows([mixed[i]], [mixed[i].seed], texts[i : i + 1]), positions[i : i + 1]
        )
        assert token_1.item() == tokens_B[i].item()
        assert logprob_1.item() == pytest.approx(logprobs_B[i].item(), abs=1e-6)


def test_uniforms_are_uniform_and_unrelated_across_seeds_and_positions() -> None:
    seeds = np.arange(300, dtype=np.uint64)
    positions = np.arange(300, dtype=np.uint64)
    whole = np.stack([uniforms(seeds, np.full_like(seeds, p), 3) for p in positions])
    assert 0 < whole.min() <= whole.max() < 1
    assert abs(np.corrcoef(whole[..., 0].ravel(), whole[..., 2].ravel())[0, 1]) < 0.015
    grid = whole[..., 0]
    assert stats.kstest(grid.ravel(), "uniform").pvalue > 1e-3
    assert len(np.unique(grid)) == grid.size
    for one, other in ((grid[:, :-1], grid[:, 1:]), (grid[:-1], grid[1:])):
        assert abs(np.corrcoef(one.ravel(), other.ravel())[0, 1]) < 0.015


def test_sample_seeds_differ_survive_json_in_a_browser_and_begin_with_the_seed_itself() -> None:
    seeds = {sample_seed(seed, index) for seed in range(200) for index in range(1, 50)}
    assert len(seeds) == 200 * 49
    assert all(0 <= seed < 2**53 for seed in seeds)
    assert sample_seed(17, 0) == 17
    assert sample_seed(-1, 3) == sample_seed(2**64 - 1, 3)


def test_logits_that_are_not_finite_are_refused() -> None:
    for bad in (float("nan"), float("inf")):
        logits_BV = torch.zeros(2, VOCAB)
        logits_BV[1, 7] = bad
        for sampling in (Sampling(0), Sampling(1), Sampling(1, top_p=0.9)):
            with pytest.raises(Refusal, match="not finite"):
                sample(logits_BV.clone(), Rows([sampling] * 2, [1, 2]), [0, 0])


def test_a_temperature_close_to_zero_is_greedy() -> None:
    logits_BV = torch.randn(8, VOCAB, generator=torch.Generator().manual_seed(3)) * 10
    tokens_B, _, _ = sample(logits_BV, Rows([Sampling(1e-30)] * 8, list(range(8))), [0] * 8)
    assert torch.equal(tokens_B, logits_BV.argmax(-1))
