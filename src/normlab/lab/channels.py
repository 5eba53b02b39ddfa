"""How many channels each norm of a network has, worked out without building it, so that a config can be checked."""


def densenet_channels(depth: int, growth: int) -> tuple[int, ...]:
    """Channels of every norm of a DenseNet-BC: of each layer before its 1 × 1 and its 3 × 3 convolution, of each
    transition, and of the last.

    Example:
        >>> densenet_channels(10, 12)
        (24, 48, 36, 18, 48, 30, 15, 48, 27)
    """
    channels, found = 2 * growth, []
    for block in range(3):
        for _ in range((depth - 4) // 6):
            found += [channels, 4 * growth]
            channels += growth
        found.append(channels)
        if block < 2:
            channels //= 2
    return tuple(found)


def norm_channels(kind: str, depth: int, width: int, growth: int) -> tuple[int, ...]:
    """Channels of the norms of that kind of network, the input's own aside; empty for a network of the user's.

    Example:
        >>> norm_channels("resnet", 20, 16, 12)
        (16, 32, 64)
    """
    match kind:
        case "resnet":
            return width, 2 * width, 4 * width
        case "lenet":
            return width, 2 * width
        case "densenet":
            return densenet_channels(depth, growth)
        case "volumes":
            return tuple(width << layer for layer in range(depth))
        case "own":
            return ()
        case _:
            return (width,)
