"""One Conformer layer (arXiv:2005.08100, figure 1): feed-forward, attention, convolution, feed-forward."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from hw_asr.models.normalization import FrameBatchNorm
from hw_asr.models.packing import Packing
from hw_asr.models.rotary import Rotation


class ConformerLayer(nn.Module):
    """Maps rows (N, dim) of real frames to rows (N, dim); each module is added to its input."""

    def __init__(self, dim: int, num_heads: int, ffn_dim: int, kernel_size: int, dropout: float) -> None:
        super().__init__()
        self.first_ffn = FeedForward(dim, ffn_dim, dropout)
        self.attention = SelfAttention(dim, num_heads, dropout)
        self.convolution = ConvolutionModule(dim, kernel_size, dropout)
        self.second_ffn = FeedForward(dim, ffn_dim, dropout)
        self.norm = nn.LayerNorm(dim)

    def forward(self, rows: Tensor, packing: Packing, rotation: Rotation) -> Tensor:
        """Return (N, dim)."""
        rows = rows + 0.5 * self.first_ffn(rows)
        rows = rows + self.attention(rows, packing, rotation)
        rows = rows + self.convolution(rows, packing)
        rows = rows + 0.5 * self.second_ffn(rows)
        output: Tensor = self.norm(rows)
        return output


class FeedForward(nn.Module):
    """Layer norm, linear, SiLU, linear; each frame by itself."""

    def __init__(self, dim: int, hidden: int, dropout: float) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.LayerNorm(dim), nn.Linear(dim, hidden), nn.SiLU(), nn.Dropout(dropout), nn.Linear(hidden, dim),
            nn.Dropout(dropout),
        )  # fmt: skip

    def forward(self, rows: Tensor) -> Tensor:
        """Map (N, dim) to (N, dim)."""
        output: Tensor = self.layers(rows)
        return output


class SelfAttention(nn.Module):
    """Layer norm and multi-head self-attention over the real frames of each utterance, with rotary positions."""

    def __init__(self, dim: int, num_heads: int, dropout: float) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.norm = nn.LayerNorm(dim)
        self.inputs = nn.Linear(dim, 3 * dim)
        self.output = nn.Linear(dim, dim)
        self.dropout = nn.Dropout(dropout)

    def forward(self, rows: Tensor, packing: Packing, rotation: Rotation) -> Tensor:
        """Map (N, dim) to (N, dim)."""
        padded = packing.unpack(self.inputs(self.norm(rows)))  # (B, T, 3 dim)
        heads = padded.view(*padded.shape[:2], 3, self.num_heads, -1)
        query, key, value = heads.permute(2, 0, 3, 1, 4)  # (B, H, T, D) each
        attended = F.scaled_dot_product_attention(
            rotation.apply(query), rotation.apply(key), value, attn_mask=packing.keys_mask()
        )
        output: Tensor = self.dropout(self.output(packing.pack(attended.transpose(1, 2)).flatten(1)))
        return output


class ConvolutionModule(nn.Module):
    """Layer norm, gated pointwise layer, depthwise convolution over time, batch norm, SiLU, pointwise layer."""

    def __init__(self, dim: int, kernel_size: int, dropout: float) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(dim)
        self.gated = nn.Linear(dim, 2 * dim)
        self.depthwise = nn.Conv1d(dim, dim, kernel_size, padding=kernel_size // 2, groups=dim)
        self.batch_norm = FrameBatchNorm(dim)
        self.output = nn.Linear(dim, dim)
        self.dropout = nn.Dropout(dropout)

    def forward(self, rows: Tensor, packing: Packing) -> Tensor:
        """Map (N, dim) to (N, dim)."""
        padded = packing.unpack(F.glu(self.gated(self.norm(rows)), dim=1))  # zero beyond each length
        image = padded.transpose(1, 2)[:, :, None]  # (B, dim, 1, T): in two dimensions torch needs no copies
        kernel, edge = self.depthwise.weight[:, :, None], (0, self.depthwise.kernel_size[0] // 2)
        image = F.conv2d(image, kernel, self.depthwise.bias, padding=edge, groups=image.shape[1])
        rows = packing.pack(image[:, :, 0].transpose(1, 2))
        output: Tensor = self.dropout(self.output(F.silu(self.batch_norm(rows))))
        return output
