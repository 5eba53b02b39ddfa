"""The shapes that are measured: derived from the architectures, or those of models and recipes in use."""

Shape = tuple[int, ...]

BATCH, SIDE = 32, 224
# He et al. 2015, table 1: bottlenecks of each stage, and the channels between their convolutions
RESNET50 = ((3, 64), (4, 128), (6, 256), (3, 512))
WIDER = 4  # a bottleneck's output against what is between its convolutions
# Huang et al. 2017, table 1: dense layers of each block
DENSENET121 = (6, 12, 24, 16)
START, GROWTH = 64, 32
BETWEEN = 4 * GROWTH  # channels between the two convolutions of a dense layer


def resnet50(batch: int = BATCH, side: int = SIDE) -> tuple[Shape, ...]:
    """Every distinct input of a batch norm of ResNet-50, in the order of the forward pass.

    The stem halves the side twice, a convolution and a pool; each stage but the first halves it once more, in the
    second convolution of its first bottleneck (as torchvision does), so that its first norm still sees the larger side.

    Example:
        >>> resnet50()[:3], len(resnet50())
        (((32, 64, 112, 112), (32, 64, 56, 56), (32, 256, 56, 56)), 12)
    """
    seen = [(batch, 64, side // 2, side // 2)]
    before = side // 4
    for stage, (bottlenecks, between) in enumerate(RESNET50):
        after = before if stage == 0 else before // 2
        for number in range(bottlenecks):
            first = before if number == 0 else after
            seen += [(batch, between, first, first), (batch, between, after, after)]
            seen.append((batch, WIDER * between, after, after))  # of the shortcut as well
        before = after
    return tuple(dict.fromkeys(seen))


def resnet50_sums(batch: int = BATCH, side: int = SIDE) -> tuple[Shape, ...]:
    """Of those, what the shortcut is added to: the last norm of a bottleneck, once a stage.

    Example:
        >>> resnet50_sums()[1:3]
        ((32, 512, 28, 28), (32, 1024, 14, 14))
    """
    sides = [side // 4 >> stage for stage in range(len(RESNET50))]
    return tuple((batch, WIDER * between, at, at) for (_, between), at in zip(RESNET50, sides, strict=True))


def densenet121(batch: int = BATCH, side: int = SIDE) -> tuple[Shape, ...]:
    """Every distinct input of a batch norm of DenseNet-121, in the order of the forward pass.

    A dense layer normalizes all channels before it, then its 128 between the convolutions; a transition normalizes
    all channels of its block, and halves them and the side.

    Example:
        >>> densenet121()[-1], len(densenet121())
        ((32, 1024, 7, 7), 65)
    """
    seen = [(batch, START, side // 2, side // 2)]
    channels, side = START, side // 4
    for block, layers in enumerate(DENSENET121):
        for _ in range(layers):
            seen += [(batch, channels, side, side), (batch, BETWEEN, side, side)]
            channels += GROWTH
        seen.append((batch, channels, side, side))  # of the transition, or of the end
        if block < len(DENSENET121) - 1:
            channels, side = channels // 2, side // 2
    return tuple(dict.fromkeys(seen))


# Dosovitskiy et al. 2021, table 1, patches of 16: all 25 norms of a ViT-B see this
VIT_B = ((BATCH, (SIDE // 16) ** 2 + 1, 768),)
# (batch, tokens, width) of TinyLlama, Llama-2 7B, the same with a larger batch and at decoding, Llama-2 13B; and the
# 32 heads of 128 that Qwen3 normalizes one by one
LLAMA = ((4, 512, 2048), (1, 2048, 4096), (2, 2048, 4096), (16, 1, 4096), (1, 2048, 5120), (1, 2048, 32, 128))
# Rombach et al. 2022 (Stable Diffusion 1), latents of 64 × 64, batch 4, 32 groups: on the way down, then joined on the
# way up
DIFFUSION = (
    (4, 320, 64, 64), (4, 640, 32, 32), (4, 1280, 16, 16), (4, 1280, 8, 8), (4, 2560, 16, 16), (4, 1920, 32, 32),
    (4, 960, 64, 64),
)  # fmt: skip
DIFFUSION_GROUPS = 32
# Johnson et al. 2016 (style transfer) on images of 256 × 256; Isensee et al. 2021 (nnU-Net) on patches of 128³ and 64³
INSTANCE = ((4, 32, 256, 256), (4, 64, 128, 128), (4, 128, 64, 64), (2, 32, 64, 64, 64), (2, 256, 8, 8, 8))
# what the recipes of the lab normalize: units of `deep-tanh`, `population` and `batch-size`, and small ones beside them
LAB_UNITS = ((8, 16), (64, 32), (64, 64), (128, 64), (2, 100), (50, 100), (200, 100))
# LeNet, ResNet-20, DenseNet-22 and the volumes
LAB_IMAGES = (
    (64, 32, 8, 8), (64, 64, 4, 4), (128, 16, 8, 8), (128, 32, 4, 4), (128, 64, 2, 2), (64, 24, 8, 8), (64, 48, 8, 8),
    (8, 8, 16, 16, 16), (8, 32, 4, 4, 4),
)  # fmt: skip
