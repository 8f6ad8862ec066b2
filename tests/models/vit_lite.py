"""The ViTs of MPCViT (arXiv 2211.13955; repository PKU-SEC-Lab/mpcvit), with random weights, in timm's layout.

    vit_lite_7_4_32()  -> (module, example_inputs)    CIFAR: 7 layers, 4 heads, width 256, MLP 512, 65 tokens
    vit_9_12_64()      -> (module, example_inputs)    Tiny-ImageNet: 9 layers, 12 heads, width 192, MLP 384, 257 tokens

Pre-norm, qkv without bias, and the published code's quirk: the second norm is applied to the residual stream itself.
"""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional


class Attention(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width, bias=False)
        self.proj = nn.Linear(width, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        batch, tokens, width = x.shape
        split = self.qkv(x).reshape(batch, tokens, 3, self.heads, width // self.heads).permute(2, 0, 3, 1, 4)
        query, key, value = split.unbind(0)  # [batch, heads, tokens, width / heads]
        logits = query @ key.transpose(-2, -1) * (width // self.heads) ** -0.5
        mixed = logits.softmax(dim=-1) @ value
        return self.proj(mixed.transpose(1, 2).reshape(batch, tokens, width))


class Mlp(nn.Module):
    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(width, hidden)
        self.act = nn.GELU()
        self.fc2 = nn.Linear(hidden, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc2(self.act(self.fc1(x)))


class Block(nn.Module):
    def __init__(self, width: int, heads: int, hidden: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width)
        self.attn = Attention(width, heads)
        self.norm2 = nn.LayerNorm(width)
        self.mlp = Mlp(width, hidden)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.norm2(x + self.attn(self.norm1(x)))
        return x + self.mlp(x)


class PatchEmbed(nn.Module):
    def __init__(self, patch: int, width: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(3, width, patch, patch)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.proj(x).flatten(2).transpose(1, 2)  # [batch, patches, width]


class VisionTransformer(nn.Module):
    def __init__(
        self,
        image: int = 32,
        patch: int = 4,
        width: int = 256,
        depth: int = 7,
        heads: int = 4,
        hidden: int = 512,
        classes: int = 10,
    ) -> None:
        super().__init__()
        self.patch_embed = PatchEmbed(patch, width)
        self.cls_token = nn.Parameter(torch.zeros(1, 1, width))
        self.pos_embed = nn.Parameter(torch.zeros(1, (image // patch) ** 2 + 1, width))
        self.blocks = nn.Sequential(*[Block(width, heads, hidden) for _ in range(depth)])
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.patch_embed(x)
        x = torch.cat([self.cls_token.expand(x.shape[0], -1, -1), x], dim=1) + self.pos_embed
        return self.head(self.norm(self.blocks(x))[:, 0])


@torch.no_grad()
def randomize(model: VisionTransformer, seed: int = 0) -> VisionTransformer:
    """Weights in the ranges of a trained ViT: attention logits of deviation 1.4 to 2, MLP inputs shifted by -0.3."""
    generator = torch.Generator().manual_seed(seed)

    def normal(parameter: torch.Tensor, deviation: float, mean: float = 0.0) -> None:
        parameter.copy_(mean + deviation * torch.randn(parameter.shape, generator=generator))

    for name, module in model.named_modules():
        match module:
            case nn.LayerNorm():
                normal(module.weight, 0.1, mean=1.0)
                normal(module.bias, 0.1)
            case nn.Linear():
                normal(module.weight, module.in_features**-0.5)
                if module.bias is not None:
                    fc1 = name.endswith("fc1")
                    normal(module.bias, 0.1 if fc1 else 0.02, mean=-0.3 if fc1 else 0.0)
                if name.endswith("qkv"):
                    module.weight[: 2 * module.in_features] *= 1.2
            case nn.Conv2d():
                normal(module.weight, module.weight[0].numel() ** -0.5)
                normal(module.bias, 0.02)
    normal(model.cls_token, 0.2)
    normal(model.pos_embed, 0.2)
    return model


def smooth_image(size: int, seed: int = 1, batch: int = 1) -> torch.Tensor:
    """A random image [batch, 3, size, size] whose neighbouring pixels are alike, as in photographs."""
    generator = torch.Generator().manual_seed(seed)
    noise = torch.randn(batch, 3, size, size, generator=generator)
    blurred = functional.conv2d(noise, torch.ones(3, 1, 5, 5) / 25, padding=2, groups=3)
    return (blurred * 4).clamp(-2.2, 2.2)


def vit_lite_7_4_32() -> tuple[VisionTransformer, tuple[torch.Tensor]]:
    """CIFAR's model: 65 tokens of width 256."""
    return randomize(VisionTransformer()).eval(), (smooth_image(32),)


def vit_9_12_64() -> tuple[VisionTransformer, tuple[torch.Tensor]]:
    """Tiny-ImageNet's model: 257 tokens of width 192."""
    model = VisionTransformer(image=64, patch=4, width=192, depth=9, heads=12, hidden=384, classes=200)
    return randomize(model).eval(), (smooth_image(64),)


def vit_tiny() -> tuple[VisionTransformer, tuple[torch.Tensor]]:
    """The same in small, for tests: 17 tokens of width 16, 2 layers, 2 heads."""
    model = VisionTransformer(image=16, patch=4, width=16, depth=2, heads=2, hidden=32)
    return randomize(model).eval(), (smooth_image(16),)
