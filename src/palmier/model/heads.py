"""A scalar head on the decoder's body: reward model and value model."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from palmier.model.decoder import Decoder


class RewardModel(nn.Module):
    """One number a position: ``score.weight`` (1, D) on the hidden states of a decoder's body.

    Shares the decoder's own tensors (its output head is left aside); the names are those of
    Hugging Face's sequence classification: ``model.…`` and ``score.weight``. The head stays in fp32.
    """

    def __init__(self, decoder: Decoder) -> None:
        super().__init__()
        self.config = decoder.config
        self.model = decoder.model
        self.score = nn.Linear(decoder.config.hidden_size, 1, bias=False, device="meta")

    @classmethod
    def from_decoder(cls, decoder: Decoder, seed: int) -> RewardModel:
        """A reward model on ``decoder``'s tensors with a fresh head, N(0, 1 / (D + 1)) (Stiennon et al. 2020)."""
        model = cls(decoder)
        model.score.to_empty(device=decoder.model.embed_tokens.weight.device)
        generator = torch.Generator().manual_seed(seed)
        draw = torch.randn(1, decoder.config.hidden_size, generator=generator) / (decoder.config.hidden_size + 1) ** 0.5
        with torch.no_grad():
            model.score.weight.copy_(draw)
        return model

    def values(
        self, tokens_BT: Tensor, positions_BT: Tensor | None = None, *, segments_BT: Tensor | None = None
    ) -> Tensor:
        """fp32 values (B, T): at each place what the tokens up to and with it are worth."""
        hidden_BTD = self.model(tokens_BT, positions_BT, segments_BT=segments_BT)
        return self._head(hidden_BTD)

    def scores(
        self,
        tokens_BT: Tensor,
        last_B: Tensor,
        positions_BT: Tensor | None = None,
        *,
        segments_BT: Tensor | None = None,
    ) -> Tensor:
        """fp32 scores (B,): the value at index ``last_B``, the last token that is no padding."""
        hidden_BTD = self.model(tokens_BT, positions_BT, segments_BT=segments_BT)
        rows = torch.arange(tokens_BT.shape[0], device=tokens_BT.device)
        return self._head(hidden_BTD[rows, last_B])

    def forward(self, tokens_BT: Tensor, positions_BT: Tensor | None = None) -> Tensor:
        """The same as ``values``."""
        return self.values(tokens_BT, positions_BT)

    def _head(self, hidden: Tensor) -> Tensor:
        # A product and a sum in fp32: as bf16 the score would have three digits.
        return (hidden.float() * self.score.weight.float().squeeze(0)).sum(-1)
